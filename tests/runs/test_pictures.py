"""The pictures of a run: what they show of components that are not used, and that they speak in words."""

from types import SimpleNamespace

import pytest
import torch

from diffnmf.data import DataSplit, ImageSet
from diffnmf.models.generator import Factorization
from diffnmf.runs import pictures
from diffnmf.runs.run_folder import RunFolder

ROW = {
    "epoch": 1,
    **dict.fromkeys(("reconstruction_loss", "critic_loss", "adversarial_loss"), 0.5),
    **dict.fromkeys(("critic_accuracy_real", "critic_accuracy_fake", "learning_rate", "train_seconds"), 0.5),
    **{
        f"{weights}test_{score}": 0.5
        for weights in ("", "ema_")
        for score in ("relative_error", "column_error", "hoyer_H")
    },
    "test_copying": 0.5,
}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What is given to the functions that draw, by the name of the file, of a model with two dead components."""
    generator = torch.Generator().manual_seed(0)
    H, W = torch.rand(64, 5, generator=generator), torch.rand(5, 6, generator=generator)
    W[1] = 0
    H[:, 3] = 0
    calls = {}

    def note(path, *args, **kwargs):
        calls[path.name] = (*args, kwargs.get("title", ""))

    for name in ("save_image_grid", "save_decomposition", "save_curves"):
        monkeypatch.setattr(pictures, name, note)
    model = SimpleNamespace(
        factorize=lambda Y: Factorization(H, W, H @ W), config=SimpleNamespace(w_solver="bpp", k=5, m=6)
    )
    images = ImageSet("clothes", torch.rand(6, 8, 8, generator=generator), None)
    data = SimpleNamespace(split=DataSplit(images, images), test_groups=torch.arange(6)[None])
    pictures.save_final_pictures(RunFolder(tmp_path), model, data, [ROW])
    pictures.save_epoch_picture(RunFolder(tmp_path), model, data, 3)
    return SimpleNamespace(calls=calls, H=H, W=W)


def test_components_that_are_not_used_are_black_in_the_picture_of_the_basis(drawn):
    columns, _, title = drawn.calls["basis.png"]
    assert (columns[:, [1, 3]] == 0).all()
    assert (columns[:, [0, 2, 4]].amax(0) == 1).all()
    assert "(2 dead, black)" in title


def test_titles_say_whose_it_is(drawn):
    assert set(drawn.calls) == {
        *("group.png", "basis.png", "reconstruction.png", "decomposition.png", "curves.png", "epoch-0003.png")
    }
    for name in ("basis.png", "reconstruction.png", "decomposition.png", "epoch-0003.png"):
        title = drawn.calls[name][-1]
        assert "GAN-UNET (bpp)" in title, name
        assert "of clothes" in title, name
    assert "epoch 3" in drawn.calls["epoch-0003.png"][-1]
    assert "of clothes" in drawn.calls["group.png"][-1]


def test_curves_are_called_in_words(drawn):
    _, panels, _ = drawn.calls["curves.png"]
    shown = {name for panel in panels.values() for name in panel}
    assert {
        "test_column_error",
        "ema_test_column_error",
        "test_copying",
        "critic_accuracy_fake",
        "reconstruction_loss",
    } <= shown
    assert "learning_rate" not in shown
    for text in [*panels, *(label for panel in panels.values() for label in panel.values())]:
        assert "_" not in text
        assert "ema" not in text.split()
