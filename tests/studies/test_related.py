"""The systems of the related work in one table: scores, resuming, what is written, the command."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from helpers import rand
from torch import Tensor
from typer.testing import CliRunner

from diffnmf.autoencoders import AUTOENCODERS
from diffnmf.cli import app
from diffnmf.data import ImageSet
from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.studies.related import SYSTEMS, measure_related
from diffnmf.studies.related.report import COLUMNS
from diffnmf.studies.related.scores import linear_guesses, neighbour_guesses, scores_of
from diffnmf.studies.related.systems import Learnt

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"k": 8, "train_images": 200, "test_images": 100}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    output = tmp_path_factory.mktemp("related")
    return output, measure_related("digits", output, seeds=(0,), **SMALL)


def test_every_autoencoder_has_a_row():
    assert SYSTEMS.keys() >= AUTOENCODERS.keys()


def test_the_scores_tell_the_systems_apart(measured):
    _, rows = measured
    scores = {name: its[0] for name, its in rows.items()}
    assert scores.keys() == SYSTEMS.keys()
    assert all(its.keys() >= COLUMNS.keys() and its["seconds"] > 0 for its in scores.values())
    assert min(scores, key=lambda name: scores[name]["relative_error"]) == "pca"  # the best of any sign
    assert scores["pca"]["negative_share"] > 0.3
    assert scores["ncae"]["negative_share"] > 0
    signed = ("pca", "ncae")
    assert all(its["smallest_weight"] >= 0 for name, its in scores.items() if name not in signed)
    assert scores["nmf"]["part_overlap"] < scores["k_means"]["part_overlap"]
    for its in scores.values():
        assert its["relative_error"] < 1
        assert its["linear_accuracy"] > 0.3
        assert its["neighbour_accuracy"] > 0.3


def test_what_is_written(measured):
    output, rows = measured
    text = (output / "related.md").read_text(encoding="utf-8")
    assert "k = 8 components, learnt from 200 images and scored on 100" in text
    for system in SYSTEMS.values():
        assert f"| {system.label} | 1 |" in text
    assert "| GAN-UNET digits-k16, k = 16 for 40 images |" in text
    with (output / "related.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [float(line["relative_error"]) for line in lines] == [its[0]["relative_error"] for its in rows.values()]
    assert (output / "parts.png").stat().st_size > 10_000
    assert (output / "related.html").read_text(encoding="utf-8").count("data:image/png;base64,") == 1


def test_what_is_named_twice_is_there_once(tmp_path):
    """One seed twice would be two that agree to the last digit."""
    rows = measure_related("digits", tmp_path, systems=("pca", "k_means", "pca"), seeds=(0, 0), **SMALL)
    assert {name: len(its) for name, its in rows.items()} == {"pca": 1, "k_means": 1}


def test_it_goes_on_where_it_was_stopped(measured, tmp_path):
    output, rows = measured
    content = json.loads((output / "related.json").read_text(encoding="utf-8"))
    del content["rows"]["pca"]["seeds"]["0"]
    (tmp_path / "related.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "parts").mkdir()
    for file in (output / "parts").iterdir():
        if file.stem != "nmf-seed0":  # components that are missing are measured again
            (tmp_path / "parts" / file.name).write_bytes(file.read_bytes())
    told = []
    again = measure_related("digits", tmp_path, seeds=(0,), announce=told.append, **SMALL)
    assert [line.split(" (")[0] for line in told] == ["measuring NMF, NNLS codes, seed 0", "measuring PCA, seed 0"]
    assert again["ncae"] == rows["ncae"]
    for name in ("pca", "nmf"):
        assert again[name][0]["relative_error"] == rows[name][0]["relative_error"]


def test_results_of_something_else_are_refused(measured, tmp_path):
    output, _ = measured
    with pytest.raises(RunFolderError, match="the study was measured with other settings: k is 9 here and was 8"):
        measure_related("digits", output, seeds=(0,), **{**SMALL, "k": 9})
    content = json.loads((output / "related.json").read_text(encoding="utf-8"))
    content["rows"]["ncae"]["options"]["max_iter"] = 3
    (tmp_path / "related.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunFolderError, match="NCAE was measured with other settings: max_iter is 400 here and was 3"):
        measure_related("digits", tmp_path, seeds=(0,), **SMALL)


def test_a_damaged_file_is_named(measured, tmp_path):
    def refused(content):
        (tmp_path / "related.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(RunFolderError, match=r"related\.json: not the measurements of this study, or damaged"):
            measure_related("digits", tmp_path, seeds=(0,), **SMALL)

    whole = json.loads((measured[0] / "related.json").read_text(encoding="utf-8"))
    row = whole["rows"]["pca"]
    refused([])
    for other in (
        3,
        {"seeds": row["seeds"]},
        {"options": {}},
        {"options": 3, "seeds": {}},
        {"options": {}, "seeds": []},
        {"options": {}, "seeds": {"0": {}}},
        {"options": {}, "seeds": {"0": {**row["seeds"]["0"], "seconds": "1"}}},
    ):
        refused({**whole, "rows": {**whole["rows"], "pca": other}})


def test_damaged_components_are_named_before_anything_is_measured(measured, tmp_path):
    """And measured again when they are gone, as the message says."""
    shutil.copytree(measured[0], tmp_path / "copy")
    file = tmp_path / "copy" / "parts" / "pca-seed0.npy"
    whole = file.read_bytes()
    np.save(tmp_path / "other.npy", np.zeros((9, 64), np.float32))
    damaged = {
        "reading magic string": b"",
        "Failed to read all data": whole[: len(whole) // 2],
        "the magic string is not correct": b"not an array",
        "EOF in multi-line statement": whole.replace(b"}", b" ", 1),
        r"expected the shape \(8, 64\); got \(9, 64\)": (tmp_path / "other.npy").read_bytes(),
    }
    told = []
    options = {"systems": ("pca", "k_means"), "seeds": (0, 1), "announce": told.append, **SMALL}
    for why, content in damaged.items():
        file.write_bytes(content)
        with pytest.raises(RunFolderError, match=rf"pca-seed0\.npy: not the components of PCA, .*{why}.* \(delete it"):
            measure_related("digits", tmp_path / "copy", **options)
    assert not told
    file.unlink()
    measure_related("digits", tmp_path / "copy", **{**options, "seeds": (0,)})
    assert [line.split(" (")[0] for line in told] == ["measuring PCA, seed 0"]
    assert np.load(file).shape == (8, 64)


def test_a_system_that_diverges_is_left_out(tmp_path, monkeypatch):
    def diverge(X, k, seed):
        raise DivergenceError("loss: became nan")

    monkeypatch.setitem(SYSTEMS, "pca", dataclasses.replace(SYSTEMS["pca"], learn=diverge))
    told = []
    rows = measure_related("digits", tmp_path, systems=("pca", "nmf"), seeds=(0,), announce=told.append, **SMALL)
    assert rows.keys() == {"nmf"}
    assert "PCA, seed 0: loss: became nan" in told
    with pytest.raises(RunFolderError, match="every system diverged"):
        measure_related("digits", tmp_path / "none", systems=("pca",), seeds=(0,), **SMALL)


def test_images_without_classes_have_no_accuracies(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 4), dtype=np.uint8)
    np.save(tmp_path / "mine.npy", images)
    rows = measure_related(str(tmp_path / "mine.npy"), tmp_path / "out", systems=("pca",), seeds=(0,), k=3)
    assert np.isnan(rows["pca"][0]["linear_accuracy"])
    text = (tmp_path / "out" / "related.md").read_text(encoding="utf-8")
    assert "learnt from 48 images and scored on 12" in text
    assert "| – | – |" in text
    assert "GAN-UNET" not in text
    np.save(tmp_path / "mine.npy", 255 - images)
    with pytest.raises(RunFolderError, match=r"the study was measured with other settings: images is '\w{16}' here"):
        measure_related(str(tmp_path / "mine.npy"), tmp_path / "out", systems=("pca",), seeds=(0, 1), k=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"systems": ()}, "systems: expected at least one system"),
        ({"systems": ("x",)}, "systems: expected one of .*; got 'x'"),
        ({"seeds": ()}, "seeds: expected at least one"),
        ({"k": 65}, "k: expected at most 64, the smaller of 200 images and 64 pixels; got 65"),
        ({"train_images": 0}, "train_images"),
        ({"test_images": 0}, "test_images"),
    ],
)
def test_slips_are_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        measure_related("digits", tmp_path, **{**SMALL, **options})
    assert not list(tmp_path.iterdir())


def images_of(rows: Tensor, labels: list[int]) -> ImageSet:
    return ImageSet("mine", rows.reshape(len(rows), 1, -1), torch.tensor(labels))


def test_scores_by_hand():
    """Two pixels, two classes: the system keeps the first pixel and forgets the second."""
    train = images_of(torch.tensor([[0.1, 0.0], [0.2, 0.0], [0.8, 0.0], [0.9, 0.0]]), [0, 0, 1, 1])
    test = images_of(torch.tensor([[0.3, 0.4], [0.85, 0.0]]), [0, 1])
    part = torch.tensor([[1.0, 0.0]])
    system = Learnt(lambda X: X @ part.T, lambda codes: codes @ part, part, [torch.tensor([-2.0, 0.0, 1.0, 3.0])])
    scores = scores_of(system, train, test)
    assert scores["relative_error"] == pytest.approx(0.4 / np.sqrt(0.3**2 + 0.4**2 + 0.85**2))
    assert (scores["hoyer_H"], scores["part_overlap"]) == (1, 0)
    assert (scores["negative_share"], scores["smallest_weight"]) == (0.25, -2)
    assert (scores["linear_accuracy"], scores["neighbour_accuracy"]) == (1, 1)


def test_the_classifiers():
    codes = rand(60, 2, dtype=torch.float32)
    labels = (codes[:, 0] > codes[:, 1]).long()
    unseen = rand(200, 2, seed=1, dtype=torch.float32)
    truth = (unseen[:, 0] > unseen[:, 1]).long()
    constant = torch.ones(60, 1), torch.ones(200, 1)  # a code that never varies changes nothing
    guesses = linear_guesses(torch.cat((codes, constant[0]), 1), labels, torch.cat((unseen, constant[1]), 1))
    assert (guesses == truth).double().mean() > 0.95
    assert torch.equal(guesses, linear_guesses(codes, labels, unseen))
    nearest = (unseen[:, None] - codes).norm(dim=-1).argmin(dim=1)
    assert torch.equal(neighbour_guesses(codes, labels, unseen), labels[nearest])


def test_the_command(measured):
    output, _ = measured
    arguments = ["--k", 8, "--seeds", 1, "--train-images", 200, "--test-images", 100, "--systems", "pca,nmf"]
    command = ["related", "--dataset", "digits", "--output", output, "--device", "cpu", *arguments]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == 0, result.output
    assert "| PCA | 1 |" in result.stdout
    assert "| NCAE |" not in result.stdout
    result = CliRunner().invoke(app, ["related", "--systems", "x", "--output", str(output)])
    assert result.exit_code == 2
