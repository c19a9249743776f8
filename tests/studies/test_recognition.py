"""Accuracies on reconstructions: rows, resuming, the verdict on the critic, the command."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from diffnmf.cli import app
from diffnmf.errors import RunFolderError
from diffnmf.runs import DataConfig, RunConfig, run_experiment
from diffnmf.studies.recognition import REAL, measure_recognition

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
DATA = DataConfig("digits", group_size=20, limit_test_groups=6)
RUN = RunConfig().with_options(
    dataset="digits", group_size=20, k=5, width=8, critic_width=8, epochs=1, basis_init="merge", limit_test_groups=6
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        run_experiment(RUN.with_options(seed=seed, adversarial=critic), folder / f"{critic}-{seed}", brief=True).folder
        for critic in (True, False)
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def measured(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("recognition")
    return output, measure_recognition(DATA, [5], output, runs=runs)


def test_reconstructions_are_recognised_as_well_as_their_errors_let_expect(measured):
    _, rows = measured
    assert rows[REAL]["accuracy"] > 0.9
    assert rows[REAL]["relative_error"] == 0
    early, late = rows["HALS, 2 rounds, k = 5"], rows["HALS, 64 rounds, k = 5"]
    assert 0.2 < early["accuracy"] < late["accuracy"] < rows[REAL]["accuracy"]
    assert late["at_equal_error"] == pytest.approx(0, abs=1e-12)
    assert rows["merge, k = 5"]["relative_error"] < early["relative_error"]


def test_the_critic_is_judged_seed_by_seed(measured):
    output, rows = measured
    text = (output / "recognition.md").read_text(encoding="utf-8").split("## Does the critic help?")[1]
    gains = [rows[f"True-{seed}"]["accuracy"] - rows[f"False-{seed}"]["accuracy"] for seed in (0, 1)]
    assert ", ".join(f"{gain:+.4f}" for gain in gains) in text
    assert any(f"| {verdict} |" in text for verdict in ("held", "did not hold", "not decided"))


def test_it_goes_on_where_it_was_stopped(measured, tmp_path):
    output, rows = measured
    content = json.loads((output / "recognition.json").read_text(encoding="utf-8"))
    del content["rows"]["merge, k = 5"]
    (tmp_path / "recognition.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "classifier.safetensors").write_bytes((output / "classifier.safetensors").read_bytes())
    told = []
    again = measure_recognition(DATA, [5], tmp_path, announce=told.append)
    assert [line.split(" (")[0] for line in told] == ["measuring merge, k = 5"]
    assert again["merge, k = 5"] == pytest.approx(rows["merge, k = 5"], nan_ok=True)
    assert "not run: no two runs differ" in (tmp_path / "recognition.md").read_text(encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"recognition\.json: was measured on digits, m = 20"):
        measure_recognition(DataConfig("digits", group_size=10), [5], tmp_path)
    for row in ({}, 3, {"relative_error": 0.1, "accuracy": "good"}):
        (tmp_path / "recognition.json").write_text(json.dumps({**content, "rows": {"merge, k = 5": row}}))
        with pytest.raises(RunFolderError, match=r"recognition\.json: not the accuracies of reconstructions"):
            measure_recognition(DATA, [5], tmp_path)
    (tmp_path / "recognition.json").unlink()
    (tmp_path / "classifier.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match=r"classifier\.safetensors: not a classifier of these images"):
        measure_recognition(DATA, [5], tmp_path)


def test_runs_of_one_name_are_rows_of_their_own(runs, measured, tmp_path):
    output, rows = measured
    copies = [shutil.copytree(run, tmp_path / run.name / "run") for run in (runs[0], runs[2])]
    again = measure_recognition(DATA, [5], shutil.copytree(output, tmp_path / "out"), runs=copies)
    for copy, name in zip(copies, ("True-0", "False-0"), strict=True):
        assert again[str(copy)] == pytest.approx(rows[name], nan_ok=True)
    change = rows["True-0"]["relative_error"] - rows["False-0"]["relative_error"]
    assert f"| {change:+.4f} |" in (tmp_path / "out" / "recognition.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="runs: expected every run once"):
        measure_recognition(DATA, [5], output, runs=[runs[0], runs[0]])


def test_other_sizes_are_something_else(runs, measured):
    output, _ = measured
    with pytest.raises(RunFolderError, match=r"True-0: expected a run on groups of 20 images of 9×9"):
        measure_recognition(replace(DATA, resize=(9, 9)), [5], output, runs=runs)
    with pytest.raises(RunFolderError, match=r"was measured on digits, m = 20.* got digits at 9×9"):
        measure_recognition(replace(DATA, resize=(9, 9)), [5], output)


def test_images_without_classes(tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="dataset: expected images with classes"):
        measure_recognition(DataConfig(str(tmp_path / "mine.npy"), group_size=20), [5], tmp_path / "out")


def test_other_images_under_the_same_name(measured, tmp_path):
    output, _ = measured
    shutil.copytree(output, tmp_path / "out")
    file = tmp_path / "out" / "recognition.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"images": "those of before"}), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"was measured on other images of digits, m = 20.* \(put them back, or"):
        measure_recognition(DATA, [5], tmp_path / "out")


def test_the_command(runs, measured):
    output, rows = measured
    arguments = ["compare", *map(str, runs), "--accuracy", "--output", str(output), "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"| {REAL} | {0:.3f} | {rows[REAL]['accuracy']:.3f} |" in result.output
    assert not math.isnan(rows["True-0"]["accuracy"])
    result = CliRunner().invoke(app, [*arguments, "--frontier"])
    assert result.exit_code == 2
