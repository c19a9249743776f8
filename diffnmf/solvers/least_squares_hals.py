"""Solver "ls_hals": least squares clipped at zero, then a few coordinate sweeps. Not exact."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffnmf.checks import check_count, set_fields
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.coordinate_descent import sweep
from diffnmf.solvers.gram import LARGEST_DESCENT, GramForm
from diffnmf.solvers.iterative import Iterate, solve_by_iterations
from diffnmf.solvers.problem import Problem


@dataclass(frozen=True)
class LeastSquaresHALS(NNLSSolver):
    """The W-solver of the systems that the GAN-UNET paper compares with (its reference [11]).

    Choose it to reproduce them: it is an approximation, and its gradient is the one through its own steps
    (``backward="unrolled"``). A warm start has no place in it.

    Options:
        sweeps: coordinate sweeps after the clipped least squares, an int ≥ 0.
    """

    sweeps: int = 3

    exact = False
    tolerance = 0.0
    backwards = ("unrolled", "detached")

    def __post_init__(self) -> None:
        set_fields(self, sweeps=check_count("sweeps", self.sweeps))

    def solve(self, problem: Problem, backward: str) -> Solved:
        return solve_by_iterations(problem, backward, self._iterate, finish=False)

    def truncated(self, steps: int) -> "LeastSquaresHALS":
        return replace(self, sweeps=steps)

    def _iterate(self, form: GramForm, X0: Tensor) -> Iterate:
        X = _clipped_least_squares(form)
        for _ in range(self.sweeps):
            X = sweep(form, X)
        return Iterate(X, torch.full((len(X),), self.sweeps, dtype=torch.int64, device=X.device))


def _clipped_least_squares(form: GramForm) -> Tensor:
    """max(0, A⁻¹C), (B, k, m). A trace of Tikhonov regularisation makes dependent columns of H share their weight.

    Entries that are not allowed have a C beyond all others: they do not pull at the rest here, and the sweeps see to it
    that they are zero.
    """
    regular = form.A + 1e-10 * torch.eye(form.A.shape[-1], dtype=form.A.dtype, device=form.A.device)
    L, _ = torch.linalg.cholesky_ex(regular)  # positive definite by construction
    allowed = form.C > -LARGEST_DESCENT
    return torch.where(allowed, torch.cholesky_solve(torch.where(allowed, form.C, 0.0), L), 0.0).clamp(min=0)
