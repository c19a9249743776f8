"""The comparison of W-solvers: what is trained, what is written, what is refused."""

import csv
import re
import shutil

import numpy as np
import pytest
import torch

from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.evaluation.agreement import exact_agreement
from diffnmf.models import GANUNMF
from diffnmf.runs import ModelConfig, RunConfig, run_experiment
from diffnmf.studies.w_solvers import compare_runs, compare_w_solvers
from diffnmf.studies.w_solvers.rows import W_SOLVER_ROWS, w_solver_group, w_solver_label

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = ("fc", "exact", "truncated-5", "l1")
CONFIG = RunConfig().with_options(
    dataset="digits", group_size=10, k=4, width=8, critic_width=8, epochs=1, limit_groups=4, limit_test_groups=2
)


@pytest.fixture(scope="module")
def first_call(tmp_path_factory):
    """The folder, the compared runs, and what was said."""
    output, said = tmp_path_factory.mktemp("comparison"), []
    return output, compare_w_solvers(CONFIG, output, rows=ROWS, seeds=(0, 1), announce=said.append), said


@pytest.fixture(scope="module")
def comparison(first_call):
    return first_call[:2]


def test_it_says_how_far_it_is(first_call):
    said = first_call[2]
    for verb in ("training", "scoring"):
        counted = [message for message in said if message.startswith(verb)]
        assert [re.search(r"\((\d of \d)", message)[1] for message in counted] == [f"{i} of 8" for i in range(1, 9)]
        assert "left" not in counted[0]
        assert all(re.search(r", about \d+ (s|min) left\)$", message) for message in counted[1:])


def test_every_row_has_every_seed(comparison):
    _, compared = comparison
    labels = ["fully connected", "exact NNLS", "truncated, 5 steps", "exact NNLS, l1 = 0.5, unit-norm H"]
    assert [(run.row, run.seed) for run in compared] == [(label, seed) for label in labels for seed in (0, 1)]


def test_the_scores_tell_the_solvers_apart(comparison):
    scores = {run.row: run.scores for run in comparison[1]}
    assert scores["exact NNLS"]["kkt_residual"] < 1e-5
    assert scores["exact NNLS, l1 = 0.5, unit-norm H"]["kkt_residual"] < 1e-5  # with its penalty
    assert scores["truncated, 5 steps"]["kkt_residual"] > 1e-4
    assert scores["fully connected"]["kkt_residual"] > 1e-3
    assert all(run["ms_a_step"] > 0 and run["groups"] == 2 for run in scores.values())


