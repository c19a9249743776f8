"""Table 2: does the critic help? The same network with and without it, at equal budget, over several seeds."""

from collections.abc import Iterator
from statistics import fmean, stdev

from diffnmf.evaluation.report import markdown_table, mean_std
from diffnmf.evaluation.reproduction.records import Record
from diffnmf.evaluation.reproduction.study import FC, NNLS
from diffnmf.evaluation.reproduction.table1 import values
from diffnmf.evaluation.reproduction.workbench import Workbench

TAG = "-without-critic"
PAIRS = {FC: "UNET, fc", NNLS: "UNET, NNLS"}  # with the critic -> without


def without_critic(bench: Workbench, row: str) -> list[Record]:
    """The scores of a row trained without the critic, an entry for each seed."""
    dataset, k = bench.study.datasets[0], bench.study.ks[0]
    found = (bench.network_scores(dataset, k, row, seed, TAG, adversarial=False) for seed in bench.study.seeds)
    return [record for record in found if record is not None]


def measure(bench: Workbench) -> None:
    """Train and score what is not there yet."""
    for row in PAIRS:
        without_critic(bench, row)


def table(bench: Workbench) -> str:
    """The table, in Markdown."""
    return markdown_table(
        ["model", "seeds", "train, eq. (4)", "test, eq. (4)", "train, rel. error", "test, rel. error"],
        [_cells(name, records) for name, records in _rows(bench)],
    )


def difference(bench: Workbench, row: str) -> tuple[float, float] | None:
    """Test eq. (4) with the critic minus without, and its standard error over the seeds; None with fewer than two."""
    dataset, k = bench.study.datasets[0], bench.study.ks[0]
    pairs = zip(
        values(bench.scores(dataset, k, row), "refit", "eps"),
        values(without_critic(bench, row), "refit", "eps"),
        strict=False,
    )
    differences = [with_critic - without for with_critic, without in pairs]
    if len(differences) < 2:
        return None
    return fmean(differences), stdev(differences) / len(differences) ** 0.5


def _rows(bench: Workbench) -> Iterator[tuple[str, list[Record]]]:
    dataset, k = bench.study.datasets[0], bench.study.ks[0]
    for row, name in PAIRS.items():
        yield name, without_critic(bench, row)
        yield row, bench.scores(dataset, k, row)


def _cells(name: str, records: list[Record]) -> list[object]:
    if not records:
        return [name, 0, *["not run"] * 4]
    columns = [(protocol, score) for score in ("eps", "relative_error") for protocol in ("fit", "refit")]
    return [name, len(records), *(mean_std(values(records, *column)) for column in columns)]
