"""The pictures of a run: an unseen group, its factorisation, and the curves."""

from pathlib import Path

from diffnmf.data import group_matrix
from diffnmf.figures.curves import save_curves
from diffnmf.figures.montages import save_decomposition, save_image_grid, unit_peak
from diffnmf.files import explained_errors
from diffnmf.models import GANUNMF
from diffnmf.runs.parts import RunData
from diffnmf.runs.run_folder import RunFolder

Row = dict[str, float]

PANELS = {
    "Reconstruction loss (train)": ["reconstruction_loss"],
    "Relative error (test)": ["test_relative_error", "ema_test_relative_error"],
    "Column error, eq. (4) (test)": ["test_column_error", "ema_test_column_error"],
    "Adversarial losses": ["critic_loss", "adversarial_loss"],
    "Critic accuracy": ["critic_accuracy_real", "critic_accuracy_fake"],
    "Basis H (test)": ["test_hoyer_H", "test_copying"],
}


def save_epoch_picture(folder: RunFolder, model: GANUNMF, data: RunData, epoch: int) -> Path:
    """The first test group, its H and its reconstruction, after an epoch; returns the file."""
    shape = data.split.test.image_shape
    Y = group_matrix(data.split.test, data.test_groups[0])  # (n, m)
    H, W, _ = (part.cpu() for part in model.factorize(Y))
    file = folder.epoch_picture(epoch)
    with explained_errors(folder.pictures):
        save_decomposition(file, Y.cpu(), H, W, shape, title=f"An unseen group, epoch {epoch}")
    return file


def save_final_pictures(folder: RunFolder, model: GANUNMF, data: RunData, rows: list[Row]) -> None:
    """The first test group and its factorisation, piece by piece and together, and the curves."""
    shape, pictures = data.split.test.image_shape, folder.pictures
    Y = group_matrix(data.split.test, data.test_groups[0])  # (n, m)
    H, W, Y_hat = (part.cpu() for part in model.factorize(Y))
    source = Y.cpu()
    with explained_errors(pictures):
        save_image_grid(pictures / "group.png", source, shape, title="An unseen group Y")
        save_image_grid(pictures / "basis.png", unit_peak(H), shape, title="Its basis H, each column to its maximum")
        save_image_grid(pictures / "reconstruction.png", Y_hat, shape, title="Its reconstruction HW")
        save_decomposition(pictures / "decomposition.png", source, H, W, shape)
        if rows:
            save_curves(pictures / "curves.png", rows, _panels(rows))


def _panels(rows: list[Row]) -> dict[str, list[str]]:
    """The curves that were recorded, by what they have in common."""
    recorded = {name for row in rows for name in row}
    panels = {title: [name for name in names if name in recorded] for title, names in PANELS.items()}
    return {title: names for title, names in panels.items() if names}
