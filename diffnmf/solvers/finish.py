"""The exact finish that every exact solver shares: from an approximate W to the solution on its true free set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.solvers.active_set import active_set
from diffnmf.solvers.block_pivoting import ColumnSolution, block_pivoting
from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.masked import FreeSystems, as_columns, column_chunks, from_columns
from diffnmf.solvers.problem import Problem

MAX_EXCHANGES = 10


@dataclass(frozen=True)
class Finished:
    """The solution X (B, k, m) of the scaled Gram form, the systems on its free sets, and the exchanges, (B,)."""

    X: Tensor
    systems: FreeSystems
    exchanges: Tensor


def exact_finish(problem: Problem, form: GramForm, X: Tensor, max_exchanges: int) -> Finished:
    """Solve every column exactly, from the guess that its positive entries are the free set.

    A masked solve on the support; block pivoting for a few exchanges, only for the columns that still violate the
    KKT conditions; the active-set method for the stubborn rest; and one step of refinement.

    Arguments:
        problem: B problems.
        form: their scaled Gram form.
        X: (B, k, m) ≥ 0, the guess.
        max_exchanges: systems per column before the active-set method takes over.
    """
    batch, _, m = X.shape
    start, C = as_columns(X), as_columns(form.C)
    chunks = [_finish_columns(A, C[i], start[i], max_exchanges) for i, A in column_chunks(form.A, m)]
    free = from_columns(torch.cat([chunk.factor.free for chunk in chunks]), batch)
    systems = FreeSystems(form.A, free, chunks[0].factor if len(chunks) == 1 else None)
    X = from_columns(torch.cat([chunk.x for chunk in chunks]), batch)
    if problem.H.dtype == torch.float64:  # in float32 the last digits would be rounded away
        X = _refine(problem, form, systems, X)
    return Finished(X, systems, torch.cat([chunk.exchanges for chunk in chunks]).reshape(batch, m).amax(1))


def _finish_columns(A: Tensor, c: Tensor, x: Tensor, max_exchanges: int) -> ColumnSolution:
    found = block_pivoting(A, c, x > 0, max_exchanges)
    stubborn = (~found.solved).nonzero().squeeze(-1)
    if len(stubborn):
        rest = active_set(A[stubborn], c[stubborn], x[stubborn])
        found.x[stubborn] = rest.x
        found.factor.put(stubborn, rest.factor)
        found.solved[stubborn] = rest.solved
        found.exchanges[stubborn] += rest.exchanges
    return found


def _refine(problem: Problem, form: GramForm, systems: FreeSystems, X: Tensor) -> Tensor:
    """One corrected step with the unsquared residual, which gives back digits that HᵀH has lost (Björck 1987)."""
    W = X * (form.column_scale / form.row_scale)
    residual = torch.baddbmm(problem.Y, problem.H, W, beta=1, alpha=-1)  # (B, n, m)
    descent = problem.H.mT @ residual - problem.l1[:, None, None] - problem.ridge[:, None, None] * W
    correction = systems.solve(descent / form.row_scale / form.column_scale)
    # A correction as large as X itself says that the system is singular to working precision: leave X alone.
    sane = correction.abs().amax(-2, keepdim=True) <= X.abs().amax(-2, keepdim=True)
    return (X + torch.where(sane, correction, 0.0)).clamp(min=0)
