"""What ``nnls`` returns: W and how good it is."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.errors import ConvergenceWarning
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.certificate import is_best
from diffnmf.solvers.constrained.form import is_positive_semidefinite
from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.direct import solve_small
from diffnmf.solvers.entry import solve_problem
from diffnmf.solvers.largest_l1 import largest_l1
from diffnmf.solvers.optimality import Optimality, optimality
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.products import form_gram
from diffnmf.solvers.ranges import InRange
from diffnmf.solvers.transforms import transformed

# What rounding alone may leave of the KKT residual, by the dtype of the result, for a solution of size one.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# It grows with the solution, by this factor at the most: a W that is far too large shows that there is no minimum. In
# float64 the plain problem has another test, which says where that goes too far.
MAX_ROUNDING = {torch.float64: 1e6, torch.float32: 100.0, torch.float16: 100.0, torch.bfloat16: 100.0}


class NNLSSolution(NamedTuple):
    """What ``nnls`` returns.

    Attributes:
        W: (*batch, k, m) ≥ 0 but for ``signed`` entries, in the dtype and on the device of the inputs, differentiable.
        kkt_residual: (*batch,) float64: with unit columns of H, the largest |min(W, gradient)| / ‖y‖ (docs/nnls.md);
            NaN where an input is not finite.
        iterations: (*batch,) int64, the work that the hardest column of each problem took.
        converged: (*batch,) bool, whether kkt_residual is within what the solver promises, or within what rounding
            leaves, which grows with the size of W; in float64, for an exact solver, also whether every residual norm
            is certain to be within 9e-10 ‖y‖ of the least possible. False where an input is not finite.
        largest_useful_l1: (*batch,), in the dtype of the inputs (float32 for half precision; float64 with such
            weights): the smallest l1 at which W is all zero, see ``diffnmf.solvers.largest_useful_l1``; infinite where
            no l1 does that, with a given sum or signed entries.
        dual: (*batch, k, m) float64, without gradient: the derivative of the objective by W at W. It is zero for
            entries that no bound holds, or equal to ``total_dual``; what is above that holds an entry at zero.
        total_dual: (*batch, 1, m) float64, without gradient: the derivative of the minimum by ``total``; zero where
            there is no sum, or one that does not bind.

    Example:
        >>> import torch
        >>> from diffnmf import nnls
        >>> H = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> solution = nnls(H, torch.tensor([[1.0], [0.0], [-1.0]]))
        >>> solution.converged, solution.largest_useful_l1
        (tensor(True), tensor(1.))
        >>> solution.dual.round(decimals=3)  # of the entry that is held at zero, the objective would rise by 1.5
        tensor([[0.0000],
                [1.5000]], dtype=torch.float64)
    """

    W: Tensor
    kkt_residual: Tensor
    iterations: Tensor
    converged: Tensor
    largest_useful_l1: Tensor
    dual: Tensor
    total_dual: Tensor


def solve_and_judge(problem: Problem, solver: NNLSSolver, backward: str) -> NNLSSolution:
    """Solve B problems and judge the result."""
    return _judged(problem, *solve_problem(problem, solver, backward), solver)


def solve_and_judge_small(
    H: Tensor, Y: Tensor, solver: NNLSSolver, ridge: float | Tensor, l1: float | Tensor, backward: str
) -> NNLSSolution | None:
    """The same for one small problem as the user gave it, where no gradient is wanted; None in every other case."""
    small = solve_small(H, Y, solver, ridge, l1, backward, count=True)
    if small is None:
        return None
    W, steps = small
    assert steps is not None
    penalties = [torch.full((1, 1, 1), float(x), dtype=torch.float64, device="cpu") for x in (ridge, l1)]
    problem = Problem(H.unsqueeze(0), Y.unsqueeze(0), penalties[0], penalties[1], None, H.shape[:0], H.dtype)
    return _judged(problem, Solved(W.unsqueeze(0), steps.amax(0, keepdim=True)), InRange(problem), solver)


def _judged(problem: Problem, solved: Solved, ranged: InRange, solver: NNLSSolver) -> NNLSSolution:
    W = solved.W.to(problem.dtype)
    judged = ranged.scaled(W)  # what the user gets is judged, rounded to half precision or not
    judgement = optimality(ranged.problem, judged)
    residual = judgement.residual
    converged = residual <= _expected_residual(judgement, problem, solver)  # False for NaN
    certified = solver.exact and solver.tolerance == 0 and problem.dtype == torch.float64 and W.numel() > 0
    # A transform has no single answer to such questions, and a compiled graph no place for a warning.
    may_ask = not transformed(problem)
    if certified and problem.constraints is None and may_ask:
        converged = converged & is_best(ranged.problem, judged, judgement)
    if problem.squared:
        converged = converged & is_positive_semidefinite(ranged.problem.H.detach())
    elif problem.constraints is None and may_ask:
        converged = converged & _is_convex(ranged.problem)
    if may_ask and not (converged.all() and (ranged.finite is None or ranged.finite.all())):
        warnings.warn(_complaint(solver, residual, converged, ranged.finite), ConvergenceWarning, stacklevel=5)
    dual = ranged.gradient(judgement.gradient) + problem.l1.detach().double()
    total_dual = ranged.gradient(judgement.total_dual)[:, :1]  # with a sum all entries have one unit
    if ranged.finite is not None:
        finite = ranged.finite.flatten(1).all(1)
        residual, converged = torch.where(finite, residual, torch.nan), converged & finite
        dual, total_dual = (torch.where(ranged.finite, x, torch.nan) for x in (dual, total_dual))
    shape = problem.batch_shape

    def of_user(x: Tensor) -> Tensor:
        return x.reshape(shape + x.shape[1:])

    return NNLSSolution(
        of_user(W),
        of_user(residual),
        of_user(solved.iterations),
        of_user(converged),
        of_user(largest_l1(ranged, problem.allowed, judgement.gains)),
        of_user(dual),
        of_user(total_dual),
    )


def _is_convex(problem: Problem) -> Tensor:
    """Which problems (B,) have one minimum: a learned ridge may have become negative."""
    ridge = problem.ridge.detach().double()
    positive = (ridge >= 0).flatten(1).all(1)
    if looking_is_free(ridge.device) and positive.all():
        return positive
    G = form_gram(problem.H.detach())
    return positive | is_positive_semidefinite(G + torch.diag_embed(ridge.squeeze(-1).expand(len(G), G.shape[-1])))


def _complaint(solver: NNLSSolver, residual: Tensor, converged: Tensor, finite: Tensor | None) -> str:
    """What is wrong, in words: residual and converged (B,) of the finite columns, finite (B, 1, m) or None for all."""
    complaints, count = [], len(converged)
    if not converged.all():
        complaints.append(
            f"{int((~converged).sum())} of {count} problems have not converged"
            f" (largest KKT residual {residual.max().item():.1e})"
        )
    if finite is not None and not finite.all():
        columns = ~finite[:, 0]
        complaints.append(
            f"the input of {int(columns.any(-1).sum())} of {count} problems is not finite (NaN or infinity), or cannot"
            f" obey its constraints, and {int(columns.sum())} of {columns.numel()} columns of W are NaN"
        )
    return f"{type(solver).__name__}: {'; '.join(complaints)}; see `converged` of the result"


def _expected_residual(judgement: Optimality, problem: Problem, solver: NNLSSolver) -> Tensor:
    """What the solver promises, or what rounding leaves, which grows with the size of W; (B,)."""
    dtype = problem.dtype
    rounding = ROUNDING[dtype] * (1.0 + judgement.size)
    if dtype != torch.float64 or problem.constraints is not None:
        rounding = rounding.clamp(max=MAX_ROUNDING[dtype] * ROUNDING[dtype])
    return rounding.clamp(min=solver.tolerance)
