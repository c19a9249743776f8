"""The active-set method with bounds and a sum on a QR factor of H, for the columns that a Gram matrix cannot solve.

Squaring H squares its condition number. Here every minimum over a free set is a least-squares problem of its own:
slower, and as good as H itself. It walks as Lawson and Hanson (1974) do, with an upper bound for each entry, and with
the sum hidden in one of the free entries (``systems.py``).
"""

import torch
from torch import Tensor

from diffnmf.solvers.constrained.columns import BoundedColumns, BoundedSolution
from diffnmf.solvers.constrained.form import LARGEST_COST
from diffnmf.solvers.constrained.systems import BorderedSystems
from diffnmf.solvers.exact.chunks import max_entries
from diffnmf.solvers.exact.columns import Minimum, ReducedColumns
from diffnmf.solvers.problem import Problem


def reduced(problem: Problem, d: Tensor, s: Tensor, numbers: Tensor) -> ReducedColumns:
    """The columns ``numbers`` (N,) of B·m as min ½‖Rx − y‖² + wᵀx, each with an R of its own; x = w d / s.

    Arguments:
        problem: B problems.
        d, s: (N, k) and (N, 1), the scales of these columns.
        numbers: which.
    """
    assert problem.constraints is not None
    m, (n, k) = problem.Y.shape[-1], problem.H.shape[1:]
    problems, column = numbers // m, numbers % m
    ridge = problem.ridge.double().expand(-1, k, m)[problems, :, column]
    H, y = problem.H[problems].double(), problem.Y[problems, :, column].double()
    if problem.constraints.weights is not None:
        root = problem.constraints.weights.expand(-1, -1, m)[problems, :, column].double().sqrt()
        H, y = H * root.unsqueeze(-1), y * root
    tail = torch.diag_embed(ridge.sqrt() / d)
    Q, R = torch.linalg.qr(torch.cat((H / d.unsqueeze(-2), tail), dim=-2))
    y = (Q[:, :n].mT @ (y / s).unsqueeze(-1)).squeeze(-1)
    weight = (problem.l1.double().expand(-1, k, m)[problems, :, column] / d / s).clamp(max=LARGEST_COST)
    return ReducedColumns(R, y, weight)


