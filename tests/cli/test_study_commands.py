"""``diffnmf compare`` and ``diffnmf reproduce`` on the command line."""

import re

import pytest
from typer.testing import CliRunner

from diffnmf.cli import app
from diffnmf.lock import locked
from diffnmf.studies.paper import STUDIES

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = [
    *("--dataset", "digits", "--k", "3", "--group-size", "10", "--width", "8", "--epochs", "1"),
    *("--limit-groups", "2", "--limit-test-groups", "1"),
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_compare_trains_and_then_compares_the_runs(empty_folder):
    trained = invoke("compare", *TINY, "--rows", "fc,exact", "--seeds", "1", "--output", "out")
    assert trained.exit_code == 0, trained.output
    assert "| exact NNLS | 1 |" in trained.stdout
    assert trained.stdout.splitlines()[-1] == "out"
    said = trained.stderr.splitlines()
    assert said[0] == "results: out"
    assert said.count("results: out") == 1
    again = invoke("compare", "out/runs/fc-seed0", "out/runs/exact-seed0", "--output", "chosen")
    assert again.exit_code == 0, again.output
    assert (empty_folder / "chosen" / "comparison.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "nowhere", "--output", "out"], "nowhere"),
        (["compare", "a", "--k", "3", "--output", "out"], "runs: expected no options of a training .*; got --k"),
        (["compare", "--frontier", "--seeds", "7", "--output", "out"], "frontier: expected no options .*; got --seeds"),
        (["compare", "--accuracy", "--rows", "x", "--output", "out"], "accuracy: expected no options .*; got --rows"),
        (["compare", "a", "--frontier", "--preset", "quick", "--output", "out"], "frontier: .*; got --preset"),
        (["compare", "--rows", "fc,x", "--output", "out"], "rows: expected one of"),
        (["compare", "--preset", "x", "--output", "out"], "preset: expected one of"),
        (["reproduce", "--preset", "x", "--output", "out"], "preset: expected one of paper, smoke; got 'x'"),
        (["reproduce", "--k", "a,b", "--output", "out"], "k: expected integers with commas"),
        (["reproduce", "--datasets", "x", "--output", "out"], "x"),
    ],
)
def test_a_slip_costs_one_line_and_nothing_else(arguments, message, empty_folder):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr)


def test_reproduce_takes_data_sets_one_after_the_other(monkeypatch):
    asked = {}

    def reproduce(study, output, **options):
        asked.update(study=study, output=output, **options)
        return output / "report.html"

    monkeypatch.setattr("diffnmf.cli.study_commands.reproduce", reproduce)
    result = invoke(
        "reproduce", "--datasets", "mnist", "fashion", "--seeds", "2", "--k", "30,10", "--report-only", "--output", "o"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "o/report.html"
    study = asked["study"]
    assert (study.datasets, study.seeds, study.ks) == (("mnist", "fashion"), (0, 1), (30, 10))
    assert study.models == STUDIES["paper"].models
    assert asked["report_only"]


@pytest.mark.parametrize("command", [["compare"], ["compare", "--frontier"], ["reproduce"], ["related"]])
def test_two_at_once_in_one_folder(command, empty_folder):
    """Each would write the measurements of the other over."""
    with locked(empty_folder / "out"):
        result = invoke(*command, "--output", "out")
        assert [path.name for path in (empty_folder / "out").iterdir()] == [".lock"]
    assert result.exit_code == 2
    assert re.match(r"Error: out: in use by process \d+ on .* \(wait until it has ended", result.stderr)
