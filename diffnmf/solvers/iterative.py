"""What every solver that iterates on the Gram form does around its iterations: scale, finish exactly, differentiate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.solvers.base import Solved
from diffnmf.solvers.exact.finish import MAX_EXCHANGES, exact_finish
from diffnmf.solvers.gradient import with_implicit_gradient
from diffnmf.solvers.gram import GramForm, gram_form
from diffnmf.solvers.problem import Problem


@dataclass(frozen=True)
class Iterate:
    """Where the iterations ended: X (B, k, m) ≥ 0 in the scaled unknowns, and how many there were, (B,)."""

    X: Tensor
    iterations: Tensor


def solve_by_iterations(
    problem: Problem,
    backward: str,
    iterate: Callable[[GramForm, Tensor], Iterate],
    *,
    finish: bool,
    max_exchanges: int = MAX_EXCHANGES,
) -> Solved:
    """Run the iterations of a solver and give W the gradient asked for.

    Arguments:
        problem: B problems.
        backward: as in ``NNLSSolver.solve``.
        iterate: from the scaled Gram form and a start X0 (B, k, m) ≥ 0 to an iterate, in differentiable operations. It
            works in float32 where the finish follows.
        finish: make the iterate exact on its support; needed for the implicit gradient.
        max_exchanges: as in ``exact_finish``.
    """
    if backward == "unrolled":
        form = gram_form(problem)
        iterate_ = iterate(form, _start(problem, form))
        return Solved(form.unscale(iterate_.X).to(problem.H.dtype), iterate_.iterations)
    if backward == "implicit" and not finish and problem.needs_gradient:
        raise inexact_implicit()
    with torch.no_grad():
        form = gram_form(problem)
        start = _start(problem, form)
        if not finish:
            iterate_ = iterate(form, start)
            return Solved(form.unscale(iterate_.X).to(problem.H.dtype), iterate_.iterations)
        iterate_ = iterate(form.single(), start.float())
        finished = exact_finish(problem, form, iterate_.X.double(), max_exchanges)
        W = form.unscale(finished.X)
        iterations = iterate_.iterations + finished.exchanges
    if backward == "implicit":
        return Solved(with_implicit_gradient(problem, W, finished.systems, form.row_scale), iterations)
    return Solved(W.to(problem.H.dtype), iterations)


def inexact_implicit() -> ValueError:
    """The error for an implicit gradient of a solver that stops before the solution."""
    return ValueError(
        'backward: "implicit" is right only at the exact solution, and this solver stops before it;'
        ' use backward="unrolled" or "detached", or a solver with finish=True'
    )


def _start(problem: Problem, form: GramForm) -> Tensor:
    return torch.zeros_like(form.C) if problem.W0 is None else form.scale(problem.W0).detach()
