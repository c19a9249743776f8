"""A whole run on the digits: what it leaves behind, what it refuses, and how it goes on after a stop."""

import json
import math
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TIMES, bytes_of, curves
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file

import diffnmf.evaluation.scoring
from diffnmf.cli import print_epoch
from diffnmf.data import GroupSampler, group_matrix, load_dataset
from diffnmf.errors import CheckpointWarning, DataUnavailableError, DivergenceError, RunFolderError
from diffnmf.evaluation import score_generator, score_rivals
from diffnmf.files import replacing
from diffnmf.hardware import hardware
from diffnmf.models import Generator, GeneratorConfig
from diffnmf.runs import (
    DataConfig,
    ModelConfig,
    RunConfig,
    RunFolder,
    describe_run,
    evaluate_run,
    metrics_table,
    resume_experiment,
    run_experiment,
)
from diffnmf.runs.curves import read_curves
from diffnmf.runs.recorder import Recorder, best_of
from diffnmf.training import TrainingConfig

PICTURES = ["basis.png", "curves.png", "decomposition.png", "group.png", "reconstruction.png"]
SCORES = {"column_error", "eps", "relative_error", "hoyer_H", "copying", "dead_components"}


pytestmark = pytest.mark.usefixtures("one_thread")


def configuration(epochs=1, **training):
    return RunConfig(
        DataConfig("digits", 40, limit_groups=2),
        ModelConfig(k=5, width=8, critic_width=8),
        # Constant learning rates: a decay is over a number of epochs, and these runs are continued beyond theirs.
        TrainingConfig(**{"epochs": epochs, "batch_size": 1, "constant_share": 1.0, **training}),
    )


@pytest.fixture(scope="module")
def run_of_three(tmp_path_factory):
    """A finished run of three epochs with everything in it; tests only read it."""
    return run_experiment(configuration(3), tmp_path_factory.mktemp("three") / "run")


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory):
    return run_experiment(configuration(2), tmp_path_factory.mktemp("two") / "run")


@pytest.fixture
def old_run(run_of_two, tmp_path):
    """A copy of a run of two epochs that a test may damage, beside a file that is no part of it."""
    folder = shutil.copytree(run_of_two.folder, tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    return folder


# What happens to curves.csv, which has two rows.
CURVES = {
    "gone": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "the first line alone": lambda file: file.write_text(file.read_text().splitlines(keepends=True)[0]),
    "a row missing": lambda file: file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1])),
    "a row cut in half": lambda file: file.write_text(file.read_text()[:-100]),
    "something else": lambda file: file.write_text("nonsense\n1\n"),
}


# What happens to a file of weights.
WEIGHTS = {
    "gone": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:500]),
    "of another epoch": lambda file: save_file({name: x + 1 for name, x in load_file(file).items()}, file),
}


