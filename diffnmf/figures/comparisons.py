"""Pictures that compare methods: bars of their scores, and lines of a score over a setting."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from diffnmf.checks import check_not_empty
from diffnmf.figures.drawing import COLOURS, LINE_STYLES, FigureFile, label_axes, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HATCHES = ("", "////", "....")  # tell apart the bars whose colours come round again
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
BAR_NOTE = "bar and number: mean over seeds  ·  line: ± standard deviation  ·  dots: the single seeds"
NOTE_WIDTH = 7.0  # inches
LONGEST_LINE = 31  # characters of a title that fit on a panel
CHARACTER = 0.026  # the width of a printed character as a share of a panel's, rather too much than too little


def save_bars(
    path: FigureFile,
    rows: Mapping[str, Mapping[str, Sequence[float]]],
    panels: Mapping[str, str],
    *,
    title: str = "",
    groups: Mapping[str, str] | None = None,
) -> None:
    """Save the scores of several methods as horizontal bars: a panel for each score, a bar for each method.

    The bar is the mean over seeds, with its value beside it, the sample standard deviation as a line and the single
    seeds as dots. A method has the same place and colour in every panel. Where it has no values its place says "not
    run"; values that are not finite are left out, and the number of those that remain is written beside the bar.

    Arguments:
        path: the file; its ending says the format (.png, .pdf, .svg). An older file is replaced as a whole.
        rows: label of a method -> name of a score -> its values over seeds.
        panels: name of a score -> title of its panel, which should say its range or which way is better.
        title: a line above the panels.
        groups: label of a method -> the group that it belongs to. The name of a group stands above its methods, which
            come one after the other in ``rows`` (see ``sorted_in_groups``).
    """
    for name, given in (("rows", rows), ("panels", panels)):
        check_not_empty(name, given, "entry")
    down = 1 if len(panels) <= 4 else 2
    across = math.ceil(len(panels) / down)
    width = 3.1 * across + 0.085 * max(map(len, rows)) + 0.4  # inches; the labels stand beside the first panel only
    labels, places = _places(rows, groups or {})
    figure = new_figure(max(width, NOTE_WIDTH), down * (0.34 * len(labels) + 1.1) + (0.9 if title else 0.4), title)
    figure.supxlabel(BAR_NOTE, fontsize=10, color="0.3")
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for ax, (name, heading) in zip(axes.flat, panels.items(), strict=False):
        _draw_bars(ax, heading, [row.get(name, ()) for row in rows.values()], places)
    axes[0, 0].set_yticks(range(len(labels)), labels=labels, parse_math=False)
    axes[0, 0].set_ylim(len(labels) - 0.4, -0.6)  # the first method on top
    for row in axes:
        for place, label in enumerate(row[0].get_yticklabels()):
            label.set_fontweight("normal" if place in places else "bold")
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    save_figure(figure, path)


def save_lines(
    path: FigureFile,
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    title: str,
    x: str,
    y: str,
) -> None:
    """Save a score over a setting: a line with error bars for each method.

    Arguments:
        path: as in ``save_bars``.
        curves: label of a method -> its points (x, mean, standard deviation). A point whose x or mean is not finite
            is passed over; a standard deviation that is not, as that of a single seed, gives no error bar.
        title: a line above the panel.
        x: the name of the setting.
        y: the name of the score.
    """
    check_not_empty("curves", curves, "label with its points")
    figure = new_figure(7.2, 4.6 + 0.25 * math.ceil(len(curves) / 2))
    ax = figure.subplots()
    looks = zip(cycle(COLOURS), cycle(LINE_STYLES), cycle(MARKERS), strict=False)  # 7, 4 and 9: 252 different ones
    for (label, points), (colour, style, marker) in zip(curves.items(), looks, strict=False):
        kept = np.array([p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]).reshape(-1, 3)
        kept[~np.isfinite(kept)] = math.nan  # an infinite error bar would take the axis with it
        drawn = ax.errorbar(
            *kept.T, color=colour, linestyle=style, linewidth=1.8, elinewidth=1.2, capsize=3, label=label
        )
        # The white edge keeps the marker on top whole where lines cross.
        drawn[0].set(marker=marker, markersize=8, markeredgecolor="white", markeredgewidth=0.8)
    label_axes(ax, title, x, y, whole_x=False)
    settings = np.unique([point[0] for points in curves.values() for point in points if math.isfinite(point[0])])
    if len(settings) > 0 and (np.diff(settings) * 15 >= np.ptp(settings)).all():  # room for all of their numbers
        ax.set_xticks(settings)
    legend = figure.legend(loc="outside lower center", ncols=min(2, len(curves)), fontsize=10, handlelength=4)
    for text in legend.get_texts():
        text.set_parse_math(False)
    save_figure(figure, path)


def sorted_in_groups(
    rows: Mapping[str, Mapping[str, Sequence[float]]], score: str, groups: Mapping[str, str]
) -> list[str]:
    """The labels of the rows, one group after the other, by the mean of a score: the smallest first in its group.

    The group with the smallest mean comes first. A row without the score, or whose mean is not finite, comes last.

    Example:
        >>> rows = {"a": {"error": [2.0]}, "b": {"error": [3.0]}, "c": {"error": [1.0, 2.0]}}
        >>> sorted_in_groups(rows, "error", {"a": "first", "b": "second", "c": "second"})
        ['c', 'b', 'a']
    """

    def mean(label: str) -> float:
        values = rows[label].get(score, ())
        found = sum(values) / len(values) if values else math.inf
        return found if math.isfinite(found) else math.inf

    best: dict[str, float] = {}
    for label in rows:
        best[groups[label]] = min(mean(label), best.get(groups[label], math.inf))
    return sorted(rows, key=lambda label: (best[groups[label]], groups[label], mean(label)))


def _places(rows: Iterable[str], groups: Mapping[str, str]) -> tuple[list[str], list[int]]:
    """What stands beside the bars from top to bottom, and at which of these places the methods are."""
    labels: list[str] = []
    places: list[int] = []
    before = ""
    for row in rows:
        group = groups.get(row, "")
        if group != before:
            labels.append(group)
        before = group
        places.append(len(labels))
        labels.append(row)
    return labels, places


def _draw_bars(ax: "Axes", heading: str, scores: Sequence[Sequence[float]], places: Sequence[int]) -> None:
    """The bars of one panel, each at its place, and room beside them for their numbers."""
    lowest = 0.0
    ends: list[tuple[float, str]] = []
    for look, (place, values) in enumerate(zip(places, scores, strict=True)):
        finite = [float(value) for value in values if math.isfinite(value)]
        text = _number(finite, len(values))
        end = 0.0
        if finite:
            start, end = _draw_bar(ax, place, look, finite)
            lowest = min(lowest, start)
        number = ax.annotate(text, (end, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=10)
        if not finite:
            number.set(style="italic", color="0.45")
        ends.append((end, text))
    lines = [heading] if len(heading) <= LONGEST_LINE else heading.rsplit(" (", 1)  # rather there than anywhere else
    label_axes(ax, "\n(".join(fill(line, LONGEST_LINE) for line in lines), "", "", whole_x=False)
    if lowest < 0:
        ax.axvline(0, color="black", linewidth=0.8)
    span = max((end - lowest) / (1 - min(0.7, CHARACTER * (len(text) + 2))) for end, text in ends)
    ax.set_xlim(lowest * 1.05, lowest + span if span > 0 else 1.0)
    ax.locator_params(axis="x", nbins=4)
    ax.grid(visible=False, axis="y")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0, labelsize=11)


def _draw_bar(ax: "Axes", place: int, look: int, values: Sequence[float]) -> tuple[float, float]:
    """Draw a method's bar, deviation and dots; returns where all of it begins and ends."""
    from matplotlib.colors import to_rgb

    mean, std = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    colour = to_rgb(COLOURS[look % len(COLOURS)])
    pale = tuple(1 - 0.55 * (1 - part) for part in colour)  # so that dots and lines are seen on black, too
    hatch = HATCHES[look // len(COLOURS) % len(HATCHES)]
    ax.barh(place, mean, height=0.68, color=pale, edgecolor=colour, hatch=hatch, linewidth=1.0)
    if len(values) > 1:
        ax.errorbar(mean, place, xerr=std, color="black", capsize=4, elinewidth=1.5)
        # One below the other, or seeds that nearly agree would be one dot.
        spread = np.linspace(-0.2, 0.2, len(values))
        ax.scatter(values, place + spread, s=14, color="white", edgecolor="black", linewidth=0.8, zorder=3)
    return min([0.0, mean - std, *values]), max([0.0, mean + std, *values])


def _number(finite: Sequence[float], count: int) -> str:
    """The text beside a bar: its mean with three digits, and how many of the seeds it stands for if not all."""
    if not finite:
        return "no finite value" if count else "not run"
    mean = float(np.mean(finite))
    text = f"{mean:,.0f}" if abs(mean) >= 100 else f"{mean:#.3g}"
    return text if len(finite) == count else f"{text} ({len(finite)} of {count} seeds)"
