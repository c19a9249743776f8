"""The rows of a frontier: merging, HALS from it with each penalty of H, ANLS, each loss reduced without a network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from diffnmf.data import group_matrix
from diffnmf.evaluation.rivals import ANLS_SETTINGS
from diffnmf.evaluation.scoring import mean_scores
from diffnmf.factorization import UnitColumns, factorize, match_slots, merge, slot_prototypes, take_slots
from diffnmf.metrics import relative_error
from diffnmf.models.basis_start import PROTOTYPE_GROUPS
from diffnmf.runs.parts import RunData
from diffnmf.studies.direct import reduce_directly
from diffnmf.studies.frontier_report import HALS_ROW, ORDERED, PLAIN
from diffnmf.studies.gap import Factors, optimum
from diffnmf.training.losses import TO_START

# In units of the squared relative error of merging. On MNIST 0.7 for k = 10 and 3 for k = 30 cost 1 % more error than
# HALS has, for the sparsity.
WEIGHTS: dict[str, tuple[float, ...]] = {
    "sparsity": (0.4, 0.7, 1, 1.4, 2, 3, 5, 7),
    "overlap": (0.1, 0.3, 1, 3),
    "closeness": (0.2, 0.6, 2, 6),
}
UNIT = "squared relative error of merging"


def prototypes_of(data: RunData, k: int) -> Tensor:
    """(n, k), what merged bases of training groups have in common."""
    return slot_prototypes(merge(group_matrix(data.split.train, data.train_groups[:PROTOTYPE_GROUPS]), k)[0])


def squared_error_of_merging(data: RunData, k: int) -> float:
    """The mean over the test groups."""

    def score(Y: Tensor) -> dict[str, Tensor]:
        H, W = merge(Y, k)
        return {UNIT: relative_error(Y, H @ W).double().square()}

    return mean_scores(score, data.split.test, data.test_groups)[UNIT]


def classical_rows(
    k: int, prototypes: Tensor, weights: Mapping[str, Sequence[float]], unit: float, rounds: int
) -> dict[str, Callable[[Tensor], Factors]]:
    def merged(Y: Tensor) -> Factors:
        H, W = merge(Y, k)
        return take_slots(H, W, match_slots(H, prototypes))

    def hals(Y: Tensor) -> Factors:
        H, W = merged(Y)
        return factorize(Y, k, H0=H, W0=W, max_iter=rounds, tol=0.0)[:2]

    def penalised(method: UnitColumns, Y: Tensor) -> Factors:
        return optimum(method, Y, merged(Y), rounds)

    rows: dict[str, Callable[[Tensor], Factors]] = {
        PLAIN: lambda Y: merge(Y, k),
        ORDERED: merged,
        HALS_ROW: hals,
        "ANLS from random": lambda Y: factorize(Y, k, **ANLS_SETTINGS["run"])[:2],
    }
    for penalty, values in weights.items():
        for weight in values:
            method = UnitColumns(**{penalty: weight * unit}, prototypes=prototypes)  # type: ignore[arg-type]
            rows[f"{penalty} {weight:g}"] = lambda Y, method=method: penalised(method, Y)  # type: ignore[misc]
    return rows


def direct_rows(k: int, weights: Sequence[float], steps: int) -> dict[str, Callable[[Tensor], Factors]]:
    """Each loss that the generator can be trained on, and the squared error with each weight of the sparsity."""

    def row(options: Any) -> Callable[[Tensor], Factors]:
        return lambda Y: reduce_directly(Y, merge(Y, k)[0], steps=steps, **options)

    losses = {f"direct, {name}": row({"reconstruction": name}) for name in ("l1", "column_error", "relative")}
    return losses | {
        f"direct, {TO_START}, sparsity {weight:g}": row({"reconstruction": TO_START, "sparsity": weight})
        for weight in weights
    }