def with_a_better_first_epoch(folder):
    """As though the second epoch of a run had been worse than the first."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    state["curves"][0]["test_relative_error"] = 0.0
    torch.save(state, folder / "checkpoint.pt")
    file = RunFolder(folder)
    rows = file.load_curves(2)
    rows[0]["test_relative_error"] = 0.0
    file.save_curves(rows)


def without_curves(checkpoint):
    """As checkpoints were before they had the rows of the curves."""
    state = torch.load(checkpoint, weights_only=True)
    del state["curves"]
    torch.save(state, checkpoint)


def events(files):
    """Those that TensorBoard reads; their names have a time and a process in them."""
    return [name for name in files if name.startswith("tensorboard/")]


class TestWhatARunLeaves:
    def test_the_files(self, run_of_three):
        folder = run_of_three.folder
        left = sorted({*RunFolder.FILES, "pictures", "tensorboard"} - {"evaluation.json"})
        assert sorted(path.name for path in folder.iterdir()) == left
        assert sorted(path.name for path in (folder / "pictures").iterdir()) == PICTURES

    def test_the_configuration(self, run_of_three):
        assert RunConfig.from_yaml(run_of_three.folder / "config.yaml") == configuration(3)

    def test_a_row_of_curves_per_epoch(self, run_of_three):
        rows = curves(run_of_three.folder)
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        names = {
            "reconstruction_loss",
            "adversarial_loss",
            "critic_loss",
            "critic_accuracy_real",
            "critic_accuracy_fake",
        }
        names |= {"generator_gradient_norm", "critic_gradient_norm", "learning_rate"}
        names |= {f"{weights}test_{score}" for weights in ("", "ema_") for score in SCORES}
        assert all(names <= row.keys() for row in rows)
        assert all(math.isfinite(value) for row in rows for value in row.values())
        last = {name: rows[-1][f"test_{name}"] for name in SCORES}
        assert last == {name: run_of_three.metrics["test"][name] for name in SCORES}

    def test_where_the_time_went(self, run_of_three):
        rows = read_curves(run_of_three.folder / "curves.csv", 3)
        assert all(0 < row["w_solver_share"] < 1 for row in rows)
        for row in rows:
            assert row["groups_per_second"] == pytest.approx(2 / row["train_seconds"], rel=0.1)

    @pytest.mark.parametrize("name", PICTURES)
    def test_pictures_can_be_read(self, run_of_three, name):
        with Image.open(run_of_three.folder / "pictures" / name) as picture:
            assert picture.format == "PNG"
            low, high = picture.convert("L").getextrema()
        assert low < high, "a picture of something"

    def test_weights_load_into_a_generator(self, run_of_three):
        config, split = configuration(3), load_dataset("digits")
        generator = Generator(config.model.for_groups((8, 8), 40))
        load_model(generator, str(run_of_three.folder / "generator.safetensors"))
        sampler = GroupSampler(split.test, 40, limit=2)
        scores = score_generator(generator, split.test, sampler.epoch(0))
        for name in SCORES:
            assert scores[name] == pytest.approx(run_of_three.metrics["test"][name], rel=1e-6), name
        # The checkpoint holds the same model.
        state = torch.load(run_of_three.folder / "checkpoint.pt", weights_only=True)
        other = Generator(GeneratorConfig((8, 8), 40, config.model.k, width=config.model.width))
        other.load_state_dict(state["generator"])
        Y = group_matrix(split.test, sampler.epoch(0))
        assert all(torch.equal(a, b) for a, b in zip(generator(Y), other(Y), strict=True))

    def test_the_checkpoint_holds_tensors_and_numbers_only(self, run_of_three):
        state = torch.load(run_of_three.folder / "checkpoint.pt", weights_only=True)
        assert state["epoch"] == 3
        assert {"generator", "critic", "generator_optimizer", "critic_optimizer", "ema", "random"} <= state.keys()

    def test_metrics(self, run_of_three):
        metrics = json.loads((run_of_three.folder / "metrics.json").read_text())
        assert metrics == run_of_three.metrics
        assert metrics.keys() >= {"train", "test"}
        test = metrics["test"]
        for scores in (metrics["train"], test, test["anls"], test["spa"]):
            assert scores.keys() >= SCORES
            assert all(math.isfinite(scores[name]) and scores[name] >= 0 for name in SCORES)
            assert scores["groups"] == 2
        assert test["svd"].keys() == {"column_error", "eps", "relative_error", "groups"}

    def test_the_svd_is_a_lower_bound_and_copying_is_copying(self, run_of_three):
        test = run_of_three.metrics["test"]
        for scores in (test, test["anls"], test["spa"]):
            assert test["svd"]["relative_error"] <= scores["relative_error"]
        assert test["anls"]["relative_error"] < test["spa"]["relative_error"]
        assert test["spa"]["copying"] == pytest.approx(1)

    def test_the_groups_of_the_test_come_from_test_images(self, run_of_three):
        """The rivals in metrics.json are scored on groups of the test images alone."""
        split = load_dataset("digits")
        groups = GroupSampler(split.test, 40, limit=2).epoch(0)
        svd = score_rivals(split.test, groups, 5)["svd"]
        assert svd["relative_error"] == pytest.approx(run_of_three.metrics["test"]["svd"]["relative_error"])

    def test_table(self, run_of_three):
        table = metrics_table(run_of_three.metrics, "GAN-UNET")
        lines = table.splitlines()
        assert [line.split("  ")[0] for line in lines[1:]] == [
            "GAN-UNET (train)",
            "GAN-UNET (test)",
            "GAN-UNET, EMA (test)",
            "anls",
            "merge",
            "merge + 5 rounds",
            "spa",
            "svd",
        ]
        assert len({len(line) for line in lines}) == 1
        assert f"{run_of_three.metrics['test']['relative_error']:.3f}" in lines[2]

    def test_the_same_seed_gives_the_same_run(self, run_of_two, tmp_path, without_pictures):
        again = run_experiment(configuration(2), tmp_path / "again")
        assert again.metrics == run_of_two.metrics
        assert curves(again.folder) == curves(run_of_two.folder)
        first, second = (load_file(run.folder / "generator.safetensors") for run in (run_of_two, again))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_the_random_state_of_the_caller_is_left_alone(self, tmp_path, without_pictures):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        run_experiment(configuration(), tmp_path / "run")
        assert torch.equal(torch.rand(3), expected)


class TestKindsOfRuns:
    def test_ones_own_images(self, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (60, 6, 5), dtype=np.uint8)
        np.save(tmp_path / "mine.npy", images)
        config = replace(configuration(), data=DataConfig(str(tmp_path / "mine.npy"), group_size=6))
        result = run_experiment(config, tmp_path / "run")
        assert result.metrics["test"]["groups"] == 2
        assert sorted(path.name for path in (result.folder / "pictures").iterdir()) == PICTURES

    def test_without_a_critic(self, tmp_path):
        result = run_experiment(configuration(adversarial=False), tmp_path / "run")
        (row,) = curves(result.folder)
        assert not [name for name in row if "critic" in name or "adversarial" in name]
        assert sorted(path.name for path in (result.folder / "pictures").iterdir()) == PICTURES

    def test_no_epochs_score_the_untrained_model(self, tmp_path):
        result = run_experiment(configuration(0), tmp_path / "run")
        assert result.metrics["test"]["relative_error"] > 0
        assert (result.folder / "generator.safetensors").exists()

    def test_more_components_than_images(self, tmp_path, without_pictures):
        """spa has no k images to choose from; everything else goes on."""
        config = replace(configuration(), data=DataConfig("digits", 10, limit_groups=1))
        config = replace(config, model=replace(config.model, k=12))
        test = run_experiment(config, tmp_path / "run").metrics["test"]
        assert "spa" not in test
        assert test["svd"]["relative_error"] == pytest.approx(0, abs=1e-5)
        assert "spa" not in metrics_table({"train": test, "test": test}, "model")

    def test_callbacks(self, tmp_path, without_pictures):
        rows, steps = [], []
        run_experiment(
            configuration(2),
            tmp_path / "run",
            on_epoch=rows.append,
            progress=lambda iterable: (steps.append(step) or step for step in iterable),
        )
        assert [row["epoch"] for row in rows] == [1, 2]
        assert len(steps) == 4

    def test_folders_of_their_own(self, tmp_path, monkeypatch, without_pictures):
        monkeypatch.chdir(tmp_path)
        folders = {run_experiment(configuration()).folder.resolve() for _ in range(2)}
        assert len(folders) == 2
        assert all(folder.parent == tmp_path / "runs" for folder in folders)


class TestRefusals:
    def test_a_folder_that_holds_a_run(self, old_run):
        before = bytes_of(old_run)
        with pytest.raises(RunFolderError, match=r"output: .*already holds a run"):
            run_experiment(configuration(), old_run)
        assert bytes_of(old_run) == before

    @pytest.mark.parametrize(
        ("data", "options", "error", "argument"),
        [
            ({"dataset": "nope"}, {}, ValueError, "dataset"),
            ({"group_size": 15}, {}, ValueError, "group_size"),
            ({"group_size": 0}, {}, ValueError, "group_size"),
            ({"group_size": 100_000}, {}, ValueError, "group_size"),
            ({"order": "sorted"}, {}, ValueError, "order"),
            ({"limit_groups": 0}, {}, ValueError, "limit"),
            ({"dataset": "mnist"}, {"data_dir": "missing"}, DataUnavailableError, "data_dir"),
        ],
    )
    def test_a_bad_option_loses_nothing(self, old_run, data, options, error, argument):
        config = configuration()
        before = bytes_of(old_run.parent)

        def run(output, **more):
            run_experiment(replace(config, data=replace(config.data, **data)), output, **options, **more)

        with pytest.raises(error, match=f"^{argument}"):
            run(old_run, overwrite=True)
        with pytest.raises(error, match=f"^{argument}"):
            run(old_run.parent / "new")
        assert bytes_of(old_run.parent) == before

    @pytest.mark.parametrize("seed", [-1, 0.5, "one"])
    def test_a_bad_seed_loses_nothing(self, old_run, seed):
        before = bytes_of(old_run)
        with pytest.raises((ValueError, TypeError), match=r"^seed: expected"):
            run_experiment(configuration(seed=seed), old_run, overwrite=True)
        assert bytes_of(old_run) == before

    def test_overwriting_replaces_the_run_and_nothing_else(self, old_run):
        (old_run / "pictures" / "mine.png").write_text("mine")
        before = bytes_of(old_run)
        run_experiment(configuration(1, seed=1), old_run, overwrite=True)
        after = bytes_of(old_run)
        assert {name for name in before if name not in after} == {"checkpoint-previous.pt", *events(before)}
        assert after.keys() - before.keys() == set(events(after))
        same = {name for name in after if after[name] == before.get(name)}
        # The source images of the first test group, and the shape of the model, are the same whatever the seed.
        assert same == {"notes.txt", "pictures", "pictures/mine.png", "pictures/group.png", "model.yaml", "tensorboard"}
        assert RunConfig.from_yaml(old_run / "config.yaml").training.seed == 1


@pytest.mark.parametrize("checkpoint_every", [None, 1])
def test_a_folder_that_is_removed_on_the_way(tmp_path, without_pictures, checkpoint_every):
    """Nothing can be opened by what would be written after that."""
    folder = tmp_path / "run"
    config = configuration(epochs=2, checkpoint_every=checkpoint_every)
    with pytest.raises(RunFolderError, match=r"run: its config\.yaml has been removed while the run went on \(put the"):
        run_experiment(config, folder, brief=True, on_epoch=lambda row: shutil.rmtree(folder))
    assert not folder.exists()


class TestResuming:
    def test_is_a_run_that_never_stopped(self, old_run, run_of_three):
        result = resume_experiment(old_run, epochs=3)
        assert result.metrics == run_of_three.metrics
        assert curves(old_run) == curves(run_of_three.folder)
        resumed, whole = (load_file(folder / "generator.safetensors") for folder in (old_run, run_of_three.folder))
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
        assert RunConfig.from_yaml(old_run / "config.yaml") == configuration(3)
        assert (old_run / "notes.txt").read_text() == "mine"

    def test_with_another_kernel_it_says_so(self, old_run, without_pictures, compiled, request):
        said = []
        resume_experiment(old_run, epochs=3, announce=said.append)
        assert not any("from here with" in line for line in said)
        request.getfixturevalue("torch_alone")
        result = resume_experiment(old_run, epochs=4, announce=said.append)
        assert any("with the kernel 'c', from here with 'torch'" in line for line in said)
        assert result.metrics["kernel"] == "torch"

    def test_numbers_the_epochs_in_one_way(self, old_run, run_of_three, without_pictures):
        """A spreadsheet that reads "1.0", "2.0", "3" takes them for different kinds."""
        resume_experiment(old_run, epochs=3)
        texts = [(folder / "curves.csv").read_text() for folder in (old_run, run_of_three.folder)]
        first, second = ([line.split(",")[0] for line in text.splitlines()] for text in texts)
        assert first == second == ["epoch", "1", "2", "3"]

    def test_calls_back_for_the_new_epochs_only(self, old_run, without_pictures):
        rows = []
        resume_experiment(old_run, epochs=3, on_epoch=rows.append)
        assert [row["epoch"] for row in rows] == [3]

    def test_stopped_before_the_first_epoch(self, run_of_two, tmp_path, without_pictures):
        folder = RunFolder.create(tmp_path / "run", configuration(2))
        assert resume_experiment(folder.path).metrics == run_of_two.metrics

    def test_stopped_while_training(self, tmp_path, without_pictures):
        config = configuration(3, constant_share=0.3)

        def stop(row):
            if row["epoch"] == 2:
                raise StopError

        with pytest.raises(StopError):
            run_experiment(config, tmp_path / "run", on_epoch=stop)
        assert resume_experiment(tmp_path / "run").metrics == run_experiment(config, tmp_path / "whole").metrics

    def test_stopped_on_its_way_to_more_epochs(self, old_run, run_of_three, without_pictures):
        """The scores of the second epoch are not those of the third, which ``metrics.json`` would say it has."""

        def stop(message):
            if message.startswith("scoring its rivals"):
                raise StopError

        (old_run / "evaluation.json").write_text("{}")
        with pytest.raises(StopError):
            resume_experiment(old_run, epochs=3, announce=stop)
        assert describe_run(old_run)["checkpoint"] == "after epoch 3 of 3"
        assert not describe_run(old_run)["finished"]
        assert not (old_run / "evaluation.json").exists()
        assert resume_experiment(old_run).metrics == run_of_three.metrics
        assert describe_run(old_run)["finished"]

    def test_stopped_before_a_checkpoint_and_not_gone_that_far(
        self, run_of_two, run_of_three, tmp_path, without_pictures, monkeypatch
    ):
        """What is there of the third epoch, which is better, goes; the best weights of the others are still there."""
        assert run_of_three.metrics["best"]["epoch"] == 3
        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "checkpoint", stopping_at(3, Recorder.checkpoint))
            with pytest.raises(StopError):
                run_experiment(configuration(3), tmp_path / "run")
        assert resume_experiment(tmp_path / "run", epochs=2).metrics == run_of_two.metrics
        assert curves(tmp_path / "run") == curves(run_of_two.folder)
        left, expected = bytes_of(tmp_path / "run"), bytes_of(run_of_two.folder)
        for name in ("generator", "ema", "best"):
            assert left[f"{name}.safetensors"] == expected[f"{name}.safetensors"], name

    def test_stopped_before_the_best_weights(self, run_of_two, tmp_path, without_pictures, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "best", stopping_at(2, Recorder.best))
            with pytest.raises(StopError):
                run_experiment(configuration(2), tmp_path / "run")
        assert resume_experiment(tmp_path / "run").metrics == run_of_two.metrics
        assert bytes_of(tmp_path / "run")["best.safetensors"] == bytes_of(run_of_two.folder)["best.safetensors"]

    def test_a_finished_run_is_only_scored(self, old_run, run_of_two, without_pictures):
        before = bytes_of(old_run)
        assert resume_experiment(old_run).metrics == run_of_two.metrics
        assert bytes_of(old_run) == before

    @staticmethod
    def assert_refused(folder, message, **options):
        before = bytes_of(folder)
        with pytest.raises(RunFolderError, match=message):
            resume_experiment(folder, **options)
        assert bytes_of(folder) == before

    def test_no_run(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        self.assert_refused(tmp_path, "expected a run folder")
        self.assert_refused(tmp_path / "missing", "expected a run folder")
        assert not (tmp_path / "missing").exists()

    def test_a_damaged_checkpoint(self, old_run, run_of_three, without_pictures):
        """The one before takes its place, and in the end nothing is lost but time."""
        file = old_run / "checkpoint.pt"
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.warns(CheckpointWarning, match="going on from .*after epoch 1"):
            assert resume_experiment(old_run, epochs=3).metrics == run_of_three.metrics
        assert curves(old_run) == curves(run_of_three.folder)

    def test_two_damaged_checkpoints(self, old_run):
        for name in ("checkpoint.pt", "checkpoint-previous.pt"):
            (old_run / name).write_bytes((old_run / name).read_bytes()[:1000])
        self.assert_refused(old_run, r"checkpoint\.pt: not a checkpoint, or damaged")
        self.assert_refused(old_run, r"checkpoint\.pt: not a checkpoint, or damaged", epochs=5)

    @pytest.mark.parametrize(
        ("entry", "other"),
        [("k: 5", "k: 6"), ("w_solver: unrolled", "w_solver: fc"), ("group_size: 40", "group_size: 20")],
    )
    def test_a_checkpoint_of_another_configuration(self, old_run, entry, other):
        config = old_run / "config.yaml"
        assert entry in config.read_text()
        config.write_text(config.read_text().replace(entry, other))
        self.assert_refused(old_run, r"checkpoint\.pt: does not fit the configuration")
        self.assert_refused(old_run, r"checkpoint\.pt: does not fit the configuration", epochs=5)

    @pytest.mark.parametrize(
        "state",
        [{}, {"epoch": 1}, {"epoch": "two"}, {"epoch": 1, "step": 0}, {"epoch": 1, "step": 0, "generator": 3}],
        ids=["empty", "old", "text", "bare", "odd"],
    )
    def test_a_checkpoint_of_something_else(self, old_run, state):
        for name in ("checkpoint.pt", "checkpoint-previous.pt"):
            torch.save(state, old_run / name)
        self.assert_refused(old_run, r"checkpoint\.pt: ")

    @pytest.mark.parametrize(
        ("entry", "other"),
        [
            ("k: 5", "k: 0"),
            ("k: 5", "K: 5"),
            ("model:", "model: ["),
            ("group_size: 40", "group_size: forty"),
            ("dataset: digits", "dataset: 7"),
            ("seed: 0", "seed: -1"),
        ],
    )
    def test_a_broken_configuration(self, old_run, entry, other):
        config = old_run / "config.yaml"
        assert entry in config.read_text()
        config.write_text(config.read_text().replace(entry, other))
        self.assert_refused(old_run, r"config\.yaml: ")

    def test_a_configuration_that_does_not_fit_the_data(self, old_run):
        config = old_run / "config.yaml"
        config.write_text(config.read_text().replace("group_size: 40", "group_size: 15"))
        for name in ("checkpoint.pt", "checkpoint-previous.pt"):
            (old_run / name).unlink()
        before = bytes_of(old_run)
        with pytest.raises((RunFolderError, ValueError), match="group_size: expected a multiple of the 10 classes"):
            resume_experiment(old_run)
        assert bytes_of(old_run) == before

    def test_fewer_epochs_than_done(self, old_run):
        self.assert_refused(old_run, "epochs: .* has 2 already; got 1", epochs=1)

    @pytest.mark.parametrize("damage", WEIGHTS)
    def test_weights_come_back_from_the_checkpoint(self, old_run, run_of_two, without_pictures, damage):
        for name in ("generator", "ema", "best"):
            WEIGHTS[damage](old_run / f"{name}.safetensors")
        assert resume_experiment(old_run).metrics == run_of_two.metrics
        left, expected = bytes_of(old_run), bytes_of(run_of_two.folder)
        for name in ("generator", "ema", "best"):
            assert left[f"{name}.safetensors"] == expected[f"{name}.safetensors"], name

    @pytest.mark.parametrize("damage", ["gone", "cut"])
    def test_the_best_weights_of_an_earlier_epoch_do_not(self, old_run, without_pictures, damage):
        """No checkpoint has them any more; that is said, and nothing else is taken for them."""
        with_a_better_first_epoch(old_run)
        WEIGHTS[damage](old_run / "best.safetensors")
        before = bytes_of(old_run).get("best.safetensors")
        with pytest.warns(CheckpointWarning, match=r"best\.safetensors: missing or damaged, .*of epoch 1, which"):
            resume_experiment(old_run)
        assert bytes_of(old_run).get("best.safetensors") == before

    @pytest.mark.parametrize("name", ["generator", "ema", "best"])
    def test_damaged_weights_say_what_to_do(self, old_run, name):
        WEIGHTS["cut"](old_run / f"{name}.safetensors")
        with pytest.raises(RunFolderError, match=rf"{name}\.safetensors: .*train --resume {old_run} writes it again"):
            evaluate_run(old_run, weights=name)
        for checkpoint in ("checkpoint.pt", "checkpoint-previous.pt"):
            (old_run / checkpoint).unlink()
        with pytest.raises(RunFolderError, match=rf"{name}\.safetensors: .*\(put a copy of it back\)$"):
            evaluate_run(old_run, weights=name)

    @pytest.mark.parametrize("damage", CURVES)
    def test_curves_that_are_lost_come_from_the_checkpoint(self, old_run, run_of_three, without_pictures, damage):
        """With fewer rows, worse weights would be taken for the best ones."""
        file = old_run / "curves.csv"
        CURVES[damage](file)
        with pytest.warns(CheckpointWarning, match=r"curves\.csv: missing, damaged or changed; .*train_seconds"):
            assert describe_run(old_run)["result"] != "none yet"
        with pytest.warns(CheckpointWarning, match=r"curves\.csv: missing, damaged or changed"):
            assert resume_experiment(old_run, epochs=3).metrics == run_of_three.metrics
        assert curves(old_run) == curves(run_of_three.folder)
        assert bytes_of(old_run)["best.safetensors"] == bytes_of(run_of_three.folder)["best.safetensors"]

    def test_curves_that_are_lost_come_back_to_a_finished_run(self, old_run, run_of_two, without_pictures):
        (old_run / "curves.csv").unlink()
        with pytest.warns(CheckpointWarning, match=r"curves\.csv"):
            assert resume_experiment(old_run).metrics == run_of_two.metrics
        assert curves(old_run) == curves(run_of_two.folder)

    def test_times_are_kept_where_a_row_is_whole(self, old_run, without_pictures):
        file = old_run / "curves.csv"
        before = read_curves(file, 2)
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
        with pytest.warns(CheckpointWarning, match=r"curves\.csv: .*lacks of 1 epochs"):
            resume_experiment(old_run)
        first, second = read_curves(file, 2)
        assert first == before[0]
        assert second == {name: value for name, value in before[1].items() if name not in TIMES}

    @pytest.mark.parametrize("damage", CURVES)
    def test_curves_that_are_lost_with_an_older_checkpoint(self, old_run, damage):
        """One from before checkpoints had the rows."""
        for name in ("checkpoint.pt", "checkpoint-previous.pt"):
            without_curves(old_run / name)
        CURVES[damage](old_run / "curves.csv")
        self.assert_refused(old_run, r"curves\.csv: ", epochs=3)

    def test_an_older_checkpoint(self, old_run, run_of_three, without_pictures):
        without_curves(old_run / "checkpoint.pt")
        assert resume_experiment(old_run, epochs=3).metrics == run_of_three.metrics
        assert curves(old_run) == curves(run_of_three.folder)


OF_FIVE_STEPS = configuration(3, checkpoint_every=2).with_options(limit_groups=5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with five steps in an epoch and checkpoints after the second and the fourth; tests only read it."""
    return run_experiment(OF_FIVE_STEPS, tmp_path_factory.mktemp("whole") / "run")


