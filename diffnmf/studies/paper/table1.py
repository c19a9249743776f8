"""Table 1: reconstruction errors of every method on every data set, under all four protocols."""

from collections.abc import Iterator

from diffnmf.evaluation.protocols import PROTOCOLS
from diffnmf.evaluation.rivals import CLASSICAL
from diffnmf.metrics.names import NAMES
from diffnmf.studies.paper.workbench import BySeed, Workbench
from diffnmf.studies.report import markdown_table, mean_std

PAPER_K, PAPER_M = 30, 40
# The numbers in the paper, train and test. It names neither k nor m, but only these fit its classical rows. Its test
# error of a classical method is that of the protocol "frozen".
PRINTED = {
    ("mnist", "ANLS"): (1.533, 9.794),
    ("mnist", "MU"): (1.801, 9.850),
    ("mnist", "HALS"): (3.265, 9.417),
    ("mnist", "GAN-UNET, fc"): (None, 3.933),
    ("fashion", "ANLS"): (1.265, 11.189),
    ("fashion", "MU"): (2.063, 10.991),
    ("faces", "ANLS"): (1.778, 12.147),
    ("faces", "MU"): (2.994, 11.709),
    ("faces", "HALS"): (1.894, 12.083),
    ("faces", "GAN-UNET, fc"): (None, 9.911),
}
RELATIVE, OTHERS = ("fit", "refit_w", "refit"), ("dead_components", "copying", "hoyer_H")
HEADER = [
    "method",
    "seeds",
    *(f"{protocol}, {NAMES['column_error']}" for protocol in PROTOCOLS),
    *(f"{protocol}, {NAMES['relative_error']}" for protocol in RELATIVE),
    *(NAMES[score] for score in OTHERS),
    "ms a group",
    "paper, train / test",
]


def rows_of(bench: Workbench) -> list[str]:
    """The rows of the table: classical methods, then networks."""
    return [*CLASSICAL, *bench.study.models]


def measure(bench: Workbench) -> None:
    """Measure what is missing: the first k first, and every row once before the next seed."""
    for k in bench.study.ks:
        for seed in bench.study.seeds:
            for dataset in bench.study.datasets:
                for row in rows_of(bench):
                    bench.row_scores(dataset, k, row, seed)


def tables(bench: Workbench) -> Iterator[str]:
    """A table in Markdown for each data set and k, with its heading."""
    for dataset in bench.study.datasets:
        for k in bench.study.ks:
            cells = [
                _cells(row, bench.scores(dataset, k, row), printed(bench, dataset, k, row)) for row in rows_of(bench)
            ]
            yield f"### {dataset}, k = {k}\n\n{markdown_table(HEADER, cells)}"


def csv_rows(bench: Workbench) -> Iterator[dict[str, object]]:
    """All numbers of the tables, a row for each method, seed and protocol."""
    for dataset in bench.study.datasets:
        for k in bench.study.ks:
            for row in rows_of(bench):
                for seed, record in bench.scores(dataset, k, row).items():
                    for protocol, scores in record.items():
                        start = {"dataset": dataset, "k": k, "method": row, "seed": seed}
                        yield {**start, "protocol": protocol, **scores}


def printed(bench: Workbench, dataset: str, k: int, row: str) -> tuple[float | None, float | None] | None:
    """The numbers of a row in the paper, train and test; None where it has no such row, or another k or m."""
    if (k, bench.study.config.data.group_size) != (PAPER_K, PAPER_M):
        return None
    return PRINTED.get((dataset, row))


def values(records: BySeed, protocol: str, score: str) -> list[float]:
    """One score under one protocol, an entry for each seed."""
    return [record[protocol][score] for record in records.values() if score in record[protocol]]


def _cells(row: str, records: BySeed, paper: tuple[float | None, float | None] | None) -> list[object]:
    in_print = "" if paper is None else " / ".join("–" if value is None else f"{value:.3f}" for value in paper)
    if not records:
        return [row, 0, *["not run"] * 4, *["–"] * 7, in_print]
    return [
        row,
        len(records),
        *(mean_std(values(records, protocol, "column_error")) for protocol in PROTOCOLS),
        *(mean_std(values(records, protocol, "relative_error")) for protocol in RELATIVE),
        *(mean_std(values(records, "refit", score)) for score in OTHERS),
        mean_std([1000 * seconds for seconds in values(records, "refit", "seconds")], digits=1),
        in_print,
    ]
