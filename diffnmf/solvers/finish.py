"""The exact finish that every exact solver shares: from an approximate W to the solution on its true free set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.solvers.active_set import active_set
from diffnmf.solvers.block_pivoting import ColumnSolution, block_pivoting, rounding_tolerance
from diffnmf.solvers.columns import GramColumns, reduced_columns
from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.masked import as_columns, column_chunks, from_columns, index_chunks
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.systems import DifficultColumns, FreeSystems

MAX_EXCHANGES = 10

# Below this pivot (the squared sine of an angle between columns of H) a solve with the Gram matrix has too few digits
# for a float32 result. For a float64 result the refinement tells.
TRUSTED_PIVOT = 1e-12
TRUSTED_CORRECTION = 1e-6  # relative; what is left after one step of refinement is about its square


@dataclass(frozen=True)
class Finished:
    """The solution X (B, k, m) of the scaled Gram form, the systems on its free sets, and the exchanges, (B,)."""

    X: Tensor
    systems: FreeSystems
    exchanges: Tensor


def exact_finish(problem: Problem, form: GramForm, X: Tensor, max_exchanges: int) -> Finished:
    """Solve every column exactly, from the guess that its positive entries are the free set.

    A masked solve on the support; block pivoting for a few exchanges, only for the columns that still violate the
    KKT conditions; the active-set method for the stubborn rest; one step of refinement with the unsquared residual; and
    the active-set method on the unsquared problem for the columns where this shows that the Gram matrix lost too much.

    Arguments:
        problem: B problems.
        form: their scaled Gram form.
        X: (B, k, m) ≥ 0, the guess.
        max_exchanges: systems per column before the active-set method takes over.
    """
    batch, k, m = X.shape
    start, C = as_columns(X), as_columns(form.C)
    x, free = torch.empty_like(start), torch.empty_like(start, dtype=torch.bool)
    exchanges = torch.empty_like(start[:, 0], dtype=torch.int64)
    doubtful = torch.empty_like(start[:, 0], dtype=torch.bool)
    factor = None
    for chunk, A in column_chunks(form.A, m):
        found = _finish_columns(GramColumns(A, C[chunk]), start[chunk], max_exchanges)
        x[chunk], free[chunk], exchanges[chunk] = found.x, found.factor.free, found.exchanges
        doubtful[chunk] = _doubtful(found)
        if chunk == slice(0, batch * m):  # the factors of all columns are worth keeping where there are few
            factor = found.factor
    if problem.H.dtype == torch.float64:  # in float32 the last digits would be rounded away
        systems = FreeSystems(form.A, from_columns(free, batch), factor)
        x, suspect = _refine(problem, form, systems, from_columns(x, batch))
        doubtful |= suspect

    difficult = doubtful.nonzero().squeeze(-1)
    for numbers in index_chunks(difficult, k):
        exact = active_set(reduced_columns(problem, form, numbers), x[numbers])
        x[numbers], free[numbers] = exact.x, exact.factor.free
        exchanges[numbers] += exact.exchanges
        if factor is not None:
            factor.put(numbers, exact.factor)
    again = DifficultColumns(difficult, problem, form) if factor is None and len(difficult) else None
    systems = FreeSystems(form.A, from_columns(free, batch), factor, again)
    return Finished(from_columns(x, batch), systems, exchanges.reshape(batch, m).amax(1))


def _finish_columns(problems: GramColumns, x: Tensor, max_exchanges: int) -> ColumnSolution:
    found = block_pivoting(problems, x > 0, max_exchanges)
    stubborn = (~found.solved).nonzero().squeeze(-1)
    if len(stubborn):
        found.put(stubborn, active_set(problems.take(stubborn), x[stubborn]))
    return found


def _doubtful(found: ColumnSolution) -> Tensor:
    """The columns (N,) that are unsolved, or solved with a nearly singular system."""
    pivots = found.factor.L.diagonal(dim1=-2, dim2=-1).square().amin(-1)
    return ~found.solved | (pivots < TRUSTED_PIVOT)


def _refine(problem: Problem, form: GramForm, systems: FreeSystems, X: Tensor) -> tuple[Tensor, Tensor]:
    """One corrected step with the unsquared residual, which gives back digits that HᵀH has lost (Björck 1987).

    Returns:
        The columns x (B·m, k), and which of them (B·m,) are suspect: the step was large, or left the KKT conditions.
    """
    W = X * (form.column_scale / form.row_scale)
    residual = torch.baddbmm(problem.Y, problem.H, W, beta=1, alpha=-1)  # (B, n, m)
    descent = problem.H.mT @ residual - problem.l1[:, None, None] - problem.ridge[:, None, None] * W
    descent = descent / form.row_scale / form.column_scale
    correction = systems.solve(descent)
    x, corrected = as_columns(X), as_columns(X + correction)
    gradient = as_columns(torch.baddbmm(descent, form.A, correction, beta=-1))
    violated = torch.where(as_columns(systems.free), corrected, gradient) < -rounding_tolerance(corrected)
    large = as_columns(correction).abs().amax(-1) > TRUSTED_CORRECTION * x.amax(-1)
    # A problem with NaN or infinity is solved as another one, and comes out as NaN whatever is here.
    suspect = (violated.any(-1) | large) & form.finite.repeat_interleave(X.shape[-1])
    return torch.where(suspect[:, None], x, corrected.clamp(min=0)), suspect
