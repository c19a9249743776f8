"""The exact finish that every exact solver shares: from an approximate W to the solution on its true free set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.exact.accurate_residual import accurate_residual
from diffnmf.solvers.exact.chunks import index_chunks
from diffnmf.solvers.exact.columns import MAX_ROUNDING_LOSS, GramColumns, reduced_problems, rounding_tolerance
from diffnmf.solvers.exact.exchanges import ColumnSolution
from diffnmf.solvers.exact.masked import as_columns, factorize_masked, from_columns, inverse_row_sums
from diffnmf.solvers.exact.search import search, search_unsquared
from diffnmf.solvers.exact.systems import DifficultColumns, FreeSystems
from diffnmf.solvers.gram import GramForm, penalty_in_units
from diffnmf.solvers.problem import Problem

MAX_EXCHANGES = 10

# Pivots are squared sines of angles between columns of H. Above the first a solve with the Gram matrix loses at most
# two of the digits of float64; below the second it has too few for a float32 result. In between the refinement tells.
WELL_CONDITIONED_PIVOT = 1e-2
TRUSTED_PIVOT = 1e-12
TRUSTED_CORRECTION = 1e-6  # relative; what is left after one step of refinement is about its square

# Where columns of H are nearly dependent, a large step can make up for a gradient lost in rounding: a zero entry with a
# gradient below the first, in units of ‖y‖, may belong to the free set after all. Dependent is what has a pivot or a
# row sum of the inverse of the whole Gram matrix beyond the next two. A solution as large as the last is suspect, too.
NEAR_TIE = 1e-9
INDEPENDENT_PIVOT = 1e-8
INDEPENDENT_ROW_SUM = 1e8
LARGE_SOLUTION = 1e5


@dataclass(frozen=True)
class Finished:
    """The solution X (B, k, m) of the scaled Gram form, the systems on its free sets, and the exchanges, (B,)."""

    X: Tensor
    systems: FreeSystems
    exchanges: Tensor


def exact_finish(problem: Problem, form: GramForm, X: Tensor, max_exchanges: int) -> Finished:
    """Solve every column exactly, from the guess that its positive entries are the free set.

    The search for the free set (``search.py``); one step of refinement with the unsquared residual where H is not well
    conditioned; and the active-set method on the unsquared problem for the columns where this shows that the Gram
    matrix lost too much.

    Arguments:
        problem: B problems.
        form: their scaled Gram form.
        X: (B, k, m) ≥ 0, the guess.
        max_exchanges: systems per column before the active-set method takes over.
    """
    columns = GramColumns(form.A, as_columns(form.C))
    may_look = looking_is_free(form.A.device)
    found, solve_the_rest = search(columns, as_columns(X), max_exchanges)
    if may_look:
        solve_the_rest()
    suspect = _refine(problem, form, found) | _undecided(columns, found)
    again = None
    # The one place where an accelerator is waited for: unless something is left to do, nothing else is read back.
    if (~found.solved | suspect).any():
        if not may_look:
            solve_the_rest()
            suspect = _refine(problem, form, found) | _undecided(columns, found)
        again = _without_squaring(problem, form, found, ~found.solved | suspect)
    batch, m = len(form.A), form.C.shape[-1]
    systems = FreeSystems(form.A, found.factor, again)
    return Finished(from_columns(found.x, batch), systems, found.exchanges.reshape(batch, m).amax(1))


def take_care(problem: Problem, form: GramForm, found: ColumnSolution) -> DifficultColumns | None:
    """What the exact finish does after the search, for the columns that are not ``solved``; in place.

    Arguments:
        problem: B problems, in range.
        form: their scaled Gram form.
        found: what the kernel has found for their B·m columns.

    Returns:
        The columns for which the Gram matrix is too inaccurate.
    """
    columns, free = GramColumns(form.A, as_columns(form.C)), found.factor.free
    suspect = _refine(problem, form, found) | _undecided(columns, found)
    gradient = columns.gradient(found.x)
    wrong = torch.where(free, torch.minimum(found.x, -gradient.abs()), gradient) < -4 * rounding_tolerance(found.x)
    return _without_squaring(problem, form, found, ~found.solved & (suspect | wrong.any(-1)))


def _refine(problem: Problem, form: GramForm, found: ColumnSolution) -> Tensor:
    """One corrected step with the unsquared residual, in place: it gives back digits that HᵀH has lost (Björck 1987).

    Returns:
        Which columns (B·m,) are suspect: the Gram matrix is too inaccurate for them, because it is nearly singular, or
        because the step was large or left the KKT conditions.
    """
    suspect = found.factor.pivot < TRUSTED_PIVOT
    wanted = found.factor.pivot < WELL_CONDITIONED_PIVOT
    # In float32 the last digits would be rounded away. An accelerator is not asked whether a column wants it.
    if problem.H.dtype != torch.float64 or (looking_is_free(wanted.device) and not wanted.any()):
        return suspect
    X = from_columns(found.x, len(form.A))
    W = X * (form.column_scale / form.row_scale)
    residual = torch.baddbmm(problem.Y, problem.H, W, beta=1, alpha=-1)  # (B, n, m)
    descent = problem.H.mT @ residual - problem.l1 - problem.ridge * W
    descent = descent / form.row_scale / form.column_scale
    correction = FreeSystems(form.A, found.factor).solve(descent)
    corrected = as_columns(X + correction)
    gradient = as_columns(torch.baddbmm(descent, form.A, correction, beta=-1))
    violated = torch.where(found.factor.free, corrected, gradient) < -rounding_tolerance(corrected)
    large = as_columns(correction).abs().amax(-1) > TRUSTED_CORRECTION * found.x.amax(-1)
    suspect = suspect | (wanted & (violated.any(-1) | large))
    found.x = torch.where((wanted & ~suspect)[:, None], corrected.clamp(min=0), found.x)
    return suspect


def _undecided(columns: GramColumns, found: ColumnSolution) -> Tensor:
    """Which columns (B·m,) the Gram form cannot decide on, though nothing in it is wrong.

    H has to be nearly dependent for that, and the columns outside the free set count, too.
    """
    sums, pivot = inverse_row_sums(columns.A)
    dependent = pivot < INDEPENDENT_PIVOT
    disguised = ~dependent & (sums.abs().amax(-1) > INDEPENDENT_ROW_SUM)
    if looking_is_free(pivot.device) and not (dependent | disguised).any():
        return torch.zeros_like(found.solved)
    # A column of H that is orthogonal to all others, such as a zero column, has no part in it.
    alone = columns.A.abs().sum(-1) <= 1
    m, total = len(found.x) // len(columns.A), len(found.x)
    dependent, disguised, alone = (
        x.repeat_interleave(m, dim=0, output_size=total) for x in (dependent, disguised, alone)
    )
    near_tie = (~found.factor.free & ~alone & (columns.gradient(found.x) < NEAR_TIE)).any(-1)
    return disguised | (dependent & near_tie) | (found.x.sum(-1) > LARGE_SOLUTION)


def _without_squaring(
    problem: Problem, form: GramForm, found: ColumnSolution, difficult: Tensor
) -> DifficultColumns | None:
    """The active-set method on a QR of H for the columns marked (B·m,); in place."""
    left = difficult.nonzero().squeeze(-1)
    for numbers in index_chunks(left, form.A.shape[-1]):
        found.put(numbers, search_unsquared(reduced_problems(problem, form, numbers), found.x[numbers]))
    _no_worse_than_zero(problem, form, found, difficult)
    return DifficultColumns(left, problem, form) if found.factor.L is None and len(left) else None


def _no_worse_than_zero(problem: Problem, form: GramForm, found: ColumnSolution, difficult: Tensor) -> None:
    """W = 0 in columns marked (B·m,) where rounding a huge W to the dtype of the result costs more than W gains."""
    huge = difficult & (found.x.sum(-1) > MAX_ROUNDING_LOSS / torch.finfo(problem.dtype).eps)
    where = huge.reshape(len(form.A), -1).any(-1).nonzero().squeeze(-1)
    if len(where) == 0:
        return
    scale = form.column_scale[where] / form.row_scale[where]
    W = (from_columns(found.x, len(form.A))[where] * scale).to(problem.dtype).double()
    ridge, l1 = (penalty[where].double() for penalty in (problem.ridge, problem.l1))
    H, Y = problem.H[where].double(), problem.Y[where].double()
    residual, unit = accurate_residual(H, Y, W) / form.column_scale[where], Y / form.column_scale[where]
    penalty = penalty_in_units(l1, ridge, W, form.column_scale[where])
    # Whoever multiplies H by W in the usual way loses this.
    loss = torch.finfo(W.dtype).eps * (W / scale).sum(-2)
    is_worse = torch.zeros(len(form.A), W.shape[-1], dtype=torch.bool, device=W.device)
    is_worse[where] = ~((residual.square().sum(-2) + penalty).sqrt() + loss <= unit.square().sum(-2).sqrt())
    worse = (huge & is_worse.flatten()).nonzero().squeeze(-1)
    nothing = torch.zeros_like(found.x[worse])
    found.x[worse] = nothing
    identity = torch.eye(nothing.shape[-1], dtype=form.A.dtype, device=form.A.device).unsqueeze(0)
    found.factor.put(worse, factorize_masked(identity, nothing > 0))
