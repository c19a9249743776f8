"""Pictures of factorisations: the columns of a matrix as images, laid out in montages."""

import math
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from diffnmf.checks import (
    check_count,
    check_image_shape,
    check_not_empty,
    check_number,
    check_optional_count,
    check_tensor,
)
from diffnmf.figures.drawing import FigureFile, new_figure, save_figure
from diffnmf.metrics.matrices import product
from diffnmf.metrics.scores import column_error, dead_mask, relative_error
from diffnmf.solvers.norms import one_where_zero

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEPARATOR_COLOUR = "#4A86C5"  # no grey, so that no line between images passes for pixels
EMPTY_COLOUR = "white"  # as the page around: where no image is there is nothing
EMPTY = 2.0  # above every grey
LABEL_WIDTH = 85  # characters of a label that fit over the widest montage


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
        vmax: the value that becomes white, > 0; by default the largest of all that are finite. Zero and less are black.
        separator: the grey of the lines, and of the places that no image fills; NaN to colour them otherwise.

    Returns:
        (rows·(height + 1) − 1, columns_per_row·(width + 1) − 1), float64 greys in [0, 1]; NaN stays NaN.
    """
    height, width = _check_images("columns", columns, image_shape)
    return _laid_out(columns, (height, width), columns_per_row, vmax, lines=separator, empty=separator)


def _laid_out(
    columns: Tensor,
    image_shape: tuple[int, int],
    columns_per_row: int | None,
    vmax: float | None,
    *,
    lines: float,
    empty: float,
) -> np.ndarray:
    """What ``image_grid`` returns, with a grey of their own for the places that no image fills."""
    height, width = image_shape
    images = columns.detach().double().cpu().numpy().T.reshape(-1, height, width)
    if vmax is None:  # one pixel that is no number does not make all others black
        white = float(np.max(images, where=np.isfinite(images), initial=0.0))
    else:
        white = check_number("vmax", vmax, "(0, inf)", alternative="None")
    greys = np.clip(images, 0, white) / (white or 1.0)
    count = len(greys)
    per_row = check_optional_count("columns_per_row", columns_per_row, at_least=1) or _default_row(count)
    rows = math.ceil(count / per_row)
    cells = np.full((rows * per_row, height + 1, width + 1), float(lines))  # each with its line below and right
    cells[:count, :height, :width] = greys
    cells[count:] = empty
    montage = cells.reshape(rows, per_row, height + 1, width + 1).swapaxes(1, 2)
    return montage.reshape(rows * (height + 1), per_row * (width + 1))[:-1, :-1]


def save_decomposition(
    path: FigureFile, Y: Tensor, H: Tensor, W: Tensor, image_shape: tuple[int, int], *, title: str = ""
) -> None:
    """Save one picture of Y ≈ HW: the group, its basis, and the reconstruction with its errors.

    Y and HW share one grey scale from 0 (black) to 1 (white); H is shown as ``unit_peak(H, W)``.

    Arguments:
        path: the file; its ending says the format (.png, .pdf, .svg). An older file is replaced as a whole.
        Y: (n, m), values in [0, 1].
        H: (n, k).
        W: (k, m).
        image_shape: (height, width) of an image, height · width = n.
        title: a line above the panels.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.
    """
    for name, matrix in (("Y", Y), ("H", H)):
        _check_images(name, matrix, image_shape)
    Y_hat = product(H, W)
    column, relative = column_error(Y, Y_hat).item(), relative_error(Y, Y_hat).item()
    panels = {
        f"Group Y: {Y.shape[1]} images": Y,
        f"Basis H: {H.shape[1]} images, {scale_in_words(H, W)}": unit_peak(H, W),
        f"Reconstruction HW, greys as in Y: column error {column:.3g}, relative error {relative:.3g}": Y_hat,
    }
    save_panels(path, panels, image_shape, title=title)


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
    _check_images("columns", columns, image_shape)
    save_panels(path, {title: columns}, image_shape, vmax=vmax)


def save_panels(
    path: FigureFile,
    panels: Mapping[str, Tensor],
    image_shape: tuple[int, int],
    *,
    title: str = "",
    vmax: float = 1.0,
    columns_per_row: int | None = None,
    across: int = 1,
) -> None:
    """Save several matrices as images, a montage of each, all on the same grey scale.

    Arguments:
        path: as in ``save_decomposition``.
        panels: label of a montage -> its columns (n, c); c may differ from one to the next.
        image_shape: (height, width) of an image, height · width = n.
        title: a line above the montages.
        vmax: the value shown white in all of them, > 0; zero and less are black.
        columns_per_row: as in ``image_grid``.
        across: montages side by side; the others follow below.
    """
    across = min(check_count("across", across, at_least=1), len(panels) or 1)
    vmax = check_number("vmax", vmax, "(0, inf)")
    check_not_empty("panels", panels, "label with its matrix")
    for label, columns in panels.items():
        _check_images(f"panels[{label!r}]", columns, image_shape)
    montages = {
        label: _laid_out(*_enlarged(columns, image_shape), columns_per_row, vmax, lines=math.nan, empty=EMPTY)
        for label, columns in panels.items()
    }
    save_figure(_page_of_montages(montages, vmax, title, across), path)


def unit_peak(H: Tensor, W: Tensor | None = None) -> Tensor:
    """H (n, k) with each column scaled to a maximum of 1, its size saying nothing since it can move into W.

    A zero column stays zero, which is black. With W (k, m), so is every column of a component that contributes nothing
    (see ``dead_components``): scaled up, rounding and the edges of what a network draws would pass for parts.
    """
    if W is not None:
        H = H.masked_fill(dead_mask(H, W), 0.0)
    return H / one_where_zero(H.amax(dim=0))


def scale_in_words(H: Tensor, W: Tensor) -> str:
    """What a label says of ``unit_peak(H, W)``: the scale, and how many components are dead."""
    dead = int(dead_mask(H, W).sum())
    return f"each scaled to its own maximum{f' ({dead} dead, black)' if dead else ''}"


def _page_of_montages(panels: Mapping[str, np.ndarray], vmax: float, title: str, across: int) -> "Figure":
    """Montages row by row, each under its label and with its grey bar from 0 to vmax."""
    from matplotlib import colormaps

    greys = colormaps["gray"].with_extremes(bad=SEPARATOR_COLOUR, over=EMPTY_COLOUR)
    montages, labels = list(panels.values()), [_wrapped(label, LABEL_WIDTH // across) for label in panels]
    widest = max(montage.shape[1] for montage in montages)
    inch = 8.0 / across / widest  # of a pixel, the widest montage filling its part of a row of 8 inches
    starts = range(0, len(montages), across)
    heights = [inch * max(len(montage) for montage in montages[i : i + across]) for i in starts]
    breaks = sum(max(label.count("\n") for label in labels[i : i + across]) for i in starts)
    figure = new_figure(8.8, sum(heights) + 0.5 * len(starts) + 0.25 * breaks + (0.6 if title else 0.1), title)
    axes = figure.subplots(len(starts), across, squeeze=False, gridspec_kw={"height_ratios": heights})
    for ax in axes.flat[len(montages) :]:
        ax.set_axis_off()
    for ax, label, montage in zip(axes.flat, labels, montages, strict=False):
        image = ax.imshow(montage * vmax, cmap=greys, vmin=0.0, vmax=vmax)
        ax.set_xlim(-0.5, widest - 0.5)  # one scale for all panels: a narrow montage leaves the rest of its row free
        ax.set_title(label, fontsize=13, loc="left", pad=9, parse_math=False)
        ax.set_axis_off()
        ax.set_anchor("NW")
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


def _wrapped(label: str, width: int) -> str:
    return "\n".join(fill(line, width) for line in label.splitlines())


def _default_row(count: int) -> int:
    """Ten images a row, or the multiple of ten that comes nearest to a rectangle 2.5 times as wide as high."""
    return min(count, 10 * max(1, round(math.sqrt(2.5 * count) / 10)))


def _check_images(name: str, columns: Tensor, image_shape: tuple[int, int]) -> tuple[int, int]:
    height, width = check_image_shape(image_shape)
    check_tensor(name, columns, "(n, columns)")
    if columns.ndim != 2 or columns.shape[1] == 0:
        raise ValueError(
            f"{name}: expected one matrix (n, columns) with at least one column; got {tuple(columns.shape)} (pick one)"
        )
    if columns.shape[0] != height * width:
        raise ValueError(
            f"image_shape: expected height · width = {columns.shape[0]}, the rows of {name}; got {height} × {width}"
        )
    return height, width
