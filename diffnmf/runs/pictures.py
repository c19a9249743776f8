"""The pictures of a run: an unseen group, its factorisation, and the curves."""

from pathlib import Path

from diffnmf.data import group_matrix
from diffnmf.figures.curves import save_curves
from diffnmf.figures.montages import save_decomposition, save_image_grid, scale_in_words, unit_peak
from diffnmf.files import explained_errors
from diffnmf.metrics.names import NAMES
from diffnmf.models import GANUNMF
from diffnmf.runs.curves import Row
from diffnmf.runs.parts import RunData
from diffnmf.runs.run_folder import RunFolder

LAST, AVERAGE = "generator", "moving average of its weights"
# Title of a panel -> value in a row of the curves -> what the legend calls it.
PANELS = {
    "Reconstruction loss, training groups": {"reconstruction_loss": "reconstruction loss"},
    "Relative error, test groups": {"test_relative_error": LAST, "ema_test_relative_error": AVERAGE},
    "Column error, eq. (4), test groups": {"test_column_error": LAST, "ema_test_column_error": AVERAGE},
    "Adversarial losses": {"critic_loss": "critic", "adversarial_loss": "generator"},
    "Share that the critic judges right": {
        "critic_accuracy_real": "real: disturbed by PCA",
        "critic_accuracy_fake": "fake: reconstructions",
    },
    "Basis H, test groups": {"test_hoyer_H": NAMES["hoyer_H"], "test_copying": NAMES["copying"]},
}


def save_epoch_picture(folder: RunFolder, model: GANUNMF, data: RunData, epoch: int) -> Path:
    """The first test group, its H and its reconstruction, after an epoch; returns the file."""
    shape = data.split.test.image_shape
    Y = group_matrix(data.split.test, data.test_groups[0])  # (n, m)
    H, W, _ = (part.cpu() for part in model.factorize(Y))
    file = folder.epoch_picture(epoch)
    with explained_errors(folder.pictures):
        save_decomposition(file, Y.cpu(), H, W, shape, title=f"{_factorised(model, data)}, epoch {epoch}")
    return file


def save_final_pictures(folder: RunFolder, model: GANUNMF, data: RunData, rows: list[Row]) -> None:
    """The first test group and its factorisation, piece by piece and together, and the curves."""
    shape, pictures = data.split.test.image_shape, folder.pictures
    Y = group_matrix(data.split.test, data.test_groups[0])  # (n, m)
    H, W, Y_hat = (part.cpu() for part in model.factorize(Y))
    source, whose = Y.cpu(), _factorised(model, data)
    of_group = f"{whose[0].lower()}{whose[1:]}"
    with explained_errors(pictures):
        save_image_grid(pictures / "group.png", source, shape, title=f"{_group(data)}: Y")
        basis = f"Basis H of {of_group},\n{scale_in_words(H, W)}"
        save_image_grid(pictures / "basis.png", unit_peak(H, W), shape, title=basis)
        save_image_grid(pictures / "reconstruction.png", Y_hat, shape, title=f"Reconstruction HW of {of_group}")
        save_decomposition(pictures / "decomposition.png", source, H, W, shape, title=whose)
        if rows:
            save_curves(pictures / "curves.png", rows, _panels(rows))


def _group(data: RunData) -> str:
    return f"An unseen group of {data.split.test.name}"


def _factorised(model: GANUNMF, data: RunData) -> str:
    return f"{_group(data)}, by {model_name(model)}"


def model_name(model: GANUNMF) -> str:
    """What a model is called in a title."""
    return f"GAN-UNET ({model.config.w_solver})"


def _panels(rows: list[Row]) -> dict[str, dict[str, str]]:
    """The curves that were recorded, by what they have in common."""
    recorded = {name for row in rows for name in row}
    panels = {
        title: {name: words for name, words in values.items() if name in recorded} for title, values in PANELS.items()
    }
    return {title: values for title, values in panels.items() if values}