def test_what_is_written(comparison):
    output, compared = comparison
    with (output / "comparison.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["hoyer_H"]) for row in rows] == pytest.approx([run.scores["hoyer_H"] for run in compared])
    text = (output / "comparison.md").read_text(encoding="utf-8")
    assert "| exact NNLS | 2 |" in text
    kinds = re.findall(r"^\| [^|]* \| 2 \| ([^|]*) \|", text, flags=re.MULTILINE)
    assert sorted(kinds) == ["approximate W", "exact W", "normalised maps", "unit columns of H"]
    assert "- KKT residual of W: how far" in text
    for name in ("comparison.png", "bases.png"):
        assert f"({name})" in text
        assert (output / name).stat().st_size > 10_000
    html = (output / "comparison.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 2


def test_nothing_is_trained_twice(comparison, tmp_path):
    output = tmp_path / "again"
    shutil.copytree(comparison[0], output)
    said = []
    again = compare_w_solvers(CONFIG, output, rows=ROWS, seeds=(0, 1), announce=said.append)
    assert not any(message.startswith("training") for message in said)
    kept = ("hoyer_H", "column_error", "copying")
    assert [[run.scores[name] for name in kept] for run in again] == [
        [run.scores[name] for name in kept] for run in comparison[1]
    ]


def test_an_interrupted_training_goes_on(comparison, tmp_path):
    """A run without metrics.json was stopped: its last checkpoint is taken up, and the end is the same."""
    output = tmp_path / "again"
    shutil.copytree(comparison[0], output)
    (output / "runs" / "exact-seed1" / "metrics.json").unlink()
    said = []
    again = compare_w_solvers(CONFIG, output, rows=ROWS, seeds=(0, 1), announce=said.append)
    assert [message for message in said if message.startswith("training")] == ["training exact-seed1 (1 of 1)"]
    assert [run.scores["hoyer_H"] for run in again] == [run.scores["hoyer_H"] for run in comparison[1]]


def test_what_is_named_twice_is_there_once(comparison):
    output, compared = comparison
    again = compare_w_solvers(CONFIG, output, rows=(*ROWS, ROWS[0]), seeds=(0, 1, 0))
    assert [run.run for run in again] == [run.run for run in compared]


def test_runs_with_other_options_are_not_taken_for_these(comparison):
    with pytest.raises(RunFolderError, match=r"fc-seed0: was trained with other options: k is 5 here and was 4"):
        compare_w_solvers(CONFIG.with_options(k=5), comparison[0], rows=("fc",), seeds=(0,))


def test_run_folders_are_compared_as_they_are(comparison, tmp_path):
    _, compared = comparison
    runs = [run.run for run in compared[:3]]
    again = compare_runs(runs, tmp_path / "chosen")
    assert [run.row for run in again] == ["fully connected", "fully connected", "exact NNLS"]
    assert again[0].scores["column_error"] == compared[0].scores["column_error"]
    copy = tmp_path / "copy"
    shutil.copytree(runs[2], copy)
    twice = compare_runs([runs[2], copy], tmp_path / "twice")
    assert [run.row for run in twice] == [f"exact NNLS ({runs[2]})", f"exact NNLS ({copy})"]
    with pytest.raises(ValueError, match=r"runs: expected every run once; got .* twice"):
        compare_runs([runs[2], runs[2]], tmp_path / "same")


def test_runs_with_other_options_are_rows_of_their_own(comparison, tmp_path):
    """Same folder names, same W-solver: k tells them apart, and is no seed."""
    other = compare_w_solvers(CONFIG.with_options(k=3), tmp_path / "other", rows=("exact",), seeds=(0,))
    both = compare_runs([comparison[1][2].run, other[0].run], tmp_path / "both")
    assert [run.row for run in both] == ["exact NNLS, k = 4", "exact NNLS, k = 3"]


def test_weights_at_their_bound_are_optimal(tmp_path):
    run = run_experiment(CONFIG.with_options(upper=0.3), tmp_path / "run", brief=True).folder
    (compared,) = compare_runs([run], tmp_path / "out")
    assert compared.scores["kkt_residual"] < 1e-6


def test_an_unfinished_run_is_refused(comparison, tmp_path):
    copy = tmp_path / "my copy"
    shutil.copytree(comparison[1][0].run, copy)
    (copy / "metrics.json").unlink()
    with pytest.raises(RunFolderError, match=r"copy: expected a finished run; .*--resume '.*/my copy'\)$"):
        compare_runs([copy], tmp_path / "out")


def test_a_run_with_another_batch_size_is_not_taken_for_this_one(comparison):
    with pytest.raises(RunFolderError, match=r"batch_size is 8 here and was 4"):
        compare_w_solvers(CONFIG.with_options(batch_size=8), comparison[0], rows=("fc",), seeds=(0,))


def test_options_of_the_w_solver_do_not_leak_into_other_rows(comparison, tmp_path):
    config = CONFIG.with_options(w_steps=5, w_backward="detached", epochs=0)
    compared = compare_w_solvers(config, tmp_path, rows=("fc", "exact"), seeds=(0,))
    assert [run.row for run in compared] == ["fully connected", "exact NNLS"]


def test_a_training_that_diverges_is_left_out(tmp_path, monkeypatch):
    def diverge(config, *args, **kwargs):
        if config.model.w_solver == "fc":
            raise DivergenceError("reconstruction_loss: nan")
        return run_experiment(config, *args, **kwargs)

    monkeypatch.setattr("diffnmf.studies.library.run_experiment", diverge)
    said = []
    compared = compare_w_solvers(CONFIG, tmp_path, rows=("fc", "exact"), seeds=(0,), announce=said.append)
    assert [run.row for run in compared] == ["exact NNLS"]
    assert "fc-seed0: reconstruction_loss: nan" in said
    with pytest.raises(RunFolderError, match="every training diverged"):
        compare_w_solvers(CONFIG, tmp_path / "none", rows=("fc",), seeds=(0,))


def test_runs_on_other_groups_are_refused(comparison, tmp_path):
    _, compared = comparison
    other = compare_w_solvers(CONFIG.with_options(group_size=20), tmp_path, rows=("fc",), seeds=(0,))
    with pytest.raises(ValueError, match=r"runs: expected the same group_size in all; got 10 .* and 20"):
        compare_runs([compared[0].run, other[0].run], tmp_path / "both")
    assert not list((tmp_path / "both").iterdir())
    other = compare_w_solvers(CONFIG.with_options(resize=(6, 6)), tmp_path / "small", rows=("fc",), seeds=(0,))
    with pytest.raises(ValueError, match=r"runs: expected the same resize in all; got None .* and \(6, 6\)"):
        compare_runs([compared[0].run, other[0].run], tmp_path / "both")


@pytest.mark.parametrize(
    ("rows", "seeds", "message"),
    [
        (("fx",), (0,), r"rows: expected one of .*truncated-5.*; got 'fx'"),
        ((), (0,), r"rows: expected at least one"),
        (("fc",), (), r"seeds: expected at least one"),
    ],
)
def test_slips_are_named(rows, seeds, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compare_w_solvers(CONFIG, tmp_path / "none", rows=rows, seeds=seeds)
    assert not (tmp_path / "none").exists()


def test_labels_are_all_different():
    labels = [w_solver_label(ModelConfig(**options)) for options in W_SOLVER_ROWS.values()]
    assert len(set(labels)) == len(labels)
    assert w_solver_label(ModelConfig(w_solver="bpp")) == w_solver_label(ModelConfig(w_solver="unrolled"))


def test_a_row_stands_beside_its_control():
    groups = {row: w_solver_group(ModelConfig(**options)) for row, options in W_SOLVER_ROWS.items()}
    assert groups["fc"] == groups["exact-normalized"] == "normalised maps"
    assert groups["l1"] == groups["unit-norm"] == "unit columns of H"
    assert groups["exact"] == groups["detached"] == groups["cvxpylayer"] == "exact W"
    assert {groups[row] for row in ("truncated-5", "truncated-20", "ls_hals", "cvxpylayer_loose")} == {"approximate W"}


def test_exact_solvers_agree_and_the_loose_one_is_off():
    torch.manual_seed(0)
    rows = {row[0]: row[1:] for row in exact_agreement(GANUNMF((8, 8), 6, 3, width=8), torch.rand(2, 64, 6))}
    for name in ("unrolled", "bpp", "hals"):
        assert max(rows[name][:3]) < 1e-10
    assert max(rows["cvxpylayer"][:3]) < 1e-6
    assert rows["cvxpylayer, loose"][0] > rows["cvxpylayer"][0]


def test_runs_of_images_that_are_others_now(tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", random.integers(0, 256, (60, 4, 4), dtype=np.uint8))
    config = CONFIG.with_options(dataset=str(tmp_path / "mine.npy"), k=2, epochs=0)
    run = run_experiment(config, tmp_path / "run", brief=True).folder
    np.save(tmp_path / "mine.npy", random.integers(0, 256, (60, 4, 4), dtype=np.uint8))
    with pytest.raises(RunFolderError, match=r"expected the images that the run .*run was trained on; those in .*mine"):
        compare_runs([run], tmp_path / "out")
