"""The picture of the README: digits as sums of parts that never subtract.

    python examples/overview.py --output docs/overview.png     # MNIST downloads itself; about half a minute

The parts H are an NMF of training images; the weights of three unseen digits are exact, by ``nnls``. After the picture
that made NMF known: Lee and Seung (1999), Learning the parts of objects by non-negative matrix factorization.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from diffnmf import factorize, nnls
from diffnmf.data import group_matrix, load_dataset
from diffnmf.figures.montages import image_grid
from diffnmf.metrics import relative_error

INK, PALE = "#1F3A5F", "white"


def main(dataset: str = "mnist", output: Path = Path("overview.png"), parts: int = 49, images: int = 5000) -> float:
    """Draw it, and return the relative error of the digits that it shows."""
    split = load_dataset(dataset)
    shape = split.train.image_shape
    learnt_from = torch.arange(min(images, len(split.train)))
    train, Y = group_matrix(split.train, learnt_from), group_matrix(split.test, torch.arange(3))
    H = factorize(train, parts, init="nndsvda", tol=1e-3, max_iter=300).H
    W = nnls(H, Y).W  # (parts, 3)
    draw(output, H, W, Y, shape)
    return float(relative_error(Y, H @ W))


def draw(output: Path, H: Tensor, W: Tensor, Y: Tensor, shape: tuple[int, int]) -> None:
    """H as a grid of images, once; then a row for each digit: itself, its weights in the same grid, the sum."""
    ink = LinearSegmentedColormap.from_list("ink", [PALE, INK])
    side = round(H.shape[1] ** 0.5)
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    parts, rows = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.15))[0]
    basis = parts.add_subplot()
    basis.imshow(image_grid(H / H.amax(0), shape, columns_per_row=side, separator=0.25), cmap=ink)
    basis.set_title(f"H: {H.shape[1]} parts, learned", fontsize=11)
    axes = rows.subplots(W.shape[1], 3)
    titles = ("y: unseen", "w ≥ 0, in the same places", "Hw")
    panels = ((Y, shape), (W, (side, side)), (H @ W, shape))
    for j, row in enumerate(axes):
        for axis, title, (columns, size) in zip(row, titles, panels, strict=True):
            axis.imshow(columns[:, j].reshape(size).numpy(), cmap=ink, vmin=0)
            if j == 0:
                axis.set_title(title, fontsize=11)
    for axis in (basis, *axes.flat):
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#B8C4D2")
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist", choices=("mnist", "fashion", "digits"))
    parser.add_argument("--output", type=Path, default=Path("overview.png"))
    print(f"relative error {main(**vars(parser.parse_args())):.3f}")
