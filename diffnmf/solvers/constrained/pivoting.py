"""Principal pivoting for bounds and a sum, for many columns in step, in operations of torch.

Cottle and Dantzig (1968), Complementary pivot theory of mathematical programming. The compiled kernel does the same
column by column (``kernels/constrained.c`` tells how), and so does the program for CUDA (``kernels/cuda/bounded.py``);
this is the reference, the way on other devices, and the second attempt after either.

Let F be the free entries and N the others, each at a bound. The tableau M is what the symmetric sweep of A on F leaves,
with the multiplier of the sum swept in first, where there is one; its own row is not needed again:

    M_FF = −K⁻¹ on F,   M_FN = K⁻¹A_FN,   M_NN = A_NN − A_NF K⁻¹ A_FN,     K = A_FF, or bordered by a.

x stays feasible and minimal over F, and r = c − Ax − λa is zero on F. An entry outside F whose gradient wants it
to move does so, and the free ones follow along −M_Fj: to its own minimum (sweep it in), to its other bound (no sweep),
or until a free entry meets a bound (sweep that out, and go on). The objective falls from minimum to minimum over F, so
that no F returns; a step that is blocked only makes F smaller.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from diffnmf.kernels.cuda import constrained as kernels
from diffnmf.solvers.constrained.columns import LEAST_RESIDUAL, BoundedColumns, BoundedSolution
from diffnmf.solvers.constrained.starts import minimum_over, vertex, warm
from diffnmf.solvers.constrained.systems import BorderedSystems
from diffnmf.solvers.exact.finish import LARGE_SOLUTION


@dataclass
class _Walk:
    """N columns on their way. M (N, k, k); x and r (N, k); free, rejected (N, k) bool; entering (N,), −1 for none."""

    M: Tensor
    x: Tensor
    r: Tensor
    free: Tensor
    rejected: Tensor
    entering: Tensor
    binds: Tensor

    def take(self, index: Tensor) -> "_Walk":
        return _Walk(*(getattr(self, field.name)[index] for field in fields(self)))

    def put(self, index: Tensor, other: "_Walk") -> None:
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


def principal_pivoting(columns: BoundedColumns, start: tuple[Tensor, Tensor] | None) -> BoundedSolution:
    """Solve N columns.

    Arguments:
        columns: the problems.
        start: x (N, k) within the bounds and free (N, k) bool, the entries in between; None: found from the data.
    """
    on_device = kernels.available(columns.A, columns.c)
    found, movable = _first_on_device(columns) if on_device else _first(columns, start)
    left = (movable & ~found.solved).nonzero().squeeze(-1)
    for again in (True, False):  # rounding of many sweeps: a new tableau of the same free set, then all over again
        if len(left) == 0:
            break
        part = columns.take(left)
        x, free, binds, _ = warm(part, found.x[left], found.free[left]) if again else vertex(part)
        found.put(left, _attempt(part, x, free, binds))
        left = left[~found.solved[left]]
    if len(left):
        bring_back(columns, found, left)
    found.x = columns.clipped(found.x)
    return found


def bring_back(columns: BoundedColumns, found: BoundedSolution, numbers: Tensor) -> None:
    """Of the columns ``numbers`` those that no search has solved and that are lost, to where it began, in place.

    From where a search that has failed has left a signed entry there is no way back.
    """
    lost = numbers[~found.solved[numbers] & (found.x[numbers].abs().sum(-1) > LARGE_SOLUTION)]
    if len(lost):
        found.x[lost], found.free[lost], found.binds[lost], _ = vertex(columns.take(lost))


def _first(columns: BoundedColumns, start: tuple[Tensor, Tensor] | None) -> tuple[BoundedSolution, Tensor]:
    """The first attempt, and which columns there is something to be found for, (N,) bool."""
    columns = columns.take(torch.arange(len(columns.c), device=columns.c.device))  # a matrix each
    x, free, binds, reachable = vertex(columns) if start is None else warm(columns, *start)
    nothing = torch.zeros_like(reachable, dtype=torch.int64)
    found = BoundedSolution(x, free, binds, torch.ones_like(x[:, 0]), reachable, nothing)
    # Where a sum holds no entry there is one point only, or none.
    movable = reachable if columns.a is None else reachable & binds
    left = movable.nonzero().squeeze(-1)
    if len(left):
        found.put(left, _attempt(columns.take(left), x[left], free[left], binds[left]))
    return found, movable


def _first_on_device(columns: BoundedColumns) -> tuple[BoundedSolution, Tensor]:
    """As ``_first`` in one launch. It begins at a vertex: to make a tableau of other free sets would cost more."""
    x, free, binds, ended, reached, steps = kernels.walk(
        *(columns.A, columns.weight, columns.c, columns.lower, columns.upper, columns.a, columns.t),
        most=columns.most_steps,
    )
    found = _judged(columns, x, free, binds, ended, steps)
    movable = reached if columns.a is None else reached & binds
    # The others have one point only, or none.
    found.x = torch.where(movable[:, None], found.x, x)
    found.pivot = torch.where(movable, found.pivot, 1.0)
    found.solved = torch.where(movable, found.solved, reached)
    return found, movable


def _begin(columns: BoundedColumns, x: Tensor, free: Tensor, binds: Tensor) -> _Walk:
    """The tableau of a free set, and x and r minimal over it."""
    x = minimum_over(columns, x, free, binds)
    K, border = columns.A, None
    k = x.shape[-1]
    if columns.a is not None:
        border = torch.where(binds[:, None], columns.a, 0.0)
        K = torch.cat(
            (torch.cat((K, border.unsqueeze(-2)), -2), torch.nn.functional.pad(border, (0, 1)).unsqueeze(-1)), -1
        )
        members = torch.cat((free, binds[:, None]), -1)
    else:
        members = free
    pair = members.unsqueeze(-1) & members.unsqueeze(-2)
    identity = torch.eye(K.shape[-1], dtype=K.dtype, device=K.device)
    inverse = torch.where(pair, torch.linalg.inv_ex(torch.where(pair, K, identity))[0], 0.0)
    rows = K[:, :, :k]  # of the entries and the multiplier
    cross = inverse @ rows  # K⁻¹A_F·
    M = columns.A - rows.mT @ cross
    M = torch.where(free.unsqueeze(-1), cross[:, :k], M)
    M = torch.where(free.unsqueeze(-2), M.mT, M)
    M = torch.where(free.unsqueeze(-1) & free.unsqueeze(-2), -inverse[:, :k, :k], M)
    r = columns.c - columns.times_A(x)
    if border is not None:
        r = r - columns.multiplier(r, free & binds[:, None]) * border
    r = torch.where(free, 0.0, r)
    nothing = torch.zeros_like(free)
    return _Walk(M, x, r, free.clone(), nothing, torch.full_like(binds, -1, dtype=torch.int64), binds)


def _attempt(columns: BoundedColumns, x: Tensor, free: Tensor, binds: Tensor) -> BoundedSolution:
    """Pivot from a feasible start until every column is solved or out of steps, and judge the results."""
    most = columns.most_steps
    walk = _begin(columns, x, free, binds)
    ended = walk.take(torch.arange(len(x), device=x.device))
    steps = torch.full_like(binds, most, dtype=torch.int64)
    running, part = torch.arange(len(x), device=x.device), columns
    for step in range(most + 1):
        walk.entering = torch.where(walk.entering >= 0, walk.entering, _choose(part, walk, first=step > most // 2))
        done = walk.entering < 0
        if done.any() or step == most:
            ended.put(running, walk)
            steps[running[done]] = step
            left = (~done).nonzero().squeeze(-1)
            running, walk, part = running[left], walk.take(left), part.take(left)
            if len(left) == 0:
                break
        _step(part, walk)
    return _judged(columns, ended.x, ended.free, ended.binds, ended.entering < 0, steps)


def _choose(columns: BoundedColumns, walk: _Walk, *, first: bool) -> Tensor:
    """The entry outside F that promises most, (gradient)²/curvature, or the first one; (N,), −1 where there is none."""
    up = torch.where(walk.x < columns.upper, walk.r, 0.0)
    down = torch.where(walk.x > columns.lower, -walk.r, 0.0)
    wrong = torch.maximum(up, down)
    # r is without the multiplier already; where there is no sum there is none.
    descent = walk.r if columns.a is None else columns.c - columns.times_A(walk.x)
    multiplier = columns.multiplier(descent, walk.free & walk.binds[:, None])
    wanted = (wrong > columns.tolerance(walk.x, multiplier)) & ~walk.free & ~walk.rejected
    curvature = walk.M.diagonal(dim1=-2, dim2=-1).clamp(min=_flat(walk.x))
    score = torch.where(wanted, wrong.square() / curvature, 0.0)
    if first:  # Murty's least index: degenerate vertices have no cycles then
        score = wanted.to(score.dtype) * torch.arange(score.shape[-1], 0, -1, device=score.device)
    best, j = score.max(-1)
    return torch.where(best > 0, j, -1)


def _flat(x: Tensor) -> float:
    return 2 * x.shape[-1] * torch.finfo(x.dtype).eps


def _step(columns: BoundedColumns, walk: _Walk) -> None:
    """One step of every column, each with an entry to move; in place."""
    j = walk.entering[:, None]
    at_j = torch.zeros_like(walk.free).scatter(1, j, True)
    r_j = walk.r.gather(1, j)
    sign = torch.where(r_j > 0, 1.0, -1.0)
    column = walk.M.gather(2, j.unsqueeze(-1).expand(-1, walk.M.shape[1], 1)).squeeze(-1)  # (N, k)
    d = column.gather(1, j)
    # How far it goes: to its minimum, to its other bound, or until a free entry meets one.
    full = torch.where(d > _flat(walk.x), r_j.abs() / d, torch.inf)
    room = torch.where(sign > 0, columns.upper - walk.x, walk.x - columns.lower)
    own = room.gather(1, j)
    speed = torch.where(walk.free, -sign * column, 0.0)
    space = torch.where(speed > 0, columns.upper - walk.x, walk.x - columns.lower).clamp(min=0)
    blocked, i = torch.where(speed != 0, space / speed.abs(), torch.inf).min(-1, keepdim=True)
    distance = torch.minimum(torch.minimum(full, own), blocked)
    stuck = distance.isinf()  # no curvature and nothing in the way: the gradient is rounding
    rests = ~stuck & (own <= full) & (own <= blocked)
    enters = ~stuck & ~rests & (full <= blocked)
    leaves = ~stuck & ~rests & ~enters
    move = torch.where(stuck, 0.0, sign * distance)
    x = walk.x - torch.where(walk.free, column, 0.0) * move + torch.where(at_j, move, 0.0)
    x = torch.where(at_j & rests, torch.where(sign > 0, columns.upper, columns.lower), x)
    at_i = torch.zeros_like(walk.free).scatter(1, i, True) & leaves
    walk.x = torch.where(at_i, torch.where(speed < 0, columns.lower, columns.upper), x)
    walk.r = walk.r - torch.where(walk.free, 0.0, column) * move
    walk.rejected = (walk.rejected & (move == 0)) | (at_j & stuck)
    walk.entering = torch.where(leaves.squeeze(1), walk.entering, -1)
    # The one free entry of a vertex has met a bound: that of j instead.
    changes = leaves.squeeze(1) & walk.binds & (walk.free.sum(-1) == 1)
    swept = (enters | leaves).squeeze(1) & ~changes
    _sweep(walk, torch.where(leaves, i, j).squeeze(1), swept)
    walk.free = (walk.free & ~at_i) | (at_j & (enters | changes[:, None]))
    walk.r = torch.where((at_i & leaves) | (at_j & enters), 0.0, walk.r)
    anew = changes.nonzero().squeeze(-1)
    if len(anew):
        part = columns.take(anew)
        walk.put(anew, _begin(part, walk.x[anew], walk.free[anew], walk.binds[anew]))


def _sweep(walk: _Walk, p: Tensor, wanted: Tensor) -> None:
    """The symmetric sweep of the tableau on entry p (N,), in place, in the columns ``wanted`` (N,)."""
    rows = wanted.nonzero().squeeze(-1)
    if len(rows) == 0:
        return
    M, p = walk.M[rows], p[rows]
    at = torch.arange(len(rows), device=p.device)
    column = M[at, :, p]
    d = column[at, p][:, None]
    edge = column / d.abs()
    M = M - column.unsqueeze(-1) * (column / d).unsqueeze(-2)
    M[at, :, p] = edge
    M[at, p, :] = edge
    M[at, p, p] = (-1 / d).squeeze(1)
    walk.M[rows] = M


def _judged(
    columns: BoundedColumns, x: Tensor, free: Tensor, binds: Tensor, ended: Tensor, steps: Tensor
) -> BoundedSolution:
    """One step of refinement, and whether no entry is wrong by more than rounding; only what has ``ended`` can be."""
    systems = BorderedSystems(columns.A, columns.a, free, binds)
    wrong, multiplier = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for again in (True, False):
        wrong = columns.c - columns.times_A(x)
        left = torch.zeros_like(x[:, 0])
        if columns.a is not None and columns.t is not None:
            left = torch.where(binds, columns.t - (columns.a * x).sum(-1), 0.0)
            multiplier = columns.multiplier(wrong, free)
            wrong = wrong - multiplier * columns.a
        if again:
            x = x + systems.solve_here(wrong, left)[0]
    tolerance = torch.minimum(2 * columns.tolerance(x, multiplier), LEAST_RESIDUAL * columns.size(multiplier))
    up = torch.where(x < columns.upper, wrong, 0.0)
    down = torch.where(x > columns.lower, -wrong, 0.0)
    gradient = torch.where(free, wrong.abs(), torch.maximum(up, down))
    outside = torch.maximum(columns.lower - x, x - columns.upper)
    good = (gradient <= tolerance).all(-1) & (outside <= columns.entry_tolerance(x, multiplier)).all(-1) & ended
    return BoundedSolution(x, free, binds, systems.pivot, good, steps)