def few(numbers: Tensor, problem: Problem) -> tuple[Tensor, ...]:
    """A list of columns, cut into runs whose H may be in memory, one for each."""
    n, k = problem.H.shape[1:]
    return numbers.split(max(1, max_entries(numbers.device) // max(1, (n + k) * k))) if len(numbers) else ()


def hidden_sum(columns: ReducedColumns, systems: BorderedSystems) -> ReducedColumns:
    """The same columns in terms of the other free entries, where the sum is hidden in one; for e = 0."""
    if systems.a is None:
        return columns
    hidden, w = systems.hidden, systems.share
    column = (columns.R * hidden.unsqueeze(-2)).sum(-1, keepdim=True)
    weight = (columns.weight * hidden).sum(-1, keepdim=True)
    return ReducedColumns(columns.R - column * w.unsqueeze(-2), columns.y, columns.weight - w * weight)


def active_set(columns: BoundedColumns, unsquared: ReducedColumns, start: Tensor) -> BoundedSolution:
    """Solve N columns.

    Arguments:
        columns: their Gram form, for the bounds and the sum; with one matrix each.
        unsquared: what is minimised.
        start: x (N, k), feasible.
    """
    x, most = start.clone(), 6 * start.shape[-1] + 20
    free = (x > columns.lower) & (x < columns.upper)
    steps = torch.zeros_like(x[:, 0], dtype=torch.int64)
    running, rejected = torch.ones_like(free[:, 0]), torch.zeros_like(free)
    pivot = torch.ones_like(x[:, 0])
    for _ in range(most):
        binds = _binds(columns, free)
        z, minimum = _minimum(columns, unsquared, x, free, binds)
        regular = minimum.factor.regular | ~free.any(-1)
        low, high = free & (z < columns.lower), free & (z > columns.upper)
        inside = ~(low | high).any(-1) & regular
        wanted = _entering(columns, minimum, x, free, rejected) & inside[:, None]
        done = inside & ~wanted.any(-1)
        pivot = torch.where(running, minimum.factor.pivot, pivot)
        x = torch.where((running & inside)[:, None], z, x)
        running = running & ~done
        if not running.any():
            break
        steps = steps + running
        moved, blocking = _until_a_bound(columns, x, z, low, high, free)
        partly = running & ~inside & regular
        rejected = rejected & ~(partly & (moved != x).any(-1))[:, None]
        x = torch.where(partly[:, None], moved, x)
        free = free & ~(blocking & partly[:, None])
        # A free set that turned out dependent loses what came last, which is not tried again before something moves.
        dependent = running & ~regular
        score = torch.where(wanted, minimum.gradient.abs(), -1.0)
        entering = torch.zeros_like(free).scatter(1, score.argmax(-1, keepdim=True), True) & wanted & running[:, None]
        last = torch.where(dependent[:, None], free & _last(free, x, columns), False)
        rejected = rejected | last
        free = (free | entering) & ~last
    binds = _binds(columns, free)
    return BoundedSolution(x, free, binds, pivot, ~running, steps)


def _binds(columns: BoundedColumns, free: Tensor) -> Tensor:
    return free.any(-1) if columns.a is not None else torch.zeros_like(free[:, 0])


def _last(free: Tensor, x: Tensor, columns: BoundedColumns) -> Tensor:
    """Of the free entries the one nearest to a bound, (N, k) bool: it has just entered, and not moved."""
    room = torch.minimum(x - columns.lower, columns.upper - x).clamp(max=torch.finfo(x.dtype).max)
    nearest = torch.where(free, room, torch.inf).argmin(-1, keepdim=True)
    return torch.zeros_like(free).scatter(1, nearest, True)


def _minimum(
    columns: BoundedColumns, unsquared: ReducedColumns, x: Tensor, free: Tensor, binds: Tensor
) -> tuple[Tensor, Minimum]:
    """The minimum over ``free`` with the others where they are, and what it says of all entries."""
    systems = BorderedSystems(columns.A, columns.a, free, binds)
    fixed = torch.where(free, 0.0, x)
    rest = torch.zeros_like(x[:, :1])
    if columns.a is not None and columns.t is not None:
        left = columns.t - (columns.a * fixed).sum(-1)
        rest = torch.where(systems.hidden, (left[:, None] / columns.a), 0.0)
    others = hidden_sum(unsquared, systems)
    y = unsquared.y - (unsquared.R @ (fixed + rest).unsqueeze(-1)).squeeze(-1)
    minimum = ReducedColumns(others.R, y, others.weight).minimum(free & ~systems.hidden)
    z = torch.where(free, minimum.x, x)
    if columns.a is not None:
        hidden = rest.sum(-1, keepdim=True) - (systems.share * minimum.x).sum(-1, keepdim=True)
        z = torch.where(systems.hidden, hidden, z)
    return z, minimum


def _entering(columns: BoundedColumns, minimum: Minimum, x: Tensor, free: Tensor, rejected: Tensor) -> Tensor:
    """The entries outside the free set (N, k) whose gradient wants them to move from their bound."""
    gradient = minimum.gradient  # of f, by an entry and what follows in the sum
    up = (gradient < -minimum.tolerance) & (x < columns.upper)
    down = (gradient > minimum.tolerance) & (x > columns.lower)
    return (up | down) & ~free & ~rejected


def _until_a_bound(
    columns: BoundedColumns, x: Tensor, z: Tensor, low: Tensor, high: Tensor, free: Tensor
) -> tuple[Tensor, Tensor]:
    """From x towards z until a free entry meets a bound; and which do."""
    room = torch.where(low, x - columns.lower, columns.upper - x).clamp(min=0)
    beyond = low | high
    share = torch.where(beyond, room / (z - x).abs(), torch.inf)
    least = share.amin(-1, keepdim=True)
    blocking = beyond & (share == least)
    moved = torch.where(free, x + least.clamp(max=1.0) * (z - x), x)
    return torch.where(blocking, torch.where(low, columns.lower, columns.upper), moved), blocking
