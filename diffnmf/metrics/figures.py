"""Pictures of factorisations and of training. matplotlib is imported where it draws; its global state is left alone."""

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffnmf.factorization import RankScores
from diffnmf.files import replacing
from diffnmf.metrics.scores import column_error, relative_error
from diffnmf.solvers.problem import one_where_zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color Universal Design": told apart with every kind of colour vision. Yellow is left out: it
# is hardly seen on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
SEPARATOR_COLOUR = "#4A86C5"  # no grey, so that no line between images passes for pixels

FigureFile = str | os.PathLike[str]


def image_grid(
    columns: Tensor,
    image_shape: tuple[int, int],
    *,
    columns_per_row: int | None = None,
    vmax: float | None = None,
    separator: float = 0.5,
) -> np.ndarray:
    """Lay the columns of a matrix out as images, row by row, with lines of one pixel between them.

    Arguments:
        columns: (n, c), each column an image flattened row by row, n = height · width.
        image_shape: (height, width).
        columns_per_row: images in a row; by default about a wide rectangle of a multiple of ten a row
            (40 images: 4 × 10).
        vmax: the value that becomes white; by default the largest of all. Zero and less are black.
        separator: the grey of the lines, and of the places that no image fills; NaN to colour them otherwise.

    Returns:
        (rows·(height + 1) − 1, columns_per_row·(width + 1) − 1), float64 greys in [0, 1].
    """
    height, width = _check_images("columns", columns, image_shape)
    images = columns.detach().double().cpu().numpy().T.reshape(-1, height, width)
    white = float(images.max()) if vmax is None else vmax
    greys = np.clip(images / white, 0, 1) if white > 0 else np.zeros_like(images)
    count = len(greys)
    per_row = _default_row(count) if columns_per_row is None else columns_per_row
    if per_row < 1:
        raise ValueError(f"columns_per_row: expected an int ≥ 1; got {per_row}")
    rows = math.ceil(count / per_row)
    cells = np.full((rows * per_row, height + 1, width + 1), separator)  # each image with its line below and right
    cells[:count, :height, :width] = greys
    montage = cells.reshape(rows, per_row, height + 1, width + 1).swapaxes(1, 2)
    return montage.reshape(rows * (height + 1), per_row * (width + 1))[:-1, :-1]


def save_decomposition(
    path: FigureFile, Y: Tensor, H: Tensor, W: Tensor, image_shape: tuple[int, int], *, title: str = ""
) -> None:
    """Save one picture of Y ≈ HW: the group, its basis, and the reconstruction with its errors.

    Y and HW share one grey scale from 0 (black) to 1 (white); each column of H is scaled to its own maximum, since
    its size says nothing (it can move into W); dead columns are black.

    Arguments:
        path: the file; its ending says the format (.png, .pdf, .svg). An older file is replaced as a whole.
        Y: (n, m), values in [0, 1].
        H: (n, k).
        W: (k, m).
        image_shape: (height, width) of an image, height · width = n.
        title: a line above the panels.
    """
    for name, matrix in (("Y", Y), ("H", H)):
        _check_images(name, matrix, image_shape)
    Y_hat = H @ W
    eps, relative = column_error(Y, Y_hat).item(), relative_error(Y, Y_hat).item()
    largest = H.amax(dim=0)
    dead = int((largest == 0).sum())
    dead_note = f" ({dead} dead, black)" if dead else ""
    panels = {
        f"Group Y: {Y.shape[1]} images": Y,
        f"Basis H: {H.shape[1]} images, each scaled to its own maximum{dead_note}": H / one_where_zero(largest),
        f"Reconstruction HW, greys as in Y: eq. (4) {eps:.3g}, relative error {relative:.3g}": Y_hat,
    }
    _save(_stack_of_montages(panels, image_shape, vmax=1.0, title=title), path)


def save_image_grid(
    path: FigureFile, columns: Tensor, image_shape: tuple[int, int], *, title: str, vmax: float = 1.0
) -> None:
    """Save the columns of one matrix as images, with a grey bar from 0 (black) to vmax (white).

    Arguments:
        path: as in ``save_decomposition``.
        columns: (n, c).
        image_shape: (height, width) of an image, height · width = n.
        title: what the images are.
        vmax: the value shown white.
    """
    if not vmax > 0:
        raise ValueError(f"vmax: expected a number > 0, the value shown white; got {vmax}")
    _check_images("columns", columns, image_shape)
    _save(_stack_of_montages({title: columns}, image_shape, vmax), path)


def save_curves(path: FigureFile, rows: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]) -> None:
    """Save the course of training: one panel of lines over epochs for each entry of ``panels``.

    Arguments:
        path: as in ``save_decomposition``.
        rows: one mapping per epoch, with its number under "epoch". A value that a row lacks, or that is not
            finite, is passed over; the line goes on to the next one.
        panels: title of a panel -> names of the values it shows.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not panels:
        raise ValueError("panels: expected at least one title with its names; got none")
    across = min(len(panels), 2)
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(5.2 * across, 3.4 * down), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for ax, (title, names) in zip(axes, panels.items(), strict=False):
        _draw_curves(ax, title, {name: _series(rows, name) for name in names})
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    _save(figure, path)


def save_rank_selection(path: FigureFile, scores: RankScores, svd: Tensor | None = None, *, title: str = "") -> None:
    """Save the held-out error over the number of components, with its spread over the folds and its minimum marked.

    Of a batch the mean over its problems is drawn, and the k of the smallest mean is marked.

    Arguments:
        path: as in ``save_decomposition``.
        scores: what ``cross_validate_rank`` returned.
        svd: what ``svd_curve`` returned for the same Y: the error that rank k cannot go below on entries it sees.
        title: a line above the panel.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ks = scores.ks
    mean, std = (x.detach().cpu().reshape(len(ks), -1).nanmean(1).numpy() for x in (scores.mean, scores.std))
    figure = Figure(figsize=(6.4, 4.8), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    ax = figure.subplots()
    problems = f", mean of {scores.best.numel()} problems" if scores.best.numel() > 1 else ""
    label = f"entries held out{problems}, ± std over folds"
    ax.errorbar(ks, mean, std, color=COLOURS[0], marker="o", markersize=4, capsize=3, linewidth=1.8, label=label)
    if svd is not None:
        curve = svd.detach().cpu().reshape(len(svd), -1).nanmean(1)[1 : max(ks) + 1]
        ax.plot(
            range(1, len(curve) + 1), curve.numpy(), "--", color=COLOURS[1], linewidth=1.8, label="SVD, all entries"
        )
    if np.isfinite(mean).any():
        best = int(np.nanargmin(mean))
        label = f"smallest at k = {ks[best]}"
        ax.plot(ks[best], mean[best], "o", markersize=13, fillstyle="none", color="black", label=label)
    _label_axes(ax, title, "components k", "relative error")
    ax.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, fontsize=10)
    _save(figure, path)


