"""The frontier of error against sparsity: rows, resuming, trained runs on it, the command."""

import csv
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from diffnmf.cli import app
from diffnmf.data import GroupSampler, group_matrix
from diffnmf.errors import RunFolderError
from diffnmf.metrics import relative_error
from diffnmf.models import GANUNMF
from diffnmf.runs import DataConfig, RunConfig, RunFolder, run_experiment
from diffnmf.runs.parts import load_run_data
from diffnmf.studies.frontier import COLUMNS, measure_frontier
from diffnmf.studies.gap import Objective, gap_closed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
DATA = DataConfig("digits", group_size=20, limit_test_groups=6)
WEIGHTS = {"sparsity": (1.0, 2.0), "overlap": (0.5,), "closeness": (1.5,)}
RUN = RunConfig().with_options(
    dataset="digits",
    group_size=20,
    k=5,
    width=8,
    epochs=6,
    basis_init="merge",
    adversarial=False,
    reconstruction="relative_to_start",
    sparsity=2.0,
    learning_rate=3e-3,
    limit_test_groups=6,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_experiment(RUN, tmp_path_factory.mktemp("runs") / "sparse", brief=True).folder


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("frontier")
    return output, measure_frontier(DATA, 5, output, runs=[run], weights=WEIGHTS, rounds=30, direct=60)


def test_every_row_is_what_its_name_says(measured):
    _, rows = measured
    assert all(rows[name].keys() >= COLUMNS.keys() for name in rows)
    merge, ordered, hals = (rows[name] for name in ("merge", "merge, ordered slots", "HALS from merge"))
    assert ordered["relative_error"] == pytest.approx(merge["relative_error"], rel=1e-5)
    assert ordered["slot_consistency"] > merge["slot_consistency"] + 0.02
    assert hals["relative_error"] < merge["relative_error"]
    assert hals["hoyer_H"] < rows["sparsity 1"]["hoyer_H"] < rows["sparsity 2"]["hoyer_H"]
    assert hals["relative_error"] < rows["sparsity 2"]["relative_error"]
    assert rows["overlap 0.5"]["part_overlap"] < hals["part_overlap"]
    assert rows["closeness 1.5"]["slot_consistency"] > ordered["slot_consistency"] + 0.02


def test_what_a_loss_could_reach(measured):
    _, rows = measured
    assert rows["direct, relative"]["relative_error"] == pytest.approx(
        rows["HALS from merge"]["relative_error"], rel=0.02
    )
    assert rows["direct, relative"]["relative_error"] < rows["direct, l1"]["relative_error"]
    hoyer = [
        rows[name]["hoyer_H"]
        for name in ("direct, relative", *(f"direct, relative_to_start, sparsity {w}" for w in (1, 2)))
    ]
    assert hoyer == sorted(hoyer)
    assert hoyer[-1] > hoyer[0] + 0.05  # sixty steps are not its end


def test_a_run_is_placed_on_it(measured):
    _, rows = measured
    scores = rows["sparse"]
    assert scores["hoyer_H"] > rows["merge"]["hoyer_H"]
    assert 0.1 < scores["gap_closed"] < 1
    assert math.isnan(scores["beyond_frontier"]) or abs(scores["beyond_frontier"]) < 0.2


def test_weights_of_a_run_count_in_units_of_its_start_or_as_they_are(run):
    data = load_run_data(DATA, seed=0, data_dir=None, device="cpu")
    model = GANUNMF.load(run, weights="generator")
    training = RunFolder.open(run)[1].training
    to_start = Objective.of(training, None)
    Y = group_matrix(data.split.test, data.test_groups[:1])
    H, W = model.generator.start.factors(Y)
    unit = relative_error(Y, H @ W).square().item()
    method, divisor = to_start.of_groups(Y, model)
    assert (method.sparsity, divisor) == pytest.approx((training.sparsity * unit, unit))
    relative = Objective.of(replace(training, reconstruction="relative", sparsity=training.sparsity * unit), None)
    same, divisor = relative.of_groups(Y, model)
    assert (same.sparsity, divisor) == pytest.approx((training.sparsity * unit, 1.0))
    # Groups of one kind of images hardly differ in their errors: one weight for all of them is nearly the same.
    one, each = (gap_closed(model, objective, data, rounds=30) for objective in (relative, to_start))
    assert one == pytest.approx(each, abs=0.1)
    assert Objective.of(replace(training, reconstruction="l1"), None) is None
    assert Objective.of(replace(training, sparsity=0.0), None) is None


def test_more_groups_than_the_images_make_at_once(tmp_path):
    few, many = (
        measure_frontier(replace(DATA, limit_test_groups=count), 5, tmp_path / str(count), weights={}, rounds=1)
        for count in (17, 40)
    )
    data = load_run_data(DATA, seed=0, data_dir=None, device="cpu")
    assert len(GroupSampler(data.split.test, 20)) < 40
    assert few["merge"]["relative_error"] != many["merge"]["relative_error"]
    assert few["merge"]["relative_error"] == pytest.approx(many["merge"]["relative_error"], rel=0.05)


def test_the_files(measured):
    output, rows = measured
    text = (output / "frontier.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in rows)
    with (output / "frontier.csv").open(encoding="utf-8") as file:
        assert [line["row"] for line in csv.DictReader(file)] == list(rows)
    assert (output / "frontier.png").stat().st_size > 10_000
    assert (output / "bases.png").stat().st_size > 10_000
    assert (output / "frontier.html").exists()


def test_it_goes_on_where_it_was_stopped(measured, run, tmp_path):
    output, rows = measured
    content = json.loads((output / "frontier.json").read_text(encoding="utf-8"))
    del content["rows"]["overlap 0.5"]
    content["rows"]["merge"]["ms_a_group"] = 12345.0  # not measured again
    (tmp_path / "frontier.json").write_text(json.dumps(content), encoding="utf-8")
    told = []
    again = measure_frontier(DATA, 5, tmp_path, runs=[run], weights=WEIGHTS, rounds=30, announce=told.append)
    assert [line.split(" (")[0] for line in told] == ["measuring overlap 0.5", "scoring sparse"]
    assert again["merge"]["ms_a_group"] == 12345.0
    assert again["overlap 0.5"]["hoyer_H"] == pytest.approx(rows["overlap 0.5"]["hoyer_H"])
    with pytest.raises(RunFolderError, match="other settings: k is 4 here and was 5"):
        measure_frontier(DATA, 4, tmp_path, weights=WEIGHTS, rounds=30)
    with pytest.raises(RunFolderError, match="expected a run with k = 4; got k = 5"):
        measure_frontier(DATA, 4, tmp_path / "other", runs=[run])
    for damaged in ([], {**content, "rows": {"merge": {}}}, {**content, "rows": {"merge": 3}}):
        (tmp_path / "frontier.json").write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(RunFolderError, match=r"frontier\.json: not the measurements of a frontier"):
            measure_frontier(DATA, 5, tmp_path, weights=WEIGHTS, rounds=30)


def test_runs_of_one_name_are_rows_of_their_own(run, tmp_path, monkeypatch):
    first, second = (shutil.copytree(run, tmp_path / folder / "run") for folder in ("first", "second"))
    weights = load_file(second / "generator.safetensors")
    save_file({name: 0.5 * tensor for name, tensor in weights.items()}, second / "generator.safetensors")
    shutil.copytree(run, tmp_path / "merge")
    monkeypatch.chdir(tmp_path)
    runs = [first, second, "merge", run]
    rows = measure_frontier(DATA, 5, tmp_path / "out", runs=runs, weights={}, rounds=1)
    assert list(rows)[-4:] == [str(first), str(second), str(tmp_path / "merge"), "sparse"]
    assert rows[str(first)]["relative_error"] == rows["sparse"]["relative_error"]
    assert rows[str(second)]["relative_error"] != rows["sparse"]["relative_error"]
    with pytest.raises(ValueError, match="runs: expected every run once"):
        measure_frontier(DATA, 5, tmp_path / "twice", runs=[run, run], weights={}, rounds=1)


def test_a_run_on_other_groups_is_refused_before_anything_is_measured(run, tmp_path):
    for other in (replace(DATA, group_size=10), replace(DATA, resize=(6, 6))):
        with pytest.raises(RunFolderError, match=r"sparse: expected a run on groups of .* got 20 images of 8×8"):
            measure_frontier(other, 5, tmp_path, runs=[run])
    assert list(tmp_path.iterdir()) == []


def test_rows_of_other_settings_are_not_taken_for_these(tmp_path):
    def measure(data=DATA, **options):
        return measure_frontier(data, 5, tmp_path, weights={}, rounds=1, **options)

    once = measure(direct=2)
    assert measure() == {name: scores for name, scores in once.items() if not name.startswith("direct")}
    with pytest.raises(RunFolderError, match="other settings: direct is 3 here and was 2"):
        measure(direct=3)
    assert measure(direct=2) == once
    for other, message in (({"limit_groups": 4}, "limit_groups is 4"), ({"resize": (6, 6)}, r"resize is \[6, 6\]")):
        with pytest.raises(RunFolderError, match=f"{message} here and was None"):
            measure(replace(DATA, **other))
    # A file from before these were written down is taken on trust.
    content = json.loads((tmp_path / "frontier.json").read_text(encoding="utf-8"))
    for name in ("direct", "limit_groups", "resize"):
        del content["settings"][name]
    (tmp_path / "frontier.json").write_text(json.dumps(content), encoding="utf-8")
    assert measure(direct=2) == once


def test_the_command(run, tmp_path):
    result = CliRunner().invoke(app, ["compare", str(run), "--frontier", "--output", str(tmp_path), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "| merge, ordered slots |" in result.output
    assert "| sparse |" in result.output


def test_other_images_under_the_same_name(tmp_path):
    """What was measured on those that were there before does not stand beside what is measured now."""
    random = np.random.default_rng(0)
    config = DataConfig(str(tmp_path / "mine.npy"), group_size=10)
    for _ in range(2):
        np.save(tmp_path / "mine.npy", random.integers(0, 256, (60, 4, 4), dtype=np.uint8))
        if not (tmp_path / "out").exists():
            measure_frontier(config, 2, tmp_path / "out", weights={"overlap": (1.0,)}, rounds=2)
    with pytest.raises(
        RunFolderError, match=r"frontier\.json: was measured with other settings: images is '\w{16}' here"
    ):
        measure_frontier(config, 2, tmp_path / "out", weights={"overlap": (1.0,)}, rounds=2)
