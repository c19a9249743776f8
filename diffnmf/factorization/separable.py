"""Method "spa": columns of Y as the basis, exact weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.base import Budget, Method, Run
from diffnmf.factorization.half_step import half_step
from diffnmf.factorization.problem import Problem
from diffnmf.factorization.spa import spa
from diffnmf.layers import NNLSLayer


@dataclass(frozen=True)
class SPA(Method):
    """H is k columns of Y by the successive projection algorithm, W the exact weights: no start, no iterations.

    Choose it for data in which every part shows up alone in some column, or as a reference point. It needs k ≤ m.
    Its one "iteration" begins from W = 0, and converges.

    Source: see ``spa``.
    """

    @property
    def needs_start(self) -> bool:
        return False

    def run(self, problem: Problem, W: Tensor, Ht: Tensor, budget: Budget) -> Run:
        if problem.basis_penalties.any:
            raise ValueError('l1_H, ridge_H: expected 0 for method "spa", whose H is columns of Y; use l1_W or ridge_W')
        H = spa(problem.Y, problem.k)
        l1, ridge = (
            0.0 if x is None else x.flatten() for x in (problem.weights_penalties.l1, problem.weights_penalties.ridge)
        )
        W = NNLSLayer(backward="detached")(H, problem.Y, l1=l1, ridge=ridge)
        Ht = H.mT.contiguous()
        half = half_step(Ht, problem.Y, problem.weights_penalties)
        errors = [half.error(problem.square, x, may_wait=True) for x in (torch.zeros_like(W), W)]
        if budget.observer is not None:
            budget.observer(1, H, W)
        ones = torch.ones(len(W), dtype=torch.int64, device=W.device)
        return Run(W, Ht, torch.stack(errors), ones, ones.bool())
