"""What a method without iterations returns."""

import torch
from torch import Tensor

from diffnmf.factorization.base import Budget, Run
from diffnmf.factorization.half_step import HalfStep
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.solvers.devices import looking_is_free


def run_at_once(problem: NMFProblem, half: HalfStep, W: Tensor, budget: Budget) -> Run:
    """One "iteration" from W = 0 to W (B, k, m), which has converged.

    Arguments:
        problem: B problems.
        half: of W, with Hᵀ (B, k, n) fixed.
        W: the weights.
        budget: its observer is called once.
    """
    may_look = looking_is_free(W.device)
    errors = [half.error(problem.square, x, may_look=may_look) for x in (torch.zeros_like(W), W)]
    if budget.observer is not None:
        budget.observer(1, half.other.mT, W)
    ones = torch.ones(len(W), dtype=torch.int64, device=W.device)
    return Run(W, half.other, torch.stack(errors), ones, ones.bool())