def _label_axes(ax: "Axes", title: str, x: str, y: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_title(title, fontsize=13, parse_math=False)
    ax.set_xlabel(x, fontsize=11)
    ax.set_ylabel(y, fontsize=11)
    ax.tick_params(labelsize=10)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.3)


def _series(rows: Iterable[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """The (epoch, value) pairs that exist and are finite."""
    pairs = ((row.get("epoch", math.nan), row.get(name, math.nan)) for row in rows)
    return [(float(x), float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _draw_curves(ax: "Axes", title: str, curves: Mapping[str, list[tuple[float, float]]]) -> None:
    looks = itertools.product(LINE_STYLES, COLOURS)  # seven colours, then the same ones dashed
    for (name, points), (style, colour) in zip(curves.items(), itertools.cycle(looks), strict=False):
        if points:
            marker = "o" if len(points) <= 25 else None  # a single epoch would be no line at all
            x, y = zip(*points, strict=True)
            ax.plot(x, y, style, color=colour, marker=marker, markersize=4, linewidth=1.8, label=name)
    if any(curves.values()):
        legend = ax.legend(fontsize=10, framealpha=0.8, ncols=math.ceil(len(curves) / 8))
        legend.set_in_layout(False)  # a long one must not squeeze the panel
    else:
        ax.text(0.5, 0.5, "no values yet", transform=ax.transAxes, ha="center", va="center", fontsize=11)
    _label_axes(ax, title, "epoch", next(iter(curves)) if len(curves) == 1 else "value")


def _stack_of_montages(
    panels: Mapping[str, Tensor], image_shape: tuple[int, int], vmax: float, title: str = ""
) -> "Figure":
    """One montage below the other, each under its label and with its grey bar from 0 to vmax."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    greys = colormaps["gray"].with_extremes(bad=SEPARATOR_COLOUR)
    montages = [
        image_grid(*_enlarged(columns, image_shape), vmax=vmax, separator=math.nan) for columns in panels.values()
    ]
    widest = max(montage.shape[1] for montage in montages)
    heights = [8.0 * montage.shape[0] / widest for montage in montages]  # inches, the widest montage being 8 wide
    lines = 0.5 * len(montages) + (0.6 if title else 0.1)
    figure = Figure(figsize=(8.8, sum(heights) + lines), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    if title:
        figure.suptitle(title, fontsize=16, parse_math=False)
    axes = figure.subplots(len(montages), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, label, montage in zip(axes, panels, montages, strict=True):
        image = ax.imshow(montage * vmax, cmap=greys, vmin=0.0, vmax=vmax)
        ax.set_xlim(-0.5, widest - 0.5)  # one scale for all panels: a narrow montage leaves the rest of its row free
        ax.set_title(label, fontsize=13, loc="left", pad=9, parse_math=False)
        ax.set_axis_off()
        beside = ax.inset_axes((montage.shape[1] / widest + 0.01, 0, 0.02, 1))
        bar = figure.colorbar(image, cax=beside, ticks=[0.0, vmax])
        bar.ax.tick_params(labelsize=11)
    return figure


def _enlarged(columns: Tensor, image_shape: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Tiny images with every pixel repeated, so that the lines between them stay thin beside them."""
    height, width = image_shape
    times = max(1, 28 // max(height, width))
    images = columns.T.reshape(-1, height, width).repeat_interleave(times, 1).repeat_interleave(times, 2)
    return images.flatten(1).T, (height * times, width * times)


def _save(figure: "Figure", path: FigureFile) -> None:
    with replacing(path) as file:
        figure.savefig(file, format=file.suffix.lstrip(".") or "png", dpi=150)


def _default_row(count: int) -> int:
    """Ten images a row, or the multiple of ten that comes nearest to a rectangle 2.5 times as wide as high."""
    return min(count, 10 * max(1, round(math.sqrt(2.5 * count) / 10)))


def _check_images(name: str, columns: Tensor, image_shape: tuple[int, int]) -> tuple[int, int]:
    height, width = image_shape
    if not isinstance(columns, torch.Tensor) or columns.ndim != 2 or columns.shape[1] == 0:
        came = tuple(columns.shape) if isinstance(columns, torch.Tensor) else type(columns).__name__
        raise ValueError(f"{name}: expected one matrix (n, columns) with at least one column; got {came} (pick one)")
    if columns.shape[0] != height * width:
        raise ValueError(
            f"image_shape: expected height · width = {columns.shape[0]}, the rows of {name}; got {height} × {width}"
        )
    return height, width
