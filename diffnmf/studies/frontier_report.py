"""The frontier of error against sparsity of H as a table and pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from diffnmf.evaluation.scoring import Scores
from diffnmf.figures.comparisons import save_lines
from diffnmf.figures.montages import save_panels, unit_peak
from diffnmf.files import write_csv
from diffnmf.metrics.names import NAMES
from diffnmf.runs import DataConfig
from diffnmf.studies.report import definition_list, explained_results, markdown_table, write_report

PLAIN, ORDERED, HALS_ROW = "merge", "merge, ordered slots", "HALS from merge"
SCORES = ("relative_error", "hoyer_H", "part_overlap", "slot_consistency", "copying", "dead_components")
COLUMNS = {**{score: NAMES[score] for score in SCORES}, "ms_a_group": "ms a group"}


def curve(rows: Mapping[str, Scores], penalty: str) -> list[tuple[float, float]]:
    """(relative error, Hoyer sparsity) of HALS and the rows of a penalty, by growing error."""
    chosen = [scores for name, scores in rows.items() if name == HALS_ROW or name.startswith(f"{penalty} ")]
    return sorted((scores["relative_error"], scores["hoyer_H"]) for scores in chosen)


def at_error(points: Sequence[tuple[float, float]], error: float) -> float:
    """The score at an error, between the points (error, score) of a curve, by growing error; NaN outside."""
    if not points:
        return math.nan
    errors, scores = np.array(points).T
    return float(np.interp(error, errors, scores, left=np.nan, right=np.nan))


def write_frontier(
    output: Path,
    rows: Mapping[str, Scores],
    config: DataConfig,
    k: int,
    penalties: Sequence[str],
    unit: float,
    bases: Mapping[str, Tensor],
    image_shape: tuple[int, int],
) -> None:
    columns = dict(COLUMNS)
    if any("beyond_frontier" in scores for scores in rows.values()):
        columns |= {"beyond_frontier": "Hoyer beyond the frontier", "gap_closed": "gap closed"}
    lines = [
        f"# Error against sparsity of H on unseen groups of {config.dataset}",
        "",
        f"k = {k}, m = {config.group_size}, {config.order} order of columns; means over the groups.",
        "",
        "## Scores",
        "",
        markdown_table(
            ["row", *columns.values()],
            [[name, *(_shown(scores.get(column)) for column in columns)] for name, scores in rows.items()],
        ),
        "",
        definition_list(columns),
        "",
        "`sparsity`, `overlap` and `closeness` are the weights of `UnitColumns` in units of the mean squared relative "
        f"error of merging, here {unit:.4g}, started at merging in fixed slots (closeness: or at the prototypes, "
        "whichever ends better). Hoyer beyond the frontier: that of the sparsity rows at the same error is "
        "subtracted; a dash outside of their range. Gap closed: of the difference between merging and the optimum of "
        "the objective that a run was trained on. `direct` reduces the loss of a training group by group, from "
        "merging: what a network could reach.",
        "",
        "![Hoyer H against the relative error](frontier.png)",
        "",
        "## The basis H of one unseen group",
        "",
        "![H of one unseen group, side by side](bases.png)",
    ]
    curves = {f"HALS, {penalty}": curve(rows, penalty) for penalty in penalties}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    others = [name for name in rows if not name.startswith(tuple(f"{penalty} " for penalty in penalties))]
    curves |= {name: [(rows[name]["relative_error"], rows[name]["hoyer_H"])] for name in others if name != PLAIN}
    with explained_results(output):
        save_lines(
            output / "frontier.png",
            {name: [(*point, float("nan")) for point in points] for name, points in curves.items()},
            title=f"{config.dataset}, k = {k}",
            x=NAMES["relative_error"],
            y=NAMES["hoyer_H"],
        )
        save_panels(
            output / "bases.png",
            {name: unit_peak(H) for name, H in bases.items()},
            image_shape,
            title="H of one unseen group, each column scaled to its maximum",
            across=2,
        )
        write_csv(output / "frontier.csv", [{"row": name, **scores} for name, scores in rows.items()])
        write_report(output, "frontier", "\n".join(lines))


def _shown(value: float | None) -> float | None:
    return None if value is None or value != value else value
