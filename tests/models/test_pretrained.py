"""The models that come with the library: each is what the registry says it is."""

import hashlib
import json

import pytest
import torch
from helpers import REAL_DATA

from diffnmf.data import group_matrix
from diffnmf.errors import RunFolderError
from diffnmf.evaluation import score_generator
from diffnmf.factorization import merge
from diffnmf.metrics import relative_error
from diffnmf.models import GANUNMF, pretrained
from diffnmf.models.pretrained import FOLDER, WITH_WEIGHTS, registry
from diffnmf.runs import DataConfig, evaluate_run, factorize_images
from diffnmf.runs.parts import load_run_data

pytestmark = pytest.mark.usefixtures("one_thread")
WITHOUT_WEIGHTS = sorted(set(registry()) - set(WITH_WEIGHTS))


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_its_error_is_the_stated_one(name):
    entry = registry()[name]
    if entry["data"]["dataset"] != "digits" and not REAL_DATA:
        pytest.skip("needs DIFFNMF_DATA")
    stated = entry["metrics"]["first_groups"]
    data = load_run_data(DataConfig(**entry["data"]), seed=entry["seed"], data_dir=None, device="cpu")
    groups = data.test_groups[: stated["groups"]]
    found = score_generator(GANUNMF.pretrained(name).generator, data.split.test, groups)
    assert found["relative_error"] == pytest.approx(stated["relative_error"], rel=1e-3)
    assert found["hoyer_H"] == pytest.approx(stated["hoyer_H"], rel=1e-3)
    Y = group_matrix(data.split.test, groups)
    H, W = merge(Y, entry["model"]["k"])
    assert found["relative_error"] < 1.03 * relative_error(Y, H @ W).mean(), "hardly worse than merging"


def test_the_files_are_small_and_those_of_the_registry():
    sizes = {name: (FOLDER / f"{name}.safetensors").stat().st_size for name in WITH_WEIGHTS}
    assert max(sizes.values()) <= 4e6
    assert sum(sizes.values()) <= 12e6
    assert {file.stem for file in FOLDER.glob("*.safetensors")} == set(WITH_WEIGHTS)
    for name, entry in registry().items():
        assert entry["command"].startswith("diffnmf train")
        assert {"--reconstruction", "--sparsity"} < set(entry["command"].split()), "whatever the defaults become"
        assert entry["data_licence"]
        assert (entry["sha256"] is None) == (name not in WITH_WEIGHTS)
        if entry["sha256"] is not None:
            assert hashlib.sha256((FOLDER / f"{name}.safetensors").read_bytes()).hexdigest() == entry["sha256"]


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match=r"name: expected one of digits-k16, .*; got 'mnist-k31'"):
        GANUNMF.pretrained("mnist-k31")
    for name in WITHOUT_WEIGHTS:
        with pytest.raises(ValueError, match=rf"got '{name}', whose images are for research only \(train it: diffnmf"):
            GANUNMF.pretrained(name)


def test_images_of_another_size():
    with pytest.raises(ValueError, match=r"columns of 40 images of 8×8; got \(784, 40\)"):
        GANUNMF.pretrained("digits-k16").factorize(torch.rand(784, 40))


def test_damaged_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    (tmp_path / "registry.json").write_text(json.dumps(registry_of(FOLDER)))
    with pytest.raises(RunFolderError, match=r"digits-k16\.safetensors: expected the weights of 'digits-k16'"):
        GANUNMF.pretrained("digits-k16")
    (tmp_path / "digits-k16.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match=r"damaged, its sha256 is not that of registry\.json"):
        GANUNMF.pretrained("digits-k16")


def registry_of(folder):
    return json.loads((folder / "registry.json").read_text())


def test_its_name_in_the_place_of_a_run(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8))
    factors = factorize_images("digits-k16", "mine.npy", "out")
    assert factors.H.shape == (2, 64, 16)
    assert factors.indices[1].tolist() == list(range(10, 50)), "the last group is the last 40 images"
    with pytest.raises(ValueError, match="weights: expected none beside the pretrained model digits-k16; got 'ema'"):
        factorize_images("digits-k16", "mine.npy", "other", weights="ema")
    np.save("large.npy", np.zeros((50, 9, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="images: expected 8×8"):
        factorize_images("digits-k16", "large.npy", "other")
    scores = evaluate_run("digits-k16")
    stated = registry()["digits-k16"]["metrics"]
    assert scores["test"]["relative_error"] == pytest.approx(stated["relative_error"], rel=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.npy", "large.npy", "out"}, "nothing is written"
    (tmp_path / "digits-k16").mkdir()
    with pytest.raises(RunFolderError, match=r"expected the folder of a model; digits-k16 has no model\.yaml"):
        factorize_images("digits-k16", "mine.npy", "other")
