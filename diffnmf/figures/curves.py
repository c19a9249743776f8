"""Pictures of curves: the course of training, and the error over the number of components."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from diffnmf.checks import check_not_empty
from diffnmf.factorization import ConsensusScores, RankScores
from diffnmf.figures.drawing import COLOURS, LINE_STYLES, FigureFile, label_axes, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_curves(path: FigureFile, rows: Sequence[Mapping[str, float]], panels: Mapping[str, Mapping[str, str]]) -> None:
    """Save the course of training: one panel of lines over epochs for each entry of ``panels``.

    Arguments:
        path: the file; its ending says the format (.png, .pdf, .svg). An older file is replaced as a whole.
        rows: one mapping per epoch, with its number under "epoch". A value that a row lacks, or that is not
            finite, is passed over; the line goes on to the next one.
        panels: title of a panel -> name of a value that it shows -> what the legend calls it.
    """
    check_not_empty("panels", panels, "title with its names")
    across = min(len(panels), 2)
    down = math.ceil(len(panels) / across)
    figure = new_figure(5.2 * across, 3.4 * down)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for ax, (title, values) in zip(axes, panels.items(), strict=False):
        _draw_curves(ax, title, {words: _series(rows, name) for name, words in values.items()})
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    save_figure(figure, path)


def save_rank_selection(path: FigureFile, scores: RankScores, svd: Tensor | None = None, *, title: str = "") -> None:
    """Save the held-out error over the number of components, with its spread over the folds and its minimum marked.

    Of a batch the mean over its problems is drawn, and the k of the smallest mean is marked.

    Arguments:
        path: as in ``save_curves``.
        scores: what ``cross_validate_rank`` returned.
        svd: what ``svd_curve`` returned for the same Y: the error that rank k cannot go below on entries it sees.
        title: a line above the panel.
    """
    ks = scores.ks
    mean, std = (x.detach().cpu().reshape(len(ks), -1).nanmean(1).numpy() for x in (scores.mean, scores.std))
    figure = new_figure(6.4, 4.8)
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
    label_axes(ax, title, "components k", "relative error")
    ax.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, fontsize=10)
    save_figure(figure, path)


def save_consensus(path: FigureFile, scores: ConsensusScores, *, title: str = "") -> None:
    """Save the stability of the components over their number, beside the error.

    Arguments:
        path: as in ``save_curves``.
        scores: what ``consensus_curve`` returned.
        title: a line above the panels.
    """
    figure = new_figure(9.6, 4.2, title)
    left, right = figure.subplots(1, 2)
    for values, label, style in ((scores.stability, "mean", "o-"), (scores.least, "least stable component", "s--")):
        left.plot(scores.ks, values.numpy(), style, color=COLOURS[0], markersize=4, linewidth=1.8, label=label)
    label_axes(left, "", "components k", "silhouette over replicates")
    left.set_ylim(top=1.02)
    for values, label, style in ((scores.error, "consensus", "o-"), (scores.best_error, "best replicate", "s--")):
        right.plot(scores.ks, values.numpy(), style, color=COLOURS[1], markersize=4, linewidth=1.8, label=label)
    label_axes(right, "", "components k", "error")
    right.set_ylim(bottom=0)
    for ax in (left, right):
        ax.legend(fontsize=10)
    save_figure(figure, path)


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
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        ax.text(0.5, 0.5, "no values yet", transform=ax.transAxes, ha="center", va="center", fontsize=11)
    label_axes(ax, title, "epoch", next(iter(curves)) if len(curves) == 1 else "value")
