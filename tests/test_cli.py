"""The command line: what it prints where, and that a slip costs one line and nothing else."""

import hashlib
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from diffnmf.cli import app
from diffnmf.data import DATASETS
from diffnmf.models import W_SOLVERS
from diffnmf.training import RunConfig

DIGITS = ["train", "--dataset", "digits", "--k", "3", "--width", "8", "--limit-groups", "1", "--epochs", "1"]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For tiny matrices threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every command starts in an empty folder, without data sets at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFNMF_DATA", raising=False)
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    return tmp_path


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Drawing takes most of the time of a small run, and has tests of its own."""
    for name in ("save_image_grid", "save_decomposition", "save_curves"):
        monkeypatch.setattr(f"diffnmf.evaluation.experiment.{name}", lambda *args, **kwargs: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run made by the command line, and what the command said; tests only read it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, invoke(*DIGITS, "--output", str(folder))


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def bytes_of(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def assert_refused(result, *words):
    """Exit code 2 and one message with all the words in it, on the standard error."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    message = ESCAPES.sub("", result.stderr)
    for word in words:
        assert re.search(word, message), f"{word!r} is not in {message!r}"


class TestTrain:
    def test_says_where_the_run_is(self, finished):
        folder, result = finished
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == str(folder)
        assert (folder / "metrics.json").exists()

    def test_shows_the_scores_as_a_table(self, finished):
        folder, result = finished
        metrics = json.loads((folder / "metrics.json").read_text())
        for name, scores in {"(test)": metrics["test"], "svd": metrics["test"]["svd"]}.items():
            (line,) = (line for line in result.stdout.splitlines() if name in line)
            assert f"{scores['relative_error']:.3f}" in line

    def test_tells_of_every_epoch_on_the_standard_error(self, finished):
        _, result = finished
        assert re.search(r"epoch\s+1\s+loss 0\.\d+", result.stderr)
        assert "epoch   1" not in result.stdout

    def test_options_reach_the_configuration(self, tmp_path):
        result = invoke(
            *DIGITS,
            *("--w-solver", "fc", "--group-size", "20", "--order", "class", "--batch-size", "3", "--seed", "7"),
            *(
                "--learning-rate",
                "0.001",
                "--critic-learning-rate",
                "0.002",
                "--unit-norm",
                "--no-adversarial",
                "--adversarial-form",
                "saturating",
            ),
            *("--reconstruction-weight", "10", "--flip-probability", "0.2", "--pca-rank", "2", "--output", "run"),
        )
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == "run"
        config = RunConfig.from_yaml(tmp_path / "run" / "config.yaml")
        data, model, training = config.data, config.model, config.training
        assert (data.dataset, data.group_size, data.order, data.limit_groups) == ("digits", 20, "class", 1)
        assert (model.k, model.w_solver, model.width, model.unit_norm) == (3, "fc", 8, True)
        assert (training.epochs, training.batch_size, training.learning_rate, training.seed) == (1, 3, 0.001, 7)
        assert training.critic_learning_rate == 0.002
        assert (training.adversarial, training.adversarial_form) == (False, "saturating")
        assert (training.reconstruction_weight, training.flip_probability, training.pca_rank) == (10, 0.2, 2)

    def test_twice_without_output_gives_two_folders(self, tmp_path):
        folders = []
        for _ in range(2):
            result = invoke(*DIGITS)
            assert result.exit_code == 0, result.output
            folders.append(tmp_path / result.stdout.splitlines()[-1])
        assert folders[0] != folders[1]
        assert all(folder.parent == tmp_path / "runs" for folder in folders)
        assert all((folder / "metrics.json").exists() for folder in folders)

    def test_overwrite(self, finished, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.yaml").write_text("old")
        (folder / "notes.txt").write_text("mine")
        assert_refused(invoke(*DIGITS, "--output", folder), "output", "--overwrite", "--resume")
        assert (folder / "config.yaml").read_text() == "old"
        result = invoke(*DIGITS, "--output", folder, "--overwrite")
        assert result.exit_code == 0, result.output
        assert (folder / "notes.txt").read_text() == "mine"
        assert RunConfig.from_yaml(folder / "config.yaml").model.k == 3

    def test_help_lists_what_can_be_chosen(self):
        result = invoke("train", "--help")
        assert result.exit_code == 0
        text = ESCAPES.sub("", result.stdout)
        for word in ("--w-solver", "--dataset", "--resume", *W_SOLVERS, *DATASETS):
            assert word in text

    @pytest.mark.slow
    def test_runs_as_a_command(self, tmp_path):
        """A process of its own, with a clean standard error: nothing but the epochs."""
        result = subprocess.run(
            [sys.executable, "-c", "from diffnmf.cli import main; main()", *DIGITS, "--output", "run"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == "run"
        assert [line for line in result.stderr.splitlines() if not line.startswith("epoch ")] == []


class TestSlips:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--w-solver", "nope"], ["w.solver", "nope", *W_SOLVERS]),
            (["--dataset", "nope"], ["dataset", "nope", *DATASETS]),
            (["--dataset", "missing.npy"], ["dataset", r"missing\.npy"]),
            (["--dataset", ""], ["dataset"]),
            (["--k", "0"], [r"\bk\b", "got 0"]),
            (["--k", "ten"], ["--k", "valid integer"]),
            (["--group-size", "15"], ["group.size", "10 classes", "10 and 20"]),
            (["--group-size", "0"], ["group.size", "got 0"]),
            (["--order", "sorted"], ["order", "class", "random"]),
            (["--limit-groups", "0"], ["limit", "got 0"]),
            (["--epochs", "-1"], ["epochs", "got -1"]),
            (["--batch-size", "0"], ["batch.size", "got 0"]),
            (["--learning-rate", "0"], ["learning.rate", r"got 0\.0"]),
            (["--critic-learning-rate", "0"], ["critic.learning.rate", r"got 0\.0"]),
            (["--learning-rate", "nan"], ["learning.rate", "got nan"]),
            (["--width", "0"], ["width", "got 0"]),
            (["--adversarial-form", "wgan"], ["adversarial.form", "non_saturating, saturating", "wgan"]),
            (["--flip-probability", "1.5"], ["flip.probability", r"\[0, 1\]"]),
            (["--reconstruction-weight", "-1"], ["reconstruction.weight", r"got -1\.0"]),
            (["--pca-rank", "0"], ["pca.rank", "got 0"]),
            (["--seed", "-1"], ["seed", "got -1"]),
            (["--device", "tpu9"], ["device", "tpu9", "cpu"]),
            (["--dataset", "mnist", "--data-dir", "missing"], ["data.dir", "missing does not exist", "digits"]),
            (["--no-such-option"], ["--no-such-option"]),
        ],
    )
    def test_name_the_argument_and_write_nothing(self, tmp_path, options, words):
        assert_refused(invoke(*DIGITS, *options), *words)
        assert_refused(invoke(*DIGITS, *options, "--output", "run"), *words)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
    def test_no_cuda_device(self, tmp_path):
        assert_refused(invoke(*DIGITS, "--device", "cuda"), "device", "--device cpu")
        assert list(tmp_path.iterdir()) == []

    def test_with_overwrite_lose_nothing(self, finished):
        folder, _ = finished
        before = bytes_of(folder)
        assert_refused(invoke(*DIGITS, "--output", folder, "--overwrite", "--group-size", "15"), "group.size")
        assert bytes_of(folder) == before

    def test_output_is_a_file(self, tmp_path):
        (tmp_path / "run").write_text("mine")
        for option in ([], ["--overwrite"]):
            assert_refused(invoke(*DIGITS, "--output", "run", *option), "output", "run")
        assert (tmp_path / "run").read_text() == "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["run"]


class TestResume:
    def test_goes_on(self, tmp_path):
        assert invoke(*DIGITS, "--output", "run").exit_code == 0
        result = invoke("train", "--resume", "run", "--epochs", "2", "--device", "cpu")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == "run"
        assert re.search(r"epoch\s+2", result.stderr)
        assert not re.search(r"epoch\s+1", result.stderr)
        config = RunConfig.from_yaml(tmp_path / "run" / "config.yaml")
        assert (config.training.epochs, config.model.k, config.data.dataset) == (2, 3, "digits")

    @pytest.mark.parametrize(
        "option", [["--k", "3"], ["--output", "elsewhere"], ["--overwrite"], ["--seed", "0"], ["--adversarial"]]
    )
    def test_other_options_are_refused(self, finished, tmp_path, option):
        folder, _ = finished
        before = bytes_of(folder)
        assert_refused(invoke("train", "--resume", folder, "--epochs", "2", *option), "resume", option[0])
        assert bytes_of(folder) == before
        assert list(tmp_path.iterdir()) == []

    def test_no_run(self, tmp_path):
        assert_refused(invoke("train", "--resume", "missing"), "resume", "missing", r"config\.yaml")
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_checkpoint(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.yaml").write_text("data: {dataset: digits}\n")
        (tmp_path / "run" / "checkpoint.pt").write_text("nonsense")
        before = bytes_of(tmp_path)
        assert_refused(invoke("train", "--resume", "run"), r"checkpoint\.pt")
        assert bytes_of(tmp_path) == before

    def test_fewer_epochs_than_done(self, finished):
        folder, _ = finished
        before = bytes_of(folder)
        assert_refused(invoke("train", "--resume", folder, "--epochs", "0"), "epochs", "1 already", "got 0")
        assert bytes_of(folder) == before
