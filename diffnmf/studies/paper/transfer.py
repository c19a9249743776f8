"""Figs. 7 and 8: networks on images of another data set. The paper shows pictures; these are the errors."""

from collections.abc import Iterator
from itertools import permutations

from diffnmf.studies.paper.records import Record
from diffnmf.studies.paper.table1 import values
from diffnmf.studies.paper.workbench import BySeed, Workbench, by_seed, network
from diffnmf.studies.report import markdown_table, mean_std


def pairs(bench: Workbench) -> Iterator[tuple[str, str]]:
    """(trained on, tried on): data sets whose images have the same size."""
    shapes = {name: bench.groups(name).image_shape for name in bench.study.datasets}
    return ((a, b) for a, b in permutations(shapes, 2) if shapes[a] == shapes[b])


def scores(bench: Workbench, source: str, target: str, row: str) -> BySeed:
    """The protocols on the groups of the target, by seed."""
    k = bench.study.ks[0]
    return by_seed(bench.study.seeds, lambda seed: _one(bench, source, target, row, k, seed))


def measure(bench: Workbench) -> None:
    """Score what is missing."""
    for source, target in pairs(bench):
        for row in bench.study.models:
            scores(bench, source, target, row)


def table(bench: Workbench) -> str:
    """The table in Markdown, or a sentence where no two data sets have images of the same size."""
    k = bench.study.ks[0]
    rows = []
    for source, target in pairs(bench):
        for row in bench.study.models:
            there, home = scores(bench, source, target, row), bench.scores(target, k, row)
            columns = [(records, score) for score in ("column_error", "relative_error") for records in (there, home)]
            cells = [mean_std(values(records, "refit", score)) for records, score in columns]
            rows.append([row, source, target, *cells])
    if not rows:
        return "Not run: needs two data sets whose images have the same size."
    header = [
        "model",
        "trained on",
        "tried on",
        "column error, eq. (4)",
        "if trained there",
        "relative error",
        "if trained there",
    ]
    return markdown_table(header, rows)


def _one(bench: Workbench, source: str, target: str, row: str, k: int, seed: int) -> Record | None:
    name = f"transfer-{source}-to-{target}-k{k}-{row}-seed{seed}"
    return bench.protocols(name, target, lambda: network(bench.model(source, k, row, seed)))
