"""A user's own images: found from anywhere, found where they have been moved, and never mistaken for others."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffnmf.errors import RunFolderError
from diffnmf.runs import DataConfig, ModelConfig, RunConfig, evaluate_run, resume_experiment, run_experiment
from diffnmf.runs.places import fingerprint, with_absolute_paths
from diffnmf.training import TrainingConfig

CONFIG = RunConfig(
    DataConfig("mine.npy", group_size=6),
    ModelConfig(k=3, width=8, critic_width=8),
    TrainingConfig(epochs=1, constant_share=1.0, picture_every=None),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def save_images(path, seed=0, count=60):
    np.save(path, np.random.default_rng(seed).integers(0, 256, (count, 6, 5), dtype=np.uint8))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with images, from which runs are started."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    save_images("mine.npy")
    return tmp_path / "home"


@pytest.fixture
def elsewhere(home, monkeypatch):
    """A run of one epoch, seen from another folder."""
    run_experiment(CONFIG, "run", brief=True)
    (home.parent / "elsewhere").mkdir()
    monkeypatch.chdir(home.parent / "elsewhere")
    return home / "run"


def stored(run):
    return RunConfig.from_yaml(run / "config.yaml").data.dataset


def test_a_run_is_used_from_another_folder(elsewhere, home):
    assert stored(elsewhere) == str(home / "mine.npy")
    resume_experiment(elsewhere, epochs=2, brief=True)
    assert evaluate_run(elsewhere)["dataset"] == str(home / "mine.npy")


def test_images_that_were_moved(elsewhere, home):
    shutil.move(home / "mine.npy", "there.npy")
    for use in (resume_experiment, evaluate_run):
        with pytest.raises(RunFolderError, match=rf"config\.yaml says .* in {home}/mine\.npy.*--dataset"):
            use(elsewhere)
    assert evaluate_run(elsewhere, dataset="there.npy")["test"]["groups"] == 2
    resume_experiment(elsewhere, epochs=2, dataset="there.npy", brief=True)
    assert stored(elsewhere) == str(home.parent / "elsewhere" / "there.npy")
    resume_experiment(elsewhere, epochs=3, brief=True)


def test_moving_changes_no_result(elsewhere, home):
    whole = run_experiment(with_absolute_paths(CONFIG.with_options(dataset=str(home / "mine.npy"), epochs=2)), "whole")
    shutil.move(home / "mine.npy", "there.npy")
    assert resume_experiment(elsewhere, epochs=2, dataset="there.npy").metrics == whole.metrics


def test_a_checkpoint_before_the_move_is_still_good(elsewhere, home):
    """The last one is damaged; the one before knows the old place only."""
    resume_experiment(elsewhere, epochs=2, brief=True)
    shutil.move(home / "mine.npy", "there.npy")
    resume_experiment(elsewhere, epochs=3, dataset="there.npy", brief=True)
    (elsewhere / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="after epoch 2"):
        resume_experiment(elsewhere, brief=True)


def test_other_images_are_refused(elsewhere, home):
    """Also where they took the place of those of the run."""
    save_images("others.npy", seed=1)
    with pytest.raises(RunFolderError, match=r"dataset: expected the images .* those in .*others\.npy are others"):
        resume_experiment(elsewhere, epochs=2, dataset="others.npy")
    assert stored(elsewhere) == str(home / "mine.npy")
    save_images(home / "mine.npy", seed=1)
    with pytest.raises(RunFolderError, match=r"dataset: expected the images .* those in .*mine\.npy are others"):
        resume_experiment(elsewhere, epochs=2)


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
def test_a_data_set_is_no_place(elsewhere, dataset):
    with pytest.raises(ValueError, match=r"dataset: expected, beside resume, the place .*mine\.npy"):
        resume_experiment(elsewhere, dataset=dataset)


def test_a_run_on_a_data_set_has_no_other_place(tmp_path):
    config = replace(CONFIG, data=DataConfig("digits", limit_groups=1))
    run = run_experiment(config, tmp_path / "run", brief=True).folder
    with pytest.raises(ValueError, match="trained on 'digits'; got 'somewhere'"):
        resume_experiment(run, dataset="somewhere")
    resume_experiment(run, epochs=2, dataset="digits", brief=True)


def test_a_run_of_an_older_version(elsewhere, home, monkeypatch):
    """Its path is relative, and its checkpoints know nothing of their images."""
    monkeypatch.chdir(home)
    config = elsewhere / "config.yaml"
    config.write_text(config.read_text().replace(str(home / "mine.npy"), "mine.npy"))
    for name in ("checkpoint.pt",):
        state = torch.load(elsewhere / name, weights_only=True)
        del state["images"]
        state["config"]["data"]["dataset"] = "mine.npy"
        torch.save(state, elsewhere / name)
    resume_experiment("run", epochs=2, brief=True)
    assert stored(elsewhere) == str(home / "mine.npy")
    assert torch.load(elsewhere / "checkpoint.pt", weights_only=True)["images"]


def test_a_configuration_may_name_the_home_of_the_user(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home.parent))
    config = with_absolute_paths(CONFIG.with_options(dataset="~/home/mine.npy", start_from="~/home"))
    assert config.data.dataset == str(home / "mine.npy") and config.model.start_from == str(home)


def test_a_run_to_start_from_is_found_from_anywhere(home):
    run_experiment(CONFIG, "first", brief=True)
    run_experiment(CONFIG.with_options(start_from="first"), "second", brief=True)
    assert RunConfig.from_yaml(home / "second" / "config.yaml").model.start_from == str(home / "first")


def test_names_of_data_sets_stay_names(home, monkeypatch):
    (home / "digits").mkdir()
    for name in ("digits", "mnist", "nowhere.npy"):
        assert with_absolute_paths(CONFIG.with_options(dataset=name)).data.dataset == name


def test_fingerprints_tell_pixels_labels_and_splits_apart(home):
    from diffnmf.data import load_dataset

    prints = {fingerprint(load_dataset("digits")), fingerprint(load_dataset("digits"))}
    assert len(prints) == 1
    split = load_dataset("mine.npy")
    pixels = split.train.images.clone()
    pixels[0, 0, 0] ^= 1
    prints |= {fingerprint(split), fingerprint(load_dataset("mine.npy", seed=1))}
    prints.add(fingerprint(replace(split, train=replace(split.train, images=pixels))))
    prints.add(
        fingerprint(replace(split, train=replace(split.train, labels=torch.zeros(len(pixels), dtype=torch.long))))
    )
    assert len(prints) == 5


class TestWeightsThatAreNotNumbers:
    def test_are_refused(self, elsewhere):
        from safetensors.torch import load_file, save_file

        for name in ("best", "ema", "generator"):
            file = elsewhere / f"{name}.safetensors"
            weights = load_file(file)
            spoiled = sorted(weights)[0]
            weights[spoiled].view(-1)[0] = float("nan")
            save_file(weights, file)
            with pytest.raises(RunFolderError, match=rf"{name}\.safetensors: expected finite .* {spoiled} "):
                evaluate_run(elsewhere, weights=name)
        assert not (elsewhere / "evaluation.json").exists()

    def test_scores_that_are_none_are_null(self, elsewhere, monkeypatch):
        """Finite weights, but numbers that overflow: the file stays JSON for all readers, the table shows nan."""
        nan = {"eps": float("nan"), "relative_error": float("nan"), "groups": 2}
        monkeypatch.setattr("diffnmf.runs.scores.score_generator", lambda *args: dict(nan))
        evaluate_run(elsewhere)
        content = json.loads((elsewhere / "evaluation.json").read_text(), parse_constant=pytest.fail)
        assert content["test"]["eps"] is None
