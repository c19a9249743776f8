"""The examples run, and do what they say."""

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffnmf.models import W_SOLVERS

EXAMPLES = Path(__file__).parent.parent / "examples"
DIGITS = ["--dataset", "digits", "--epochs", "1", "--limit-groups", "2", "--k", "5", "--output", "run"]


pytestmark = pytest.mark.usefixtures("one_thread", "without_pictures")


def load_example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def run_example(name, *options, folder):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def assert_trained(stdout, folder):
    assert stdout.splitlines()[-1] == "run"
    assert "GAN-UNET (test)" in stdout
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert 0 < metrics["test"]["relative_error"] < 2


def test_the_layer_in_a_model_of_ones_own():
    example = load_example("nnls_layer")
    losses = example.main()
    assert losses[-1] < 0.5 * losses[0]
    assert len(example.main(steps=3)) == 3


@pytest.mark.parametrize("w_solver", W_SOLVERS)
def test_training_with_every_w_solver(w_solver, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_mnist.py", "--w-solver", w_solver, *DIGITS])
    load_example("train_mnist").main()
    assert_trained(capsys.readouterr().out, tmp_path)
    assert f"w_solver: {w_solver}\n" in (tmp_path / "run" / "config.yaml").read_text()


def test_training_in_a_process_of_its_own(tmp_path):
    """As a user runs it: on the standard error are where the run is, the epochs, and what follows, and nothing else."""
    result = run_example("train_mnist", *DIGITS, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_trained(result.stdout, tmp_path)
    told = [line.split()[0] for line in result.stderr.splitlines()]
    assert told == ["run", "epoch", "scoring", "scoring", "drawing"]


@pytest.mark.slow
def test_training_with_cvxpylayer_in_a_process_of_its_own(tmp_path):
    result = run_example("train_mnist", "--w-solver", "cvxpylayer", *DIGITS, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert_trained(result.stdout, tmp_path)
    assert "Warning" not in result.stderr


def test_training_refuses_unknown_w_solvers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_mnist.py", "--w-solver", "nope"])
    with pytest.raises(SystemExit) as caught:
        load_example("train_mnist").main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert all(name in message for name in (*W_SOLVERS, "nope"))
    assert list(tmp_path.iterdir()) == []


def test_profile_adds_up(monkeypatch, capsys):
    options = ["--dataset", "digits", "--k", "4", "--width", "8", "--steps", "3", "--w-solvers", "unrolled", "fc"]
    monkeypatch.setattr(sys, "argv", ["profile_training.py", *options])
    load_example("profile_training").main()
    title, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("digits, k = 4, 34 groups an epoch, 4 in a step")
    assert "W-solver" in header
    assert [row.split("`")[1] for row in rows] == ["unrolled", "fc"]
    for row in rows:
        *parts, seconds, _ = (cell.split("(")[0] for cell in row.strip("| ").split("|")[1:])
        assert sum(map(float, parts)) == pytest.approx(float(seconds), abs=0.3)  # each is rounded
        shares = [int(share) for share in re.findall(r"\((\d+) %\)", row)]
        assert sum(shares) == pytest.approx(100, abs=2)


def test_the_benchmark_of_starts(tmp_path, monkeypatch, capsys):
    """On two small matrices: every start has a row, and both estimators end at about the same error."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = load_example("benchmark_starts")
    data = load_example("nmf_data")
    small = [data.Case("planted", lambda: data.planted(30, 20, 4, noise=0.1, batch=2), 4)]
    monkeypatch.setattr(example, "cases", lambda data_dir: small)
    for part in ("starts", "defaults"):
        monkeypatch.setattr(sys, "argv", ["benchmark_starts.py", "--part", part, "--output", str(tmp_path)])
        example.main()
    text = capsys.readouterr().out
    assert all(f"| {start} |" in text for start in example.STARTS)
    with (tmp_path / "starts_starts.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(example.STARTS)
    assert all(float(row["200"]) < float(row["0"]) for row in rows)
    with (tmp_path / "starts_defaults.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert abs(float(row["error"]) / float(row["rival_error"]) - 1) < 0.02


def test_the_check_of_a_gpu_tries_itself_on_the_cpu(tmp_path):
    sections = ["machine", "the same as on the CPU", "the layer", "beside others", "warps", "factorize"]
    sections += ["training steps", "two processes"]
    options = ["--device", "cpu", "--output", "tried", "--sections", *sections]
    run = run_example("check_cuda", *options, folder=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads((tmp_path / "tried" / "check_cuda.json").read_text())
    assert list(result) == sections
    assert sum(row.get("ok") is True for section in result.values() for row in section["rows"].values()) > 30
    text = (tmp_path / "tried" / "check_cuda.md").read_text()
    assert all(f"| {section} |" in text for section in sections)


def test_the_check_of_a_gpu_fails_where_something_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = load_example("check_cuda")

    def broken(device):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setitem(example.SECTIONS, "machine", broken)
    monkeypatch.setitem(example.SECTIONS, "warps", lambda device: {"a row": {"error": 1.0, "ok": False}})
    options = ["--device", "cpu", "--output", str(tmp_path), "--sections", "machine", "warps"]
    monkeypatch.setattr(sys, "argv", ["check_cuda.py", *options])
    with pytest.raises(SystemExit) as ended:
        example.main()
    assert ended.value.code == 1
    assert "2 problems" in capsys.readouterr().out
    assert (tmp_path / "check_cuda.md").read_text().count("**no**") == 2
