"""Table 2: does the critic help? The same network with and without it, with the same budget, over several seeds."""

from collections.abc import Iterator

from diffnmf.metrics.names import NAMES
from diffnmf.studies.paper.study import FC, NNLS
from diffnmf.studies.paper.table1 import values
from diffnmf.studies.paper.workbench import BySeed, Workbench, by_seed
from diffnmf.studies.report import markdown_table, mean_std

TAG = "-without-critic"
SCORES = ("column_error", "relative_error")
PAIRS = {FC: "UNET, fc", NNLS: "UNET, NNLS"}  # with the critic -> without


def without_critic(bench: Workbench, row: str) -> BySeed:
    """The scores of a row trained without the critic, by seed."""
    dataset, k = bench.study.datasets[0], bench.study.ks[0]
    return by_seed(bench.study.seeds, lambda seed: bench.network_scores(dataset, k, row, seed, TAG, adversarial=False))


def measure(bench: Workbench) -> None:
    """Train and score what is missing."""
    for row in PAIRS:
        without_critic(bench, row)


def table(bench: Workbench) -> str:
    """The table, in Markdown."""
    return markdown_table(
        ["model", "seeds", *(f"{part}, {NAMES[score]}" for score in SCORES for part in ("train", "test"))],
        [_cells(name, records) for name, records in _rows(bench)],
    )


def differences(bench: Workbench, row: str) -> list[float]:
    """The column error on test groups with the critic minus that without it, for each seed that has both."""
    dataset, k = bench.study.datasets[0], bench.study.ks[0]
    with_critic, without = bench.scores(dataset, k, row), without_critic(bench, row)
    return [
        record["refit"]["column_error"] - without[seed]["refit"]["column_error"]
        for seed, record in with_critic.items()
        if seed in without
    ]


def _rows(bench: Workbench) -> Iterator[tuple[str, BySeed]]:
    dataset, k = bench.study.datasets[0], bench.study.ks[0]
    for row, name in PAIRS.items():
        yield name, without_critic(bench, row)
        yield row, bench.scores(dataset, k, row)


def _cells(name: str, records: BySeed) -> list[object]:
    if not records:
        return [name, 0, *["not run"] * 4]
    columns = [(protocol, score) for score in SCORES for protocol in ("fit", "refit")]
    return [name, len(records), *(mean_std(values(records, *column)) for column in columns)]