class StopError(Exception):
    pass


def stopping_at(call, whole):
    """A method that stops the run in that call of it, before it does anything."""
    calls = []

    def counted(*args):
        calls.append(None)
        if len(calls) == call:
            raise StopError
        return whole(*args)

    return counted


class NoWriter:
    def add_scalar(self, *args):
        pass

    def flush(self):
        pass

    def close(self):
        pass


def stopping_in_scores(monkeypatch, folder, config, call):
    """A run that is stopped as it begins to score something for that time; two scores an epoch."""
    whole, calls = diffnmf.evaluation.scoring.mean_scores, []

    def stop(*args):
        calls.append(None)
        if len(calls) == call:
            raise StopError
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr("diffnmf.evaluation.scoring.mean_scores", stop)
        with pytest.raises(StopError):
            run_experiment(config, folder)


class TestInsideAnEpoch:
    """Stopped between two checkpoints of an epoch."""

    def test_is_a_run_that_never_stopped(self, whole, tmp_path, without_pictures):
        def stopping(steps):
            for step in steps:
                yield step
                if steps.start == 0 and step == 3 and (tmp_path / "run" / "curves.csv").exists():
                    raise StopError  # after four steps of the second epoch

        with pytest.raises(StopError):
            run_experiment(OF_FIVE_STEPS, tmp_path / "run", progress=stopping)
        seen = []
        result = resume_experiment(tmp_path / "run", progress=lambda steps: seen.append(steps) or steps)
        assert seen == [range(4, 5), range(5)]
        assert result.metrics == whole.metrics
        assert curves(result.folder) == curves(whole.folder)
        for name in ("generator", "ema", "best"):
            first, second = (load_file(run.folder / f"{name}.safetensors") for run in (result, whole))
            assert all(torch.equal(first[key], second[key]) for key in second), name

    def test_stopped_while_scoring(self, whole, tmp_path, without_pictures, monkeypatch):
        """The checkpoint after the last step of an epoch leaves none to be made: its times are not known."""
        config = OF_FIVE_STEPS.with_options(checkpoint_every=5)
        stopping_in_scores(monkeypatch, tmp_path / "run", config, call=3)
        seen, rows = [], []
        result = resume_experiment(
            tmp_path / "run", progress=lambda steps: seen.append(steps) or steps, on_epoch=rows.append
        )
        assert seen == [range(5, 5), range(5)]
        assert [row.keys() >= TIMES for row in rows] == [False, True]
        assert result.metrics == whole.metrics
        assert curves(result.folder) == curves(whole.folder)
        print_epoch(rows[0])

    def test_the_steps_that_are_left_are_timed(self, tmp_path, without_pictures, monkeypatch):
        """Five groups in steps of four: two groups are one step, and are not counted as less than none."""
        config = configuration(1, checkpoint_every=1, batch_size=4).with_options(limit_groups=5)
        stopping_in_scores(monkeypatch, tmp_path / "run", config, call=1)
        rows = []
        resume_experiment(tmp_path / "run", on_epoch=rows.append)
        assert TIMES.isdisjoint(rows[0])

    def test_fewer_epochs_than_begun(self, tmp_path, without_pictures, monkeypatch):
        """Scores and weights would be those of an epoch that the configuration does not know."""
        stopping_in_scores(monkeypatch, tmp_path / "run", OF_FIVE_STEPS, call=3)
        before = bytes_of(tmp_path / "run")
        with pytest.raises(RunFolderError, match="has 1 and 4 steps of the next already; got 1"):
            resume_experiment(tmp_path / "run", epochs=1)
        assert bytes_of(tmp_path / "run") == before

    def test_an_epoch_has_left_all_when_its_checkpoint_is_there(self, tmp_path, without_pictures, monkeypatch):
        """Nothing of it is made again, so its picture and its curves in TensorBoard have to be there before."""
        written = []
        monkeypatch.setattr(Recorder, "_tensorboard", lambda self, epoch: written.append("curves") or NoWriter())
        monkeypatch.setattr(Recorder, "picture", lambda self, file, epoch: written.append("picture"))
        monkeypatch.setattr(Recorder, "checkpoint", lambda self, state: written.append("checkpoint"))
        monkeypatch.setattr(Recorder, "best", lambda self, trainer: written.append("best"))
        run_experiment(configuration(1, picture_every=1), tmp_path / "run")
        assert written == ["curves", "picture", "checkpoint", "best"], "the best weights are in the checkpoint, too"

    def test_the_best_weights_are_those_of_the_lowest_test_error(self, whole):
        columns = {"generator": "test_relative_error", "ema": "ema_test_relative_error"}
        rows = curves(whole.folder)
        error, weights, epoch = min(
            (row[column], weights, int(row["epoch"])) for row in rows for weights, column in columns.items()
        )
        assert whole.metrics["best"] == {"weights": weights, "epoch": epoch, "relative_error": error}
        with safe_open(whole.folder / "best.safetensors", "pt") as file:
            assert file.metadata() == {"weights": weights, "epoch": str(epoch), "test_relative_error": str(error)}

    def test_tensorboard_has_the_curves(self, whole):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(whole.folder / "tensorboard"))
        events.Reload()
        values = [event.value for event in events.Scalars("test/relative_error")]
        assert values == pytest.approx([row["test_relative_error"] for row in curves(whole.folder)], rel=1e-6)
        assert "train/critic_loss" in events.Tags()["scalars"]


