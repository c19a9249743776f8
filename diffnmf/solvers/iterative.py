"""Solvers that iterate on the Gram form, and what they do around their iterations: scale, finish, differentiate."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_flag, check_number, set_fields
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.constrained.gradient import with_constrained_gradient
from diffnmf.solvers.constrained.solve import solve_constrained
from diffnmf.solvers.direct import solve_by_kernel
from diffnmf.solvers.exact.finish import MAX_EXCHANGES, exact_finish
from diffnmf.solvers.gradient import with_implicit_gradient
from diffnmf.solvers.gram import GramForm, form_residual, gram_form, reachable
from diffnmf.solvers.problem import Problem


@dataclass(frozen=True)
class Iterate:
    """Where the iterations ended: X (B, k, m) ≥ 0 in the scaled unknowns, and how many there were, (B,)."""

    X: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class FirstOrderSolver(NNLSSolver):
    """Cheap steps on the scaled Gram form, the same for every column, then the exact finish on the support they found.

    Where the compiled kernel runs (``diffnmf.solvers.kernel``), the finish needs no support to begin with, and the
    steps are left out.

    With ``finish=False`` it is the truncated solve: the steps alone, which ``backward="unrolled"`` differentiates
    through. A subclass gives ``iterates``, a default for ``max_iter``, and perhaps another ``CHECK_EVERY``.

    Options:
        max_iter: steps, an int ≥ 0.
        tol: a problem whose KKT residual on the scaled Gram form is at or below this takes no further steps; looked at
            every ``CHECK_EVERY`` steps; 0 never stops early.
        finish: make the result exact on the support that was found.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from diffnmf.layers import NNLSLayer
        >>> from diffnmf.solvers import FirstOrderSolver
        >>> @dataclass(frozen=True)
        ... class PlainGradient(FirstOrderSolver):
        ...     max_iter: int = 200
        ...
        ...     def iterates(self, form, X0):
        ...         step, X = 1 / form.A.shape[-1], X0  # no eigenvalue of A is above its trace, k
        ...         for _ in range(self.max_iter):
        ...             X = (X - step * (form.A @ X - form.C)).clamp(min=0)
        ...             yield X
        >>> H, Y = torch.rand(2, 20, 5, requires_grad=True), torch.rand(2, 20, 8)
        >>> W = NNLSLayer(PlainGradient(finish=False), backward="unrolled")(H, Y)
        >>> torch.allclose(W, NNLSLayer(PlainGradient())(H, Y), atol=0.05)
        True
    """

    max_iter: int
    tol: float = 0.0
    finish: bool = True

    CHECK_EVERY: ClassVar[int] = 1

    def __post_init__(self) -> None:
        set_fields(
            self,
            max_iter=check_count("max_iter", self.max_iter),
            tol=check_number("tol", self.tol),
            finish=check_flag("finish", self.finish),
        )

    @property
    def exact(self) -> bool:
        return self.finish

    @property
    def finishes(self) -> bool:
        return self.finish

    @property
    def takes_constraints(self) -> bool:
        return self.finish

    @property
    def tolerance(self) -> float:
        return 0.0 if self.finish else self.tol

    @property
    def backwards(self) -> tuple[str, ...]:
        return ("implicit", "unrolled", "detached") if self.finish else ("unrolled", "detached")

    @abstractmethod
    def iterates(self, form: GramForm, X0: Tensor) -> Iterator[Tensor]:
        """The iterates X (B, k, m) ≥ 0 after each of ``max_iter`` steps from X0 (B, k, m) ≥ 0.

        In differentiable operations, in the dtype of the form: float32 where the finish follows. The iterates of one
        problem must not depend on another problem of the batch.
        """

    def truncated(self, steps: int) -> Self:
        return replace(self, max_iter=steps, finish=False)

    def solve(self, problem: Problem, backward: str) -> Solved:
        return solve_by_iterations(problem, backward, self._last_iterate, finish=self.finish)

    def _last_iterate(self, form: GramForm, X0: Tensor) -> Iterate:
        """The last of the iterates, or for each problem the first one that was found good enough."""
        X, tol = X0, reachable(self.tol, form.A.dtype)
        running = torch.ones(len(X0), dtype=torch.bool, device=X0.device)
        iterations = torch.zeros_like(running, dtype=torch.int64)
        if tol == 0:
            for moved in self.iterates(form, X0):
                X = moved
            return Iterate(X, iterations + self.max_iter)
        for step, moved in enumerate(self.iterates(form, X0), start=1):
            X = torch.where(running[:, None, None], moved, X)
            iterations = iterations + running
            if step % self.CHECK_EVERY == 0:
                running = running & (form_residual(form, X) > tol)
                if not running.any():
                    break
        return Iterate(X, iterations)


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
        backward: as in ``NNLSSolver.solve``; "implicit" only with the finish.
        iterate: from the scaled Gram form and a start X0 (B, k, m) ≥ 0 to an iterate, in differentiable operations. It
            works in float32 where the finish follows.
        finish: make the iterate exact on its support.
        max_exchanges: as in ``exact_finish``.
    """
    if problem.constraints is not None:
        return solve_with_constraints(problem, backward)
    if backward == "unrolled":
        return _truncated(problem, iterate)
    if finish:
        solved = solve_by_kernel(problem, backward)  # the finish alone: a kernel needs no guess
        if solved is not None:  # but for a penalty that is negative, or immense
            return solved
    with torch.no_grad():
        if not finish:
            return _truncated(problem, iterate)
        form = gram_form(problem)
        found = iterate(form.single(), _start(problem, form).float())
        finished = exact_finish(problem, form, found.X.double(), max_exchanges)
        W = form.unscale(finished.X)
        iterations = found.iterations + finished.exchanges
    if backward == "implicit":
        return Solved(with_implicit_gradient(problem, W, finished.systems, form.row_scale), iterations)
    return Solved(W.to(problem.H.dtype), iterations)


def _truncated(problem: Problem, iterate: Callable[[GramForm, Tensor], Iterate]) -> Solved:
    """The iterate itself, in differentiable operations."""
    form = gram_form(problem)
    found = iterate(form, _start(problem, form))
    return Solved(form.unscale(found.X).to(problem.H.dtype), found.iterations)


def solve_with_constraints(problem: Problem, backward: str) -> Solved:
    """The exact solution of a constrained problem; ``backward`` is "implicit" or "detached"."""
    found = solve_constrained(problem)
    if backward == "implicit":
        return Solved(with_constrained_gradient(problem, found), found.iterations)
    return Solved(found.W.to(problem.H.dtype), found.iterations)


def _start(problem: Problem, form: GramForm) -> Tensor:
    return torch.zeros_like(form.C) if problem.W0 is None else form.scale(problem.W0)
