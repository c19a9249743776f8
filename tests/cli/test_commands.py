"""The command line: what it prints where, and that a slip costs one line and nothing else."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import bytes_of
from PIL import Image
from typer.testing import CliRunner

import diffnmf
from diffnmf.cli import app
from diffnmf.data import DATASETS
from diffnmf.errors import DivergenceError
from diffnmf.hardware import hardware
from diffnmf.kernels import kernel
from diffnmf.models import GANUNMF, W_SOLVERS
from diffnmf.runs import PRESETS, ExperimentResult, RunConfig

DIGITS = ["train", "--dataset", "digits", "--k", "3", "--width", "8", "--limit-groups", "1", "--epochs", "1"]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


pytestmark = pytest.mark.usefixtures("one_thread", "without_pictures")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every command starts in an empty folder, without data sets at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFNMF_DATA", raising=False)
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run made by the command line, and what the command said; tests only read it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, invoke(*DIGITS, "--output", str(folder))


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def full(path):
    """Instead of bringing a file to the disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def assert_refused(result, *words):
    """Exit code 2 and one message with all the words in it, on the standard error."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    message = ESCAPES.sub("", result.stderr)
    for word in words:
        assert re.search(word, message), f"{word!r} is not in {message!r}"


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"diffnmf {diffnmf.__version__}\n"


def test_help_has_groups():
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    places = [
        help_text.index(word)
        for word in ("GAN-UNET ─", "evaluate", "Classical NMF", "consensus", "Studies ─", "reproduce")
    ]
    assert places == sorted(places)
    assert "--install-completion" in help_text


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
            (line,) = (line for line in result.stdout.splitlines() if name in line and "EMA" not in line)
            assert f"{scores['relative_error']:.3f}" in line

    def test_tells_of_every_epoch_on_the_standard_error(self, finished):
        _, result = finished
        assert re.search(r"epoch\s+1\s+loss 0\.\d+", result.stderr)
        assert "epoch   1" not in result.stdout

    def test_tells_what_comes_after_them(self, finished):
        folder, result = finished
        first, second, _, *rest = result.stderr.splitlines()
        assert first == f"run folder: {folder}"
        assert second == f"computing on cpu ({hardware('cpu')})"
        assert [line.split()[0] for line in rest] == ["scoring", "scoring", "drawing"]

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
            *("--accumulate", "2", "--constant-share", "0.5", "--ema-decay", "0.9", "--precision", "bfloat16"),
            *("--deterministic", "--checkpoint-every", "2", "--picture-every", "3", "--critic-width", "4"),
        )
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == "run"
        config = RunConfig.from_yaml(tmp_path / "run" / "config.yaml")
        data, model, training = config.data, config.model, config.training
        assert (data.dataset, data.group_size, data.order, data.limit_groups) == ("digits", 20, "class", 1)
        assert (model.k, model.w_solver, model.width, model.unit_norm) == (3, "fc", 8, True)
        assert (training.epochs, training.batch_size, training.learning_rate, training.seed) == (1, 3, 0.001, 7)
        assert training.critic_learning_rate == 0.002
        assert (training.accumulate, training.constant_share, training.ema_decay) == (2, 0.5, 0.9)
        assert (training.precision, training.deterministic) == ("bfloat16", True)
        assert (training.checkpoint_every, training.picture_every, model.critic_width) == (2, 3, 4)
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
        """A process of its own, with a clean standard error: the folder, the device, the epochs, and what follows."""
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
        told = [line.split()[0] for line in result.stderr.splitlines()]
        assert told == ["run", "computing", "epoch", "scoring", "scoring", "drawing"]


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
            (["--seed", str(2**64)], ["seed: expected an int ≥ 0 and < 2", f"got {2**64}"]),
            (["--accumulate", "0"], ["accumulate", "got 0"]),
            (["--ema-decay", "1"], ["ema.decay", r"\[0, 1\)"]),
            (["--precision", "half"], ["precision", "bfloat16, float16, float32", "half"]),
            (["--precision", "float16", "--device", "cpu"], ["precision", "float16", "bfloat16"]),
            (["--preset", "huge"], ["preset", "default, paper, quick, scratch", "huge"]),
            (["--config", "missing.yaml"], [r"missing\.yaml", "YAML"]),
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

    def test_a_damaged_checkpoint_is_said_in_one_line(self, finished, tmp_path):
        """The one before takes its place."""
        shutil.copytree(finished[0], tmp_path / "run")
        assert invoke("train", "--resume", "run", "--epochs", "2").exit_code == 0
        (tmp_path / "run" / "checkpoint.pt").write_text("nonsense")
        result = invoke("train", "--resume", "run", "--epochs", "2")
        assert result.exit_code == 0, result.output
        (line,) = (line for line in result.stderr.splitlines() if line.startswith("Warning: "))
        assert re.search(r"checkpoint\.pt: .*going on from run/checkpoint-previous\.pt, after epoch 1$", line)

    def test_two_damaged_checkpoints(self, tmp_path):
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


class TestPresetsAndFiles:
    @pytest.fixture
    def config(self, monkeypatch):
        """The configuration that a command would train, without training."""
        seen = []

        def train(config, *args, **kwargs):
            seen.append(config)
            return ExperimentResult("run", {})

        monkeypatch.setattr("diffnmf.cli.train_command.run_experiment", train)

        def of(*arguments):
            result = invoke("train", *arguments)
            assert result.exit_code == 0, result.output
            return seen.pop()

        return of

    def test_presets(self, config):
        assert config() == PRESETS["default"]
        assert config("--preset", "scratch") == RunConfig()
        assert config("--preset", "paper") == PRESETS["paper"]
        assert config("--preset", "quick", "--k", 3) == PRESETS["quick"].with_options(k=3)

    def test_a_file_lies_over_the_preset_and_below_the_options(self, config, tmp_path):
        (tmp_path / "mine.yaml").write_text("model: {k: 3, width: 7}\n")
        expected = PRESETS["quick"].with_options(k=4, width=7)
        assert config("--preset", "quick", "--config", "mine.yaml", "--k", 4) == expected

    def test_the_configuration_of_a_run_repeats_it(self, config, finished):
        assert config("--config", finished[0] / "config.yaml") == RunConfig.from_yaml(finished[0] / "config.yaml")

    def test_a_broken_file(self, tmp_path):
        (tmp_path / "mine.yaml").write_text("model: {K: 3}\n")
        assert_refused(invoke("train", "--config", "mine.yaml"), r"mine\.yaml: entry: expected one of .*got 'K'")
        (tmp_path / "mine.yaml").write_text("training: {seed: 2020-13-45}\n")  # to YAML a date, until it is made
        assert_refused(invoke("train", "--config", "mine.yaml"), r"mine\.yaml: expected a configuration in YAML; month")


class TestEvaluate:
    def test_scores_again(self, finished, tmp_path):
        folder = shutil.copytree(finished[0], tmp_path / "run")
        result = invoke("evaluate", "run", "--weights", "generator")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == "run/evaluation.json"
        assert result.stderr.splitlines()[0] == "results: run/evaluation.json"
        assert "relative error: ‖Y − HW‖ / ‖Y‖" in result.stdout.splitlines()
        evaluation = json.loads((folder / "evaluation.json").read_text())
        metrics = json.loads((folder / "metrics.json").read_text())
        assert (evaluation["dataset"], evaluation["weights"]) == ("digits", "generator")
        for part in ("train", "test"):
            assert evaluation[part]["relative_error"] == pytest.approx(metrics[part]["relative_error"], rel=1e-6)

    def test_takes_the_best_weights(self, finished, tmp_path):
        folder = shutil.copytree(finished[0], tmp_path / "run")
        assert invoke("evaluate", "run").exit_code == 0
        evaluation = json.loads((folder / "evaluation.json").read_text())
        best = json.loads((folder / "metrics.json").read_text())["best"]
        assert evaluation["weights"] == "best"
        assert evaluation["test"]["relative_error"] == pytest.approx(best["relative_error"], rel=1e-6)

    @pytest.mark.parametrize(
        ("file", "entry", "other", "words"),
        [
            ("config.yaml", "k: 3", "k: 4", [r"config\.yaml", "expected the k of the trained model, 3", "got 4"]),
            (
                "model.yaml",
                "k: 3",
                "k: 4",
                [r"best\.safetensors", r"does not fit .*model\.yaml"],
            ),
            ("model.yaml", "k: 3", "k: none", [r"model\.yaml", "k"]),
            ("model.yaml", "image_shape:", "size:", [r"model\.yaml", "image_shape"]),
        ],
    )
    def test_files_that_contradict_each_other(self, finished, tmp_path, file, entry, other, words):
        folder = shutil.copytree(finished[0], tmp_path / "run")
        (folder / file).write_text((folder / file).read_text().replace(entry, other))
        before = bytes_of(folder)
        assert_refused(invoke("evaluate", "run"), *words)
        assert bytes_of(folder) == before

    def test_damaged_weights(self, finished, tmp_path):
        folder = shutil.copytree(finished[0], tmp_path / "run")
        (folder / "best.safetensors").write_bytes((folder / "best.safetensors").read_bytes()[:500])
        assert_refused(invoke("evaluate", "run"), r"best\.safetensors: not the weights of a model, or damaged")
        (folder / "ema.safetensors").unlink()
        assert_refused(invoke("evaluate", "run", "--weights", "ema"), r"ema\.safetensors", "no such file")
        assert_refused(invoke("evaluate", "run", "--weights", "worst"), "weights", "best, ema, generator", "worst")

    def test_a_full_disk_does_not_take_the_scores_away(self, finished, tmp_path, monkeypatch):
        shutil.copytree(finished[0], tmp_path / "run")
        monkeypatch.setattr("diffnmf.files.to_disk", full)
        result = invoke("evaluate", "run")
        assert result.exit_code == 2
        assert "GAN-UNET (test)" in result.stdout
        last = result.stderr.splitlines()[-1]
        assert re.search(r"run/evaluation\.json: could not be written \(No space left.*, then evaluate again", last)
        assert "--resume" not in last

    def test_a_folder_that_cannot_be_written_to(self, finished, tmp_path, monkeypatch):
        """It is refused before anything is scored."""
        shutil.copytree(finished[0], tmp_path / "run")
        monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
        result = invoke("evaluate", "run")
        assert_refused(result, "cannot write to run: nothing may be written into run")

    def test_images_of_another_size(self, finished, tmp_path):
        np.save(tmp_path / "mine.npy", np.zeros((300, 5, 6), dtype=np.uint8))
        folder = shutil.copytree(finished[0], tmp_path / "run")
        before = bytes_of(folder)
        assert_refused(invoke("evaluate", "run", "--dataset", "mine.npy"), "images", "expected 8×8", "has 5×6")
        assert bytes_of(folder) == before

    def test_no_run(self):
        assert_refused(invoke("evaluate", "."), "run", r"has no config\.yaml")


class TestPicturesOfOtherSizes:
    @pytest.fixture
    def pictures(self, tmp_path):
        """50 pictures of the sizes 9×7 and 12×16, in grey."""
        rng, folder = np.random.default_rng(0), tmp_path / "mine"
        folder.mkdir()
        for number in range(50):
            Image.fromarray(rng.integers(0, 256, (9, 7) if number % 2 else (12, 16), dtype=np.uint8)).save(
                folder / f"{number:02d}.png"
            )
        return folder

    def test_are_scaled_for_a_run(self, pictures):
        command = [*DIGITS, "--dataset", pictures, "--group-size", "5", "--output", "run"]
        assert_refused(invoke(*command), "images: expected files of one size", "--resize")
        result = invoke(*command, "--resize", "8", "10")
        assert result.exit_code == 0, result.output
        assert RunConfig.from_yaml(Path("run/config.yaml")).data.resize == (8, 10)
        assert GANUNMF.load("run").config.image_shape == (8, 10)
        assert invoke("evaluate", "run").exit_code == 0, "of the size of the run"

    def test_are_scaled_to_the_size_of_a_run(self, finished, pictures):
        command = ("factorize", finished[0], pictures, "--output", "out")
        assert_refused(invoke(*command), "images: expected files of one size", "--resize")
        result = invoke(*command, "--resize")
        assert result.exit_code == 0, result.output
        with np.load("out/factors.npz") as factors:
            assert factors["Y_hat"].shape == (2, 64, 40)

    def test_of_another_size_than_the_run(self, finished, tmp_path):
        np.save(tmp_path / "mine.npy", np.zeros((40, 9, 8), dtype=np.uint8))
        command = ("factorize", finished[0], "mine.npy", "--output", "out")
        assert_refused(invoke(*command), "images: expected 8×8", "has 9×8", "--resize")
        assert invoke(*command, "--resize").exit_code == 0

    def test_what_became_grey_is_said_once(self, finished, tmp_path):
        (tmp_path / "mine").mkdir()
        for number in range(40):
            Image.new("RGB", (8, 8), (255, number, 0)).save(tmp_path / "mine" / f"{number:02d}.png")
        result = invoke("factorize", finished[0], "mine", "--output", "out")
        assert result.exit_code == 0, result.output
        assert result.stderr.count("40 of 40 files in mine were in colour and are now grey") == 1


class TestFactorize:
    @pytest.fixture
    def images(self, tmp_path):
        """95 images: two groups of 40, and a third that shares 25 with the second."""
        np.save(tmp_path / "mine.npy", np.random.default_rng(0).integers(0, 256, (95, 8, 8), dtype=np.uint8))
        return tmp_path / "mine.npy"

    def test_leaves_factors_and_pictures(self, finished, images, tmp_path):
        result = invoke("factorize", finished[0], images, "--output", "out")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-1] == "out"
        assert result.stderr.splitlines() == ["results: out", f"{images}: 95 images in 3 groups of 40"]
        assert "3 groups of 40 images" in result.stdout
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "factors.npz",
            *(f"group-000{group}.png" for group in range(3)),
        ]
        with np.load(tmp_path / "out" / "factors.npz") as factors:
            shapes = {name: factors[name].shape for name in factors.files}
            assert shapes["H"] == (3, 64, 3)
            assert shapes["W"] == (3, 3, 40)
            assert shapes["Y_hat"] == (3, 64, 40)
            np.testing.assert_allclose(factors["H"] @ factors["W"], factors["Y_hat"], rtol=1e-4, atol=1e-5)
            assert factors["indices"][:2].flatten().tolist() == list(range(80))
            assert factors["indices"][2].tolist() == list(range(55, 95))
            assert factors["column_error"].tolist() == factors["eps"].tolist()

    def test_a_folder_of_image_files(self, finished, tmp_path):
        (tmp_path / "mine").mkdir()
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / f"{number:02d}.png")
        assert invoke("factorize", finished[0], "mine", "--output", "out").exit_code == 0
        with np.load(tmp_path / "out" / "factors.npz") as factors:
            assert factors["H"].shape == (1, 64, 3)

    def test_shuffled(self, finished, images, tmp_path):
        for output in ("a", "b"):
            assert invoke("factorize", finished[0], images, "--output", output, "--shuffle").exit_code == 0
        first, second = (np.load(tmp_path / output / "factors.npz") for output in ("a", "b"))
        with first, second:
            assert (first["indices"] == second["indices"]).all()
            assert sorted(set(first["indices"].flatten())) == list(range(95))
            assert first["indices"][0].tolist() != list(range(40))

    def test_no_picture_of_an_earlier_call_stays(self, finished, images, tmp_path):
        assert invoke("factorize", finished[0], images, "--output", "out").exit_code == 0
        assert (tmp_path / "out" / "group-0001.png").exists()
        np.save(tmp_path / "few.npy", np.load(images)[:40])
        assert invoke("factorize", finished[0], "few.npy", "--output", "out", "--overwrite").exit_code == 0
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["factors.npz", "group-0000.png"]

    def test_the_factors_are_not_overwritten_unasked(self, finished, images, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "factors.npz").write_text("mine")
        command = ("factorize", finished[0], images, "--output", "out")
        assert_refused(invoke(*command), "output", r"factors\.npz", "--overwrite")
        assert (tmp_path / "out" / "factors.npz").read_text() == "mine"
        assert invoke(*command, "--overwrite").exit_code == 0

    @pytest.mark.parametrize("output", ["file", "file/below", "x" * 300])
    def test_no_folder_is_said_before_the_work(self, finished, images, tmp_path, output):
        (tmp_path / "file").write_text("mine")
        assert_refused(invoke("factorize", finished[0], images, "--output", output), "output: ", output[:4])

    @pytest.mark.parametrize(
        ("shape", "words"),
        [((95, 9, 8), ["images", "expected 8×8", "has 9×8"]), ((39, 8, 8), ["images", "at least 40", "got 39"])],
    )
    def test_images_that_do_not_fit(self, finished, tmp_path, shape, words):
        np.save(tmp_path / "mine.npy", np.zeros(shape, dtype=np.uint8))
        assert_refused(invoke("factorize", finished[0], "mine.npy", "--output", "out"), *words)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.npy"]

    def test_other_slips(self, finished, images, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("mine")
        assert_refused(invoke("factorize", "empty", images, "--output", "out"), "folder of a model", r"model\.yaml")
        assert_refused(
            invoke("factorize", "digit-k16", images, "--output", "out"), "there is no digit-k16", "digits-k16"
        )
        assert_refused(invoke("evaluate", "digit-k16"), "there is no digit-k16", "digits-k16")
        assert_refused(
            invoke("factorize", finished[0], "missing", "--output", "out"), "images", "missing does not exist"
        )
        assert_refused(invoke("factorize", finished[0], images, "--output", "file"), "output", "file")
        assert (tmp_path / "file").read_text() == "mine"


class TestInfo:
    def test_tells_what_a_run_is(self, finished):
        result = invoke("info", finished[0])
        assert result.exit_code == 0, result.output
        about = yaml.safe_load(result.stdout)
        assert about["checkpoint"] == "after epoch 1 of 1"
        assert about["finished"] is True
        assert about["configuration"]["model"]["k"] == 3
        assert about["last epoch"]["epoch"] == 1
        assert int(about["parameters of the generator"].replace(",", "")) > 1000

    def test_says_it_as_one_would(self, finished):
        about = yaml.safe_load(invoke("info", finished[0]).stdout)
        assert re.fullmatch(r"relative error \d\.\d\d? on unseen groups \(.+, epoch 1\)", about["result"])
        assert re.fullmatch(r"\d+ seconds?|less than a second|\d+ minutes", about["time of training"])
        assert all(value == float(f"{value:.4g}") for value in about["last epoch"].values())
        assert "test_column_error" in about["last epoch"]
        assert "test_eps" not in about["last epoch"]

    def test_tells_what_would_compute(self):
        about = yaml.safe_load(invoke("info").stdout)
        assert about["device"].startswith("cuda" if torch.cuda.is_available() else "cpu (")
        assert about["kernel on the CPU"].startswith(kernel().name)

    def test_tells_what_a_pretrained_model_is(self):
        result = invoke("info", "mnist-k10")
        assert result.exit_code == 0, result.output
        about = yaml.safe_load(result.stdout)
        assert about["pretrained model"] == "mnist-k10"
        assert about["configuration"]["model"]["k"] == 10
        assert all(": " in line or line.endswith(":") for line in result.stdout.splitlines() if "- " not in line)

    def test_no_run(self):
        assert_refused(invoke("info", "missing"), "run", r"missing has no config\.yaml")


def test_help_of_the_program_lists_the_commands():
    text = ESCAPES.sub("", invoke("--help").stdout)
    assert all(command in text for command in ("train", "evaluate", "factorize", "info"))


def test_diverged_training_has_an_exit_code_of_its_own(tmp_path, monkeypatch):
    def diverge(*args, **kwargs):
        raise DivergenceError("critic_loss: expected a finite number; got nan in epoch 1, step 3")

    monkeypatch.setattr("diffnmf.cli.train_command.run_experiment", diverge)
    result = invoke(*DIGITS)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: critic_loss: ")


OUT_OF_MEMORY = {
    "torch, which has no class for it on the CPU": lambda: torch.empty(2**52),
    "torch on a GPU": lambda: raise_(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0")),
    "NumPy": lambda: np.empty(2**52),
    "a run": lambda: raise_(MemoryError(), "Go on with: diffnmf train --resume run"),
}


def raise_(error, *notes):
    for note in notes:
        error.add_note(note)
    raise error


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_out_of_memory_is_one_line(monkeypatch, kind):
    monkeypatch.setattr("diffnmf.cli.train_command.run_experiment", lambda *args, **kwargs: OUT_OF_MEMORY[kind]())
    result = invoke(*DIGITS)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: out of memory")
    assert "fewer components or images in a group" in line
    assert ("20.00 MiB were asked for" in line) == (kind == "torch on a GPU")
    assert line.endswith("--resume run") == (kind == "a run")


def test_other_errors_of_torch_keep_their_trace(monkeypatch):
    monkeypatch.setattr(
        "diffnmf.cli.train_command.run_experiment", lambda *args, **kwargs: torch.ones(2) @ torch.ones(3)
    )
    assert "inconsistent tensor size" in str(invoke(*DIGITS).exception)


def test_the_number_of_a_cpu_means_nothing(monkeypatch):
    devices = []
    monkeypatch.setattr(
        "diffnmf.cli.train_command.run_experiment",
        lambda *args, device, **kwargs: devices.append(device) or ExperimentResult(Path(), {}),
    )
    assert invoke(*DIGITS, "--device", "cpu:0").exit_code == 0
    assert devices == [torch.device("cpu")]


class TestCtrlC:
    @pytest.fixture
    def interrupted(self, monkeypatch):
        """A training in which Ctrl-C is pressed after the first epoch, and swallowed or not."""

        def train(*arguments, swallowed=False):
            def press(row):
                with suppress(*[KeyboardInterrupt] * swallowed):
                    signal.raise_signal(signal.SIGINT)

            with monkeypatch.context() as patch:
                patch.setattr("diffnmf.cli.train_command.print_epoch", press)
                return invoke(*arguments)

        return train

    @pytest.mark.parametrize("swallowed", [False, True])
    def test_names_the_run(self, interrupted, tmp_path, swallowed):
        result = interrupted(*DIGITS, "--epochs", 2, "--output", "my run", swallowed=swallowed)
        assert result.exit_code == 130
        assert result.stdout == ""
        assert result.stderr.splitlines() == [
            "run folder: my run",
            f"computing on cpu ({hardware('cpu')})",
            "Stopped. Go on with: diffnmf train --resume 'my run'",
        ]
        result = invoke("train", "--resume", "my run")
        assert result.exit_code == 0, result.output

    def test_names_a_new_folder(self, interrupted):
        result = interrupted(*DIGITS)
        first, _, last = result.stderr.splitlines()
        assert last == f"Stopped. Go on with: diffnmf train --resume {first.removeprefix('run folder: ')}"
        assert "runs/digits-unrolled-" in last

    def test_before_anything_is_written(self, monkeypatch):
        """There is nothing to go on with."""

        def interrupt(*args, **kwargs):
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr("diffnmf.cli.train_command.run_experiment", interrupt)
        result = invoke(*DIGITS)
        assert (result.exit_code, result.stderr) == (130, "Stopped.\n")

    def test_in_evaluate(self, finished, monkeypatch):
        def interrupt(*args, **kwargs):
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr("diffnmf.runs.scores.score_rivals", interrupt)
        result = invoke("evaluate", finished[0])
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr.splitlines()[-1] == "Stopped."


class TestOwnImages:
    def test_are_found_where_they_have_been_moved(self, tmp_path):
        np.save("mine.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
        train = ["train", "--dataset", "mine.npy", "--group-size", 6, "--k", 3, "--width", 8, "--epochs", 1]
        assert invoke(*train, "--output", "run").exit_code == 0
        (tmp_path / "mine.npy").rename("there.npy")
        for command in (["evaluate", "run"], ["train", "--resume", "run", "--epochs", 2]):
            assert_refused(invoke(*command), rf"in {tmp_path}/mine\.npy, which does not exist", "--dataset")
            result = invoke(*command, "--dataset", "there.npy")
            assert result.exit_code == 0, result.output
            assert_refused(invoke(*command, "--dataset", "nowhere.npy"), r"nowhere\.npy")

    def test_are_not_scored_where_others_are_in_their_place(self, tmp_path):
        """Another fifth of them is held out: the run may have learnt from what would be scored as unseen."""
        random = np.random.default_rng(0)
        np.save("mine.npy", random.integers(0, 256, (60, 8, 8), dtype=np.uint8))
        train = ["train", "--dataset", "mine.npy", "--group-size", 6, "--k", 3, "--width", 8, "--epochs", 1]
        assert invoke(*train, "--output", "run").exit_code == 0
        np.save("mine.npy", random.integers(0, 256, (70, 8, 8), dtype=np.uint8))
        assert_refused(invoke("evaluate", "run"), "dataset: expected the images that the run run was trained on")
        assert not (tmp_path / "run" / "evaluation.json").exists()
        assert invoke("evaluate", "run", "--dataset", "mine.npy").exit_code == 0
        (tmp_path / "run" / "checkpoint.pt").write_bytes(b"damaged")  # nothing is known of its images then
        assert invoke("evaluate", "run").exit_code == 0

    def test_names_that_are_too_long(self, finished):
        name = "x" * 300
        assert_refused(invoke(*DIGITS, "--output", name), "output: cannot write to")
        for command in (["train", "--resume", name], ["info", name]):
            assert_refused(invoke(*command), r"run \(or --resume\)")
        assert_refused(invoke("evaluate", name), "run: expected a run folder, or a pretrained model")