class TestEqualRuns:
    def test_leave_equal_files(self, run_of_two, tmp_path):
        """All but what has times in it: curves.csv, TensorBoard's events."""
        again = bytes_of(run_experiment(configuration(2), tmp_path / "again").folder)
        first = bytes_of(run_of_two.folder)
        differing = {name for name in first.keys() | again.keys() if first.get(name) != again.get(name)}
        assert differing <= {"curves.csv", *events(first), *events(again)}

    def test_the_best_is_not_nan(self):
        rows = [{"epoch": epoch, "test_relative_error": error} for epoch, error in ((1, math.nan), (2, 0.5), (3, 0.6))]
        assert best_of(rows) == (0.5, "generator", 2)


class TestEvaluatedWhileItIsTrained:
    """What is in evaluation.json is of the weights that are there, or it is not there."""

    def test_and_its_weights_replaced_then(self, tmp_path, without_pictures):
        folder, there = tmp_path / "run", []

        def evaluate(row):
            there.append((folder / "evaluation.json").exists())
            evaluate_run(folder, weights="generator")
            there.append((folder / "evaluation.json").exists())

        run_experiment(configuration(2), folder, brief=True, on_epoch=evaluate)
        assert there == [False, True] * 2
        assert (folder / "evaluation.json").exists(), "of the last epoch"

    def test_and_its_weights_replaced_meanwhile(self, old_run, run_of_three):
        def go_on(message):
            with replacing(old_run / "best.safetensors") as file:
                shutil.copy(run_of_three.folder / "best.safetensors", file)

        message = r"evaluation\.json: not written, because best\.safetensors has been replaced"
        with pytest.warns(CheckpointWarning, match=message):
            scores = evaluate_run(old_run, announce=go_on)
        assert scores["test"]["groups"] == 2
        assert not (old_run / "evaluation.json").exists()

    def test_and_finished_then(self, old_run, without_pictures):
        """Scored again, it is what it was."""
        evaluate_run(old_run)
        resume_experiment(old_run)
        assert (old_run / "evaluation.json").exists()
        WEIGHTS["of another epoch"](old_run / "ema.safetensors")
        resume_experiment(old_run)
        assert not (old_run / "evaluation.json").exists()


