"""The table of the related work, its page of pictures, and what else is written."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from diffnmf.evaluation.scoring import Scores
from diffnmf.figures.montages import save_panels, unit_peak
from diffnmf.files import write_csv
from diffnmf.metrics.names import NAMES
from diffnmf.studies.report import definition_list, explained_results, markdown_table, mean_std, write_report

COLUMNS = {
    **{score: NAMES[score] for score in ("relative_error", "hoyer_H", "part_overlap")},
    "negative_share": "weights < 0",
    "smallest_weight": "smallest weight",
    "linear_accuracy": "linear classifier",
    "neighbour_accuracy": "1-nearest neighbour",
    "seconds": "seconds",
}
GROUP_COLUMNS = {score: NAMES[score] for score in ("relative_error", "hoyer_H", "part_overlap")}
A_ROW = 20  # components shown of each system
NOT_THE_SAME = (
    "Another task: a system of the table above has one dictionary for all images, learnt once, and is asked for images "
    "that it has never seen. Here every group of m images is given a basis of its own, made from these very images. "
    "Errors of the two kinds are not to be compared, and there is no code that means the same from group to group, and "
    "so nothing to classify."
)


def write_related(
    output: Path,
    settings: Mapping[str, Any],
    rows: Mapping[str, Sequence[Scores]],
    parts: Mapping[str, Tensor],
    image_shape: tuple[int, int],
    groups: Mapping[str, Scores],
) -> None:
    """Write related.md, .html and .csv, and parts.png.

    Arguments:
        output: the folder.
        settings: ``dataset``, ``k``, ``train_images`` and ``test_images``.
        rows: label -> scores for each seed that has some.
        parts: label -> components (k, n) of the first seed, the most used first.
        image_shape: (h, w), h·w = n.
        groups: rows of ``group_rows``.
    """
    pictures = {label: unit_peak(components[:A_ROW].T) for label, components in parts.items()}
    with explained_results(output):
        if pictures:
            shown = min(A_ROW, settings["k"])
            title = f"The {shown} most used of {settings['k']} components, each scaled to its maximum, negative black"
            save_panels(output / "parts.png", pictures, image_shape, title=title, columns_per_row=shown)
        write_csv(output / "related.csv", [{"row": row, **scores} for row, its in rows.items() for scores in its])
        write_report(output, "related", _markdown(settings, rows, bool(pictures), groups))


def _markdown(
    settings: Mapping[str, Any],
    rows: Mapping[str, Sequence[Scores]],
    pictured: bool,
    groups: Mapping[str, Scores],
) -> str:
    table = [[row, len(its), *(mean_std(_measured(its, column)) for column in COLUMNS)] for row, its in rows.items()]
    lines = [
        f"# Systems that learn parts, on {settings['dataset']}",
        "",
        f"k = {settings['k']} components, learnt from {settings['train_images']} images and scored on "
        f"{settings['test_images']} that were not among them; means over the seeds ± standard deviation. "
        "The parts are the columns of H. Weights are those that a system wants non-negative. Both classifiers learn "
        "from the codes of the images that the system has learnt from. Seconds are those of learning, on whatever else "
        "the machine did.",
        "",
        "## Scores",
        "",
        markdown_table(["system", "seeds", *COLUMNS.values()], table),
        "",
        definition_list(COLUMNS),
    ]
    if pictured:
        lines += ["", "## Parts", "", "![Components of every system](parts.png)"]
    if groups:
        lines += ["", "## GAN-UNET, for groups", "", NOT_THE_SAME, ""]
        body = [[row, *(scores[column] for column in GROUP_COLUMNS)] for row, scores in groups.items()]
        lines.append(markdown_table(["row", *GROUP_COLUMNS.values()], body))
    return "\n".join(lines)


def _measured(rows: Sequence[Scores], column: str) -> list[float]:
    """The values that there are: accuracies are NaN without classes."""
    return [scores[column] for scores in rows if not math.isnan(scores[column])]
