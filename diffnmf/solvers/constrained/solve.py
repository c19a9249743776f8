"""From a constrained problem to its exact W: search, refinement, and the unsquared way for what is left."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffnmf.kernels import constrained as kernels
from diffnmf.kernels.calling import available
from diffnmf.solvers.constrained.columns import BoundedColumns, BoundedSolution
from diffnmf.solvers.constrained.form import ConstrainedForm, ScaledGram, constrained_form, with_room
from diffnmf.solvers.constrained.pivoting import bring_back, principal_pivoting
from diffnmf.solvers.constrained.refinement import refine
from diffnmf.solvers.constrained.runs import part, runs
from diffnmf.solvers.constrained.starts import only_point
from diffnmf.solvers.constrained.systems import BorderedSystems
from diffnmf.solvers.constrained.unsquared import active_set, few, hidden_sum, reduced
from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.exact.chunks import index_chunks
from diffnmf.solvers.exact.columns import GramColumns
from diffnmf.solvers.exact.finish import MAX_EXCHANGES
from diffnmf.solvers.exact.masked import from_columns
from diffnmf.solvers.exact.search import search
from diffnmf.solvers.problem import Problem

TRIED = 4  # columns that the kernel has not solved, to see whether there is another way
# Sums of scaled unknowns, in units of ‖√Ω y‖. Hardly any column needs the first, and none the last but one.
ENOUGH = (10.0, 1e3, 1e5, 1e7, 1e9, 1e12, 1e15, torch.inf)


@dataclass(frozen=True)
class ConstrainedSolution:
    """Solutions of B problems, and what is needed to differentiate them.

    Attributes:
        W: (B, k, m), float64, within the bounds.
        free: (B, k, m) bool, the entries that no bound holds.
        binds: (B, 1, m) bool, whether the sum holds the free ones.
        pivot: (B, 1, m), how independent the free columns of H are.
        difficult: (B, 1, m) bool, the columns that a Gram matrix is too inaccurate for.
        iterations: (B,) int64.
    """

    W: Tensor
    free: Tensor
    binds: Tensor
    pivot: Tensor
    difficult: Tensor
    iterations: Tensor

    def part(self, problems: slice, columns: slice) -> "ConstrainedSolution":
        """Some columns of some problems."""
        tensors = (self.W, self.free, self.binds, self.pivot, self.difficult)
        W, free, binds, pivot, difficult = (x[problems, :, columns] for x in tensors)
        return ConstrainedSolution(W, free, binds, pivot, difficult, self.iterations[problems])

    def replaced(self, other: "ConstrainedSolution", where: Tensor) -> "ConstrainedSolution":
        """The columns marked, (B, 1, m) bool, as ``other`` has them; the iterations are added."""
        names = ("W", "free", "binds", "pivot", "difficult")
        W, free, binds, pivot, difficult = (torch.where(where, getattr(other, n), getattr(self, n)) for n in names)
        return ConstrainedSolution(W, free, binds, pivot, difficult, self.iterations + other.iterations)


@torch.no_grad()
def solve_constrained(problem: Problem) -> ConstrainedSolution:
    """Solve B problems in range, without gradient."""
    problem = _without_gradient(problem)
    (batch, _, k), m = problem.H.shape, problem.Y.shape[-1]
    device = problem.H.device
    flags = torch.empty(batch, 1, m, dtype=torch.bool, device=device)
    found = ConstrainedSolution(
        torch.empty(batch, k, m, dtype=torch.float64, device=device),
        torch.empty(batch, k, m, dtype=torch.bool, device=device),
        flags,
        torch.empty(batch, 1, m, dtype=torch.float64, device=device),
        flags.clone(),
        torch.zeros(batch, dtype=torch.int64, device=device),
    )
    for problems, columns in runs(problem):
        some = _solve_run(part(problem, problems, columns))
        for name in ("W", "free", "binds", "pivot", "difficult"):
            getattr(found, name)[problems, :, columns] = getattr(some, name)
        found.iterations[problems] = torch.maximum(found.iterations[problems], some.iterations)
    return found


def _without_gradient(problem: Problem) -> Problem:
    assert problem.constraints is not None
    H, Y, ridge, l1 = (x.detach() for x in problem.inputs)
    return replace(problem, H=H, Y=Y, ridge=ridge, l1=l1, constraints=problem.constraints.detach())


def _solve_run(problem: Problem) -> ConstrainedSolution:
    """A run of columns. Those that may sum to far more than they need get a part of it, and more where that binds."""
    form = constrained_form(problem, ENOUGH[0])
    found = _solve_form(problem, form)
    for enough in ENOUGH[1:]:
        if form.shortened is None:
            break
        more = form.shortened.reshape(found.binds.shape) & found.binds
        if not more.any():
            break
        form = constrained_form(problem, enough)
        found = found.replaced(_solve_form(problem, form), more)
    return found


def _solve_form(problem: Problem, form: ConstrainedForm) -> ConstrainedSolution:
    start = None if problem.W0 is None else form.start(problem.W0)
    found = search_bounded(form, start, bounded=_is_bounded(problem))
    if form.columns.a is not None:
        _hold_at_only_point(problem, form, found)
    suspect = ~found.solved | refine(problem, form, found)
    if not problem.squared:
        for numbers in few(suspect.nonzero().squeeze(-1), problem):
            found.put(numbers, _without_squaring(problem, form, found, numbers))
    batch, m = form.scaled.batch, problem.Y.shape[-1]
    return ConstrainedSolution(
        _at_bounds(problem, form, found),
        from_columns(found.free, batch),
        found.binds.reshape(batch, 1, m),
        found.pivot.reshape(batch, 1, m),
        suspect.reshape(batch, 1, m) & (not problem.squared),
        found.steps.reshape(batch, m).amax(1),
    )


def _hold_at_only_point(problem: Problem, form: ConstrainedForm, found: BoundedSolution) -> None:
    """Where the sum leaves one point, that, with nothing free, in place: a search may end there with an entry free."""
    rounding = (form.columns.c.shape[-1] + 4) * torch.finfo(problem.Y.dtype).eps
    held, x = only_point(form.columns, rounding, at_most=form.at_most)
    if looking_is_free(held.device) and not held.any():
        return
    found.x = torch.where(held[:, None], x, found.x)
    found.free, found.binds = found.free & ~held[:, None], found.binds & ~held
    found.pivot, found.solved = torch.where(held, 1.0, found.pivot), found.solved | held


def _is_bounded(problem: Problem) -> bool:
    """Whether W has to obey more than W ≥ 0."""
    asked = problem.constraints
    assert asked is not None
    return any(x is not None for x in (asked.total, asked.upper, asked.signed))


def search_bounded(form: ConstrainedForm, start: tuple[Tensor, Tensor] | None, *, bounded: bool) -> BoundedSolution:
    """The solutions of all columns of a form, as far as Gram matrices can tell; ``bounded``: by more than W ≥ 0."""
    columns = form.columns
    if not bounded:
        guess = torch.zeros_like(columns.c) if start is None else start[0].clone()
        plain, solve_the_rest = search(GramColumns(columns.A, columns.c), guess, MAX_EXCHANGES)
        solve_the_rest()
        nothing = torch.zeros_like(plain.solved)
        return BoundedSolution(
            plain.x, plain.factor.free, nothing, plain.factor.pivot, plain.solved, plain.exchanges.clone()
        )
    k = columns.c.shape[-1]
    if form.at_most:
        columns = with_room(columns)
        start = None if start is None else _with_room_left(columns, *start)
    if available(columns.A, columns.c):
        found = BoundedSolution(*_compiled(columns, start))
        _solve_the_rest(columns, found)
    else:
        found = principal_pivoting(columns, start)
    return _without_room(found, k)


def _solve_the_rest(columns: BoundedColumns, found: BoundedSolution) -> None:
    """The columns that the kernel has not solved, in place.

    It keeps an inverse, which may lose its digits where columns of H depend on each other; a tableau keeps more. Where
    it solves none of the first few it is given up: it takes much longer, and no Gram matrix may be able to decide.
    """
    numbers = (~found.solved).nonzero().squeeze(-1)
    for some in (numbers[:TRIED], *index_chunks(numbers[TRIED:], columns.c.shape[-1])):
        if len(some):
            found.put(some, principal_pivoting(columns.take(some), None))
            if not found.solved[some].any():
                bring_back(columns, found, numbers)
                break


def _without_room(found: BoundedSolution, k: int) -> BoundedSolution:
    """The first k entries, without the one that ``with_room`` may have added; where that is free the sum holds nothing.

    Nor does a sum hold anything where no entry is free.
    """
    room = found.free[:, k:].any(-1)
    x, free = found.x[:, :k].contiguous(), found.free[:, :k].contiguous()
    return replace(found, x=x, free=free, binds=found.binds & ~room & free.any(-1))


def _compiled(columns: BoundedColumns, start: tuple[Tensor, Tensor] | None) -> kernels.BoundedSearch:
    return kernels.search(
        columns.A, columns.weight, columns.c, columns.lower, columns.upper, columns.a, columns.t, start
    )


def _with_room_left(columns: BoundedColumns, x: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """A start for ``with_room``: the room is what x leaves of the sum, and free where there is some."""
    assert columns.a is not None and columns.t is not None
    room = (columns.t - (columns.a[:, :-1] * x).sum(-1, keepdim=True).squeeze(-1)).clamp(min=0)[:, None]
    return torch.cat((x, room), dim=-1), torch.cat((free, room > 0), dim=-1)


def _without_squaring(
    problem: Problem, form: ConstrainedForm, found: BoundedSolution, numbers: Tensor
) -> BoundedSolution:
    """The columns ``numbers`` once more, on QR factors."""
    columns, k = form.columns.take(numbers), form.columns.c.shape[-1]
    unsquared = reduced(problem, form.scaled.d[numbers], form.s[numbers], numbers)
    x = columns.clipped(found.x[numbers])
    if form.at_most:
        columns = with_room(columns)
        x = _with_room_left(columns, x, x > 0)[0]
        pad = torch.nn.functional.pad
        unsquared = replace(
            unsquared,
            R=pad(unsquared.R, (0, 1, 0, 1)),
            y=pad(unsquared.y, (0, 1)),
            weight=pad(unsquared.weight, (0, 1)),
        )
    return _without_room(active_set(columns, unsquared, x), k)


def _at_bounds(problem: Problem, form: ConstrainedForm, found: BoundedSolution) -> Tensor:
    """W (B, k, m), with the entries at a bound exactly there."""
    assert problem.constraints is not None
    W = form.unscale(found.x)
    upper = problem.constraints.upper
    if upper is None:
        return W
    held = from_columns(~found.free & (found.x >= form.columns.upper), form.scaled.batch)
    upper = upper.double()
    return torch.where(held, upper, torch.minimum(W, upper))


def solve_difficult(
    problem: Problem, scaled: ScaledGram, systems: BorderedSystems, numbers: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """``systems.solve`` for the columns ``numbers`` with QR factors in the place of Gram matrices, and e = 0."""
    some = systems.take(numbers)
    columns = hidden_sum(reduced(problem, scaled.d[numbers], torch.ones_like(scaled.unit[numbers]), numbers), some)
    factor = columns.minimum(some.free & ~some.hidden).factor
    return replace(some, factor=factor).solve_here(b[numbers], torch.zeros_like(b[numbers, 0]))