class TestTelling:
    def test_where_the_run_is_and_what_comes_after_the_last_epoch(self, tmp_path):
        told = []
        run_experiment(
            configuration(1), tmp_path / "run", announce=told.append, on_epoch=lambda row: told.append("epoch")
        )
        assert told == [
            f"run folder: {tmp_path / 'run'}",
            f"computing on cpu ({hardware('cpu')})",
            "epoch",
            "scoring the model on 2 groups of test images and as many of training images",
            "scoring its rivals ANLS, merge, spa and SVD on 2 of the test groups",
            "drawing the pictures",
        ]

    def test_of_a_brief_run(self, tmp_path):
        told = []
        run_experiment(configuration(1), tmp_path / "run", announce=told.append, brief=True)
        assert [line.split()[0] for line in told] == ["run", "computing", "scoring"]

    def test_an_interrupt_says_how_to_go_on(self, tmp_path, without_pictures):
        def interrupt(row):
            raise KeyboardInterrupt

        folder = tmp_path / "my run"
        with pytest.raises(KeyboardInterrupt) as caught:
            run_experiment(configuration(2), folder, on_epoch=interrupt)
        assert caught.value.__notes__ == [f"Go on with: diffnmf train --resume '{folder}'"]


class TestFailures:
    def test_nan_keeps_the_last_good_checkpoint(self, tmp_path, without_pictures, monkeypatch):
        calls = []

        def spoiled(Y_hat, Y, kind, Y_start):
            calls.append(None)
            loss = (Y_hat - Y).abs().mean()
            return loss * float("nan") if len(calls) == 4 else loss

        monkeypatch.setattr("diffnmf.training.generator_loss.reconstruction_loss", spoiled)
        message = (
            r"^reconstruction_loss: .*nan in epoch 2, step 2; kept is .*checkpoint\.pt, after epoch 1; start again"
        )
        with pytest.raises(DivergenceError, match=message):
            run_experiment(configuration(3), tmp_path / "run")
        assert RunFolder(tmp_path / "run").checkpoints.load(configuration(3))["epoch"] == 1
        assert [row["epoch"] for row in curves(tmp_path / "run")] == [1]

    def test_a_full_disk_in_the_second_epoch(self, run_of_two, tmp_path, without_pictures, monkeypatch):
        """What the first epoch left goes on to the same end, once there is space again."""
        import diffnmf.files

        def full(path, whole=diffnmf.files.to_disk):
            if epochs:
                raise OSError(28, "No space left on device")
            whole(path)

        epochs = []
        with monkeypatch.context() as patch:
            patch.setattr("diffnmf.files.to_disk", full)
            with pytest.raises(RunFolderError, match=r"curves\.csv: could not be written \(No space left"):
                run_experiment(configuration(2), tmp_path / "run", on_epoch=epochs.append)
        assert len(epochs) == 1
        assert resume_experiment(tmp_path / "run").metrics == run_of_two.metrics

    def test_an_output_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(RunFolderError, match=r"output: cannot write to .*file/run"):
            run_experiment(configuration(), tmp_path / "file" / "run")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
    def test_a_name_that_is_not_utf8(self, old_run, tmp_path):
        """It is refused before the training, after which neither weights nor pictures could be written."""
        bad = tmp_path / os.fsdecode(b"caf\xe9")
        with pytest.raises(ValueError, match=r"^output: expected a name in UTF-8; got '.*caf\\udce9'"):
            run_experiment(configuration(), bad)
        with pytest.raises(ValueError, match=r"^dataset: expected a name in UTF-8; got 'caf\\udce9'"):
            run_experiment(configuration().with_options(dataset=str(bad)), tmp_path / "other")
        with pytest.raises(ValueError, match=r"^run \(or --resume\): expected a name in UTF-8"):
            resume_experiment(old_run.rename(bad))
        assert not (tmp_path / "other").exists()

    def test_pictures_every_few_epochs(self, tmp_path):
        config = configuration(2, picture_every=2)
        folder = run_experiment(config, tmp_path / "run").folder
        with Image.open(folder / "pictures" / "epoch-0002.png") as picture:
            assert picture.format == "PNG"
        assert not (folder / "pictures" / "epoch-0001.png").exists()
