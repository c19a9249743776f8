"""What the files that draw share. matplotlib is imported where it draws; its global state is left alone."""

import os
from textwrap import fill
from typing import TYPE_CHECKING

from diffnmf.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color Universal Design": told apart with every kind of colour vision. Yellow is left out: it
# is hardly seen on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")

FigureFile = str | os.PathLike[str]


def new_figure(width: float, height: float, title: str = "") -> "Figure":
    """An empty figure of so many inches that makes room for what its axes carry; a long title goes on below."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    if title:
        figure.suptitle(fill(title, int(7.5 * width)), fontsize=16, parse_math=False)
    return figure


def save_figure(figure: "Figure", path: FigureFile) -> None:
    """Write a figure in the format that the ending of the file says; an older file is replaced as a whole."""
    with replacing(path) as file:
        figure.savefig(file, format=file.suffix.lstrip(".") or "png", dpi=150)


def label_axes(ax: "Axes", title: str, x: str, y: str, *, whole_x: bool = True) -> None:
    """Title, names of the axes and a faint grid; ticks at whole numbers only where x counts something."""
    from matplotlib.ticker import MaxNLocator

    ax.set_title(title, fontsize=13, parse_math=False)
    ax.set_xlabel(x, fontsize=11)
    ax.set_ylabel(y, fontsize=11)
    ax.tick_params(labelsize=10)
    if whole_x:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(alpha=0.3)
