"""Solver "hals": cyclic coordinate descent on the Gram form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_flag, check_number
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.gram import GramForm, form_residual, reachable
from diffnmf.solvers.iterative import Iterate, solve_by_iterations
from diffnmf.solvers.problem import Problem


@dataclass(frozen=True)
class CoordinateDescent(NNLSSolver):
    """Cyclic coordinate descent, the W half of HALS: each row of W in turn at its optimum, then the exact finish.

    Choose it where a sweep is cheap and few are enough: it finds the support in fewer passes than projected gradient,
    but a pass is k small steps one after the other. ``finish=False`` is the truncated solve.

    Options:
        max_iter: sweeps over the k rows, an int ≥ 0.
        tol: as in ``ProjectedGradient``.
        finish: make the result exact on the support that was found.

    Source: Cichocki and Phan (2009), Fast local algorithms for large scale nonnegative matrix and tensor
    factorizations.
    """

    max_iter: int = 10
    tol: float = 0.0
    finish: bool = True

    def __post_init__(self) -> None:
        check_count("max_iter", self.max_iter)
        check_number("tol", self.tol)
        check_flag("finish", self.finish)

    @property
    def exact(self) -> bool:
        return self.finish

    @property
    def tolerance(self) -> float:
        return 0.0 if self.finish else self.tol

    def solve(self, problem: Problem, backward: str) -> Solved:
        return solve_by_iterations(problem, backward, self._iterate, finish=self.finish)

    def _iterate(self, form: GramForm, X0: Tensor) -> Iterate:
        X, running = X0, torch.ones(len(X0), dtype=torch.bool, device=X0.device)
        iterations = torch.zeros_like(running, dtype=torch.int64)
        tol = reachable(self.tol, form.A.dtype)
        for _ in range(self.max_iter):
            swept = sweep(form, X)
            iterations = iterations + running
            if tol > 0:
                swept = torch.where(running[:, None, None], swept, X)
                running = running & (form_residual(form, swept) > tol)
            X = swept
            if tol > 0 and not running.any():
                break
        return Iterate(X, iterations)


def sweep(form: GramForm, X: Tensor) -> Tensor:
    """One pass over the rows of X (B, k, m), in differentiable operations; A has unit diagonal."""
    descent = torch.baddbmm(form.C, form.A, X, alpha=-1)  # C − AX, kept up to date row by row
    rows = []
    for i, row in enumerate(X.unbind(dim=-2)):
        moved = (row + descent[:, i]).clamp(min=0)  # (B, m)
        descent = torch.addcmul(descent, form.A[:, :, i, None], (moved - row).unsqueeze(-2), value=-1)
        rows.append(moved)
    return torch.stack(rows, dim=-2)
