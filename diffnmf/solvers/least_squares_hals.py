"""Solver "ls_hals": least squares clipped at the bounds, then a few coordinate sweeps. Not exact."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffnmf.checks import check_count, set_fields
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.coordinate_descent import ScaledBounds, sweep
from diffnmf.solvers.gram import LARGEST_DESCENT, GramForm, gram_form
from diffnmf.solvers.iterative import Iterate, solve_by_iterations
from diffnmf.solvers.problem import Problem


@dataclass(frozen=True)
class LeastSquaresHALS(NNLSSolver):
    """The W-solver of the systems that the GAN-UNET paper compares with (its reference [11], Li et al. 2020).

    Choose it to reproduce them: it is an approximation, and its gradient is the one through its own steps
    (``backward="unrolled"``). A warm start has no place in it. There W are intensities of light, between 0 and 1:
    ``upper=1.0``. An upper bound, and entries of any sign, clip the least squares and every step of a sweep.

    Options:
        sweeps: coordinate sweeps after the clipped least squares, an int ≥ 0.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Example:
        >>> import torch
        >>> from diffnmf.layers import NNLSLayer
        >>> from diffnmf.solvers import LeastSquaresHALS
        >>> H, Y = torch.rand(20, 5, requires_grad=True), torch.rand(20, 8)
        >>> W = NNLSLayer(LeastSquaresHALS(sweeps=2), backward="unrolled", upper=1.0)(H, Y)
        >>> W.min() >= 0, W.max() <= 1
        (tensor(True), tensor(True))
        >>> W.sum().backward()  # the gradient reaches H
    """

    sweeps: int = 3

    exact = False
    tolerance = 0.0
    backwards = ("unrolled", "detached")
    takes_bounds = True

    def __post_init__(self) -> None:
        set_fields(self, sweeps=check_count("sweeps", self.sweeps))

    def solve(self, problem: Problem, backward: str) -> Solved:
        if problem.constraints is None:
            return solve_by_iterations(problem, backward, self._iterate, finish=False)
        solved = self._solve_bounded(problem)
        return Solved(solved.W.detach(), solved.iterations) if backward == "detached" else solved

    def truncated(self, steps: int) -> "LeastSquaresHALS":
        return replace(self, sweeps=steps)

    def _iterate(self, form: GramForm, X0: Tensor, bounds: ScaledBounds | None = None) -> Iterate:
        X = _clipped_least_squares(form, bounds)
        for _ in range(self.sweeps):
            X = sweep(form, X, bounds)
        return Iterate(X, torch.full((len(X),), self.sweeps, dtype=torch.int64, device=X.device))

    def _solve_bounded(self, problem: Problem) -> Solved:
        form = gram_form(problem)
        iterate = self._iterate(form, form.C, _scaled_bounds(problem, form))
        W = form.unscale(iterate.X).to(problem.H.dtype)
        asked = problem.constraints
        if asked is not None and asked.upper is not None:  # scaled there and back, a bound is no longer what it was
            W = torch.where(asked.upper > W, W, asked.upper)
        return Solved(W, iterate.iterations)


def _scaled_bounds(problem: Problem, form: GramForm) -> ScaledBounds:
    """The bounds of a problem in the unknowns of its Gram form, differentiable."""
    asked, shape = problem.constraints, form.C.shape
    upper, lower = torch.full_like(form.C, torch.inf), torch.zeros_like(form.C)
    if asked is not None and asked.upper is not None:
        finite = asked.upper.isfinite()
        # An infinite one must not meet the scales: its product with a gradient of zero would be NaN.
        within = torch.where(finite, asked.upper.double(), 0.0) * form.row_scale / form.column_scale
        upper = torch.where(finite, within, torch.inf).expand(shape)
    if asked is not None and asked.signed is not None:
        lower = torch.where(asked.signed, -torch.inf, lower)
    return ScaledBounds(lower, upper)


def _clipped_least_squares(form: GramForm, bounds: ScaledBounds | None) -> Tensor:
    """A⁻¹C within the bounds, (B, k, m). A trace of Tikhonov regularisation makes dependent columns of H share.

    Entries that are not allowed have a C beyond all others, or an upper bound of 0: they do not pull at the rest here,
    and the sweeps see to it that they are zero.
    """
    regular = form.A + 1e-10 * torch.eye(form.A.shape[-1], dtype=form.A.dtype, device=form.A.device)
    L, _ = torch.linalg.cholesky_ex(regular)  # positive definite by construction
    allowed = form.C > -LARGEST_DESCENT
    if bounds is not None:
        allowed = allowed & (bounds.upper > bounds.lower)
    X = torch.where(allowed, torch.cholesky_solve(torch.where(allowed, form.C, 0.0), L), 0.0)
    return X.clamp(min=0) if bounds is None else bounds.clip(X)
