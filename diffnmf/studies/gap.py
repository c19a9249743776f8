"""How much of the way from merging to the optimum of its own objective a trained network goes in one pass."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.data import group_matrix
from diffnmf.evaluation.scoring import BATCH
from diffnmf.factorization import UnitColumns, factorize, match_slots, merge, take_slots
from diffnmf.models import GANUNMF
from diffnmf.runs.parts import RunData
from diffnmf.training import TrainingConfig
from diffnmf.training.losses import SMALLEST_START_ERROR, TO_START

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Objective:
    """What a generator was trained to reduce, without critic: an objective of ``UnitColumns`` for every group.

    Attributes:
        method: with the weights of the training.
        to_start: whether they count in units of the squared relative error of the start, group by group.
    """

    method: UnitColumns
    to_start: bool = False

    @classmethod
    def of(cls, training: TrainingConfig, prototypes: Tensor | None) -> "Objective | None":
        """That of a training; None where it is not one of ``UnitColumns``, or has no penalty."""
        weights = (training.sparsity, training.overlap, training.closeness)
        if training.reconstruction not in ("relative", TO_START) or max(weights) == 0:
            return None
        return cls(UnitColumns(*weights, prototypes), training.reconstruction == TO_START)

    def of_groups(self, Y: Tensor, model: GANUNMF) -> tuple[UnitColumns, float]:
        """The method for groups Y (B, n, m), and what its objective is to be divided by; B = 1 with ``to_start``."""
        if not self.to_start or model.generator.start is None:
            return self.method, 1.0
        H, W = model.generator.start.factors(Y)
        error = (torch.linalg.vector_norm(Y - H @ W) / torch.linalg.vector_norm(Y)).item()
        unit = max(error, SMALLEST_START_ERROR) ** 2
        penalised = self.method
        return UnitColumns(
            unit * penalised.sparsity, unit * penalised.overlap, unit * penalised.closeness, penalised.prototypes
        ), unit


def optimum(method: UnitColumns, Y: Tensor, merged: Factors, rounds: int) -> Factors:
    """From merging in fixed slots; with closeness every group takes the better of that and the prototypes as a start.

    The prototypes are a little better for k = 10 of 40 MNIST images, and up to 7 % worse for k = 30, where some die.
    """
    k = merged[0].shape[-1]
    H, W, *_ = factorize(Y, k, method=method, H0=merged[0], W0=merged[1], max_iter=rounds, tol=0.0)
    if method.closeness and method.prototypes is not None:
        other = factorize(Y, k, method=method, H0=method.prototypes, max_iter=rounds, tol=0.0)
        better = (method.objective(Y, other.H, other.W) < method.objective(Y, H, W))[:, None, None]
        H, W = torch.where(better, other.H, H), torch.where(better, other.W, W)
    return H, W


def gap_closed(model: GANUNMF, objective: Objective, data: RunData, rounds: int) -> float:
    """(merging − model) / (merging − optimum) on the test groups, in the objective that the model was trained on."""
    totals = torch.zeros(3, dtype=torch.float64)
    prototypes = objective.method.prototypes
    for groups in data.test_groups.split(1 if objective.to_start else BATCH):
        Y = group_matrix(data.split.test, groups)
        H0, W0 = merge(Y, model.config.k)
        if objective.method.closeness and prototypes is not None:
            H0, W0 = take_slots(H0, W0, match_slots(H0, prototypes))
        method, unit = objective.of_groups(Y, model)
        H, W, _ = model.factorize(Y)
        best = optimum(method, Y, (H0, W0), rounds)
        values = [method.objective(Y, *factors) / unit for factors in ((H0, W0), (H, W), best)]
        totals += torch.stack([value.sum().cpu() for value in values])
    begin, reached, end = totals.tolist()
    return (begin - reached) / (begin - end)
