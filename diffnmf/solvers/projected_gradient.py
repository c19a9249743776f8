"""Solver "unrolled": accelerated projected gradient on the Gram form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_flag, check_number
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.gram import GramForm, form_residual, reachable
from diffnmf.solvers.iterative import Iterate, solve_by_iterations
from diffnmf.solvers.problem import Problem

# Restarts and the tolerance are looked at this often. At every step they cost twice as much as the steps themselves,
# and the support found in 40 steps is hardly better (docs/how_it_was_made_fast.md).
CHECK_EVERY = 5


@dataclass(frozen=True)
class ProjectedGradient(NNLSSolver):
    """Accelerated projected gradient (Nesterov's momentum, adaptive restart per column), then the exact finish.

    Choose it as the default: a few cheap matrix products, the same for every column, find almost the whole support,
    and the finish makes the result exact. With ``finish=False`` it is the truncated solve: ``max_iter`` steps that
    ``backward="unrolled"`` differentiates through.

    Options:
        max_iter: steps, an int ≥ 0.
        tol: a problem whose KKT residual on the scaled Gram form is at or below this takes no further steps; looked at
            every 5 steps; 0 never stops early.
        finish: make the result exact on the support that was found.

    Sources: Beck and Teboulle (2009), A fast iterative shrinkage-thresholding algorithm, with the momentum t/(t + 3) of
    Chambolle and Dossal (2015), On the convergence of the iterates of FISTA; O'Donoghue and Candès (2015),
    Adaptive restart for accelerated gradient schemes (the gradient scheme).
    """

    max_iter: int = 40
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
        step = 1.0 / largest_eigenvalue_bound(form.A)  # (B, 1, 1)
        contraction = torch.eye(form.A.shape[-1], dtype=form.A.dtype, device=form.A.device) - step * form.A
        shift = step * form.C

        X, lookahead = X0, X0
        running = torch.ones(len(X0), dtype=torch.bool, device=X0.device)
        iterations = torch.zeros_like(running, dtype=torch.int64)
        tol = reachable(self.tol, form.A.dtype)
        for iteration in range(self.max_iter):
            X_next = torch.baddbmm(shift, contraction, lookahead).clamp(min=0)
            if tol > 0:
                X_next = torch.where(running[:, None, None], X_next, X)
                iterations = iterations + running
            ahead = torch.lerp(X, X_next, 1.0 + iteration / (iteration + 3.0))
            if (iteration + 1) % CHECK_EVERY == 0:
                overshot = ((lookahead - X_next) * (X_next - X)).sum(dim=-2, keepdim=True) > 0
                ahead = torch.where(overshot, X_next, ahead)
                running = running & (form_residual(form, X_next) > tol) if tol > 0 else running
                if tol > 0 and not running.any():
                    return Iterate(X_next, iterations)
            X, lookahead = X_next, ahead
        return Iterate(X, iterations if tol > 0 else iterations + self.max_iter)


def largest_eigenvalue_bound(A: Tensor, products: int = 4) -> Tensor:
    """An upper bound of the largest eigenvalue of every matrix, (B, k, k) to (B, 1, 1), with its gradient.

    Collatz and Wielandt: for any positive x, max_i (|A|x)_i / x_i bounds the spectral radius of |A|, which bounds that
    of A. A few power steps from x = 1 make it tight when A has no negative entries, as with images.
    """
    magnitude = A.abs()
    x = torch.ones_like(A[..., :1])
    for _ in range(products - 1):
        x = magnitude @ x  # never below 1: the diagonal of A is 1
        x = x / x.amax(dim=-2, keepdim=True).clamp(min=1.0)
    return ((magnitude @ x) / x).amax(dim=-2, keepdim=True)
