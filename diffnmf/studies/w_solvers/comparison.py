"""The results of a comparison of W-solvers: tables and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from diffnmf.figures.comparisons import save_bars, sorted_in_groups
from diffnmf.figures.montages import save_panels, unit_peak
from diffnmf.files import write_csv
from diffnmf.metrics.names import NAMES
from diffnmf.runs import DataConfig
from diffnmf.studies.report import definition_list, explained_results, markdown_table, mean_std, write_report

SHARES, ERRORS = ("hoyer_H", "zero_share", "part_overlap", "copying", "hoyer_W"), ("column_error", "relative_error")
SCORES = (*SHARES, "dead_components", *ERRORS, "kkt_residual")
COLUMNS = {**{score: NAMES[score] for score in SCORES}, "ms_a_step": "ms a step"}
PANELS = {score: f"{NAMES[score]}, in [0, 1]" for score in SHARES} | {
    score: f"{NAMES[score]}, ← better" for score in ERRORS
}
BASES_TITLE = "H of one unseen group, each column scaled to its maximum"


@dataclass(frozen=True)
class ComparedRun:
    """One trained run in the comparison.

    Attributes:
        row: the name of its row: its W-solver.
        group: the rows that it is to be compared with, see ``w_solver_group``.
        seed: of its training.
        run: its folder.
        scores: the means over the unseen groups, by the names of ``COLUMNS``, and ``groups``, their number.
        others: the options other than W-solver and seed in which the runs of the comparison differ.
    """

    row: str
    group: str
    seed: int
    run: Path
    scores: Mapping[str, float]
    others: Mapping[str, Any]


def write_comparison(
    output: Path,
    compared: Sequence[ComparedRun],
    bases: Mapping[str, Tensor],
    image_shape: tuple[int, int],
    agreement: Sequence[Sequence[object]],
    data: DataConfig,
) -> None:
    """Write comparison.md, .html, .csv and .png, and bases.png.

    Arguments:
        output: the folder.
        compared: the runs.
        bases: row -> H (n, k) of one unseen group.
        image_shape: (h, w), h·w = n.
        agreement: what ``exact_agreement`` returned.
        data: what the runs were trained on.
    """
    rows: dict[str, list[ComparedRun]] = {}
    for run in compared:
        rows.setdefault(run.row, []).append(run)
    values = {row: {name: [run.scores[name] for run in runs] for name in COLUMNS} for row, runs in rows.items()}
    groups = {row: runs[0].group for row, runs in rows.items()}
    values = {row: values[row] for row in sorted_in_groups(values, "relative_error", groups)}
    parts = {row: unit_peak(bases[row]) for row in values}
    with explained_results(output):
        title = f"W-solvers on unseen groups of {data.dataset}"
        save_bars(output / "comparison.png", values, PANELS, title=title, groups=groups)
        save_panels(output / "bases.png", parts, image_shape, title=BASES_TITLE, across=2)
        lines = [{"row": run.row, "seed": run.seed, "run": str(run.run), **run.scores} for run in compared]
        write_csv(output / "comparison.csv", lines)
        write_report(output, "comparison", _markdown(rows, values, agreement, data))


def _markdown(
    rows: Mapping[str, Sequence[ComparedRun]],
    values: Mapping[str, Mapping[str, Sequence[float]]],
    agreement: Sequence[Sequence[object]],
    data: DataConfig,
) -> str:
    groups = next(iter(rows.values()))[0].scores["groups"]
    lines = [
        "# W-solvers compared",
        "",
        f"{data.dataset}, m = {data.group_size}, {data.order} order of columns; means over {groups} unseen groups, ± "
        "standard deviation over the seeds. The options of a run are in its `config.yaml`.",
        "",
        "## Scores",
        "",
        "By kind of W-solver, and by relative error in each kind.",
        "",
        markdown_table(
            ["W-solver", "seeds", "kind", *COLUMNS.values()],
            [
                [
                    *(row, len(rows[row]), rows[row][0].group, *(mean_std(scores[name]) for name in SCORES)),
                    mean_std(scores["ms_a_step"], digits=1),
                ]
                for row, scores in values.items()
            ],
        ),
        "",
        definition_list(COLUMNS),
        "",
        "![Scores of every W-solver](comparison.png)",
        "",
        "## The basis H of one unseen group",
        "",
        "![H of one unseen group with every W-solver](bases.png)",
        "",
        "## The exact solvers agree",
        "",
        f"On H and Y of {min(2, int(groups))} of the groups, in float64; the reference is `unrolled`; the gradient is "
        "that of ⟨V, HW⟩ with respect to H, with one random V. Milliseconds are those of one call, forward and "
        "backward. H is taken from the row with the fewest dead components, since the gradient at a zero column is "
        "not unique.",
        "",
        markdown_table(["solver", "difference of W", "difference of the gradient", "KKT residual", "ms"], agreement),
    ]
    return "\n".join(lines)
