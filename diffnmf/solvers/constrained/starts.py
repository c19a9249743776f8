"""Where principal pivoting begins: at a vertex, or at the minimum over a known free set; and where nothing can move."""

import torch
from torch import Tensor

from diffnmf.solvers.constrained.columns import BoundedColumns
from diffnmf.solvers.constrained.systems import BorderedSystems
from diffnmf.solvers.exact.finish import INDEPENDENT_PIVOT


def vertex(columns: BoundedColumns) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The first x and free set: the lower bounds; with a sum entries are filled, those first that gain most for it.

    Returns:
        x, free (N, k), whether the sum has a multiplier (N,), and whether it can be reached (N,).
    """
    lower, upper = columns.lower, columns.upper
    unbounded = lower.isinf()
    x = torch.where(unbounded, upper.clamp(max=0.0), lower)
    free = torch.zeros_like(unbounded)
    if columns.a is None or columns.t is None:
        nothing = torch.zeros_like(free[:, 0])  # of its own: results are written into it
        return x, free, nothing, ~nothing
    a, numbers = columns.a, torch.arange(x.shape[-1], device=x.device)
    left = columns.t - (a * x).sum(-1)
    nothing = 2 * x.shape[-1] * torch.finfo(x.dtype).eps * (columns.t.abs() + (a * x.abs()).sum(-1))
    done = ~unbounded.any(-1) & (left <= nothing)  # x is the only point, or there is none
    reachable = ~done | (left >= -nothing)
    diagonal = columns.A.diagonal(dim1=-2, dim2=-1)
    for _ in range(x.shape[-1]):
        room = upper - x
        step = torch.minimum(room, (left / a.mT).mT)
        gain = (0.5 * step * diagonal - columns.c + columns.times_A(x)) / a
        first = unbounded & ((room > 0) | (left < 0)[:, None])
        gain = torch.where(first, -torch.inf, torch.where(room > 0, gain, torch.inf))
        best, j = gain.min(-1)
        chosen = (numbers == j[:, None]) & (best < torch.inf)[:, None] & ~done[:, None]
        fits = (left / a.gather(1, j[:, None]).squeeze(1)) < room.gather(1, j[:, None]).squeeze(1)
        exhausted = ~done & (best == torch.inf)
        reachable &= ~exhausted | (left <= nothing)
        step = torch.where(fits[:, None], (left / a.mT).mT, room)
        moved = torch.where(chosen & fits[:, None], x + step, torch.where(chosen, upper, x))
        left = left - torch.where(chosen, a * torch.where(step.isfinite(), step, 0.0), 0.0).sum(-1)
        x, free = moved, free | (chosen & fits[:, None])
        done = done | exhausted | (chosen.any(-1) & fits)
    reachable &= done | (left <= nothing)  # or everything is full
    return x, free, free.any(-1), reachable


def only_point(columns: BoundedColumns, rounding: float, *, at_most: bool) -> tuple[Tensor, Tensor]:
    """Where the sum leaves one point, all entries at their lower bounds or all at their upper ones: (N,), and x (N, k).

    Arguments:
        columns: with a sum.
        rounding: by what part of itself the sum of all upper bounds may be off.
        at_most: whether the sum may be smaller.
    """
    assert columns.a is not None and columns.t is not None
    empty = columns.t <= (columns.a * columns.lower).sum(-1)
    full = (columns.a * columns.upper).sum(-1) <= columns.t * (1 + rounding)
    full = full & ~empty & (not at_most)
    return empty | full, torch.where(full[:, None], columns.upper, columns.lower)


def warm(columns: BoundedColumns, x: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``vertex``: the minimum over ``free``, less what is then beyond a bound; a vertex where that leaves none."""
    summed = torch.full_like(free[:, 0], columns.a is not None)
    x = torch.where(x.isfinite(), x, 0.0)
    for _ in range(x.shape[-1] + 1):
        there = minimum_over(columns, x, free, summed & free.any(-1))
        below, above = free & (there < columns.lower), free & (there > columns.upper)
        if not (below | above).any():
            break
        x = torch.where(below, columns.lower, torch.where(above, columns.upper, x))
        free = free & ~below & ~above
    binds = summed & free.any(-1)
    x0, free0, binds0, reachable = vertex(columns)
    good = ~summed | (binds & binds0 & reachable)  # otherwise there is one point only
    # Entries that can replace each other have no minimum of their own.
    good = good & (BorderedSystems(columns.A, columns.a, free, binds).pivot > INDEPENDENT_PIVOT)
    x = torch.where(good[:, None], x, x0)
    return x, torch.where(good[:, None], free, free0), torch.where(good, binds, binds0), reachable


def minimum_over(columns: BoundedColumns, x: Tensor, free: Tensor, binds: Tensor) -> Tensor:
    """x minimal over ``free``, with the other entries where they are."""
    systems = BorderedSystems(columns.A, columns.a, free, binds)
    fixed = torch.where(free, 0.0, x)
    left = torch.zeros_like(x[:, 0])
    if columns.a is not None and columns.t is not None:
        left = columns.t - (columns.a * fixed).sum(-1)
    v, _ = systems.solve_here(columns.c - columns.times_A(fixed), left)
    return torch.where(free, v, x)
