"""The batched active-set method for the columns that nothing else solves.

Lawson and Hanson (1974), Solving Least Squares Problems, chapter 23; on the Gram form it is that of Bro and De Jong
(1997), A fast non-negativity-constrained least squares algorithm. It ends after finitely many steps, keeps the free
columns of H independent, and so also solves rank-deficient problems, where any minimiser will do.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from diffnmf.solvers.exact.columns import Columns, Minimum, rounding_tolerance
from diffnmf.solvers.exact.exchanges import ColumnSolution
from diffnmf.solvers.exact.masked import MaskedFactor

FAR = 1e30  # beyond every x
NEGLIGIBLE = 1e-9  # a share of a column in another that is but rounding


@dataclass(frozen=True)
class _Points:
    """Points x ≥ 0 (N, k) that are the minimum over their free sets, and what the next entry is chosen by.

    Attributes:
        value: (N,), of x, see ``Minimum``.
        violated, doubtful: (N, k) bool, the entries that would lower f, and those that may, see ``Minimum``.
    """

    x: Tensor
    free: Tensor
    value: Tensor
    gradient: Tensor
    violated: Tensor
    doubtful: Tensor

    @classmethod
    def of(cls, minimum: Minimum) -> "_Points":
        x, free, gradient = minimum.x, minimum.factor.free, minimum.gradient
        violated = ~free & (gradient < -minimum.tolerance)
        gain_is_possible = minimum.value[:, None] > rounding_tolerance(x)
        doubtful = minimum.doubtful & (gradient < 0) & ~violated & gain_is_possible
        return cls(x, free, minimum.value, gradient, violated, doubtful)

    def take(self, index: Tensor) -> "_Points":
        return _Points(*(getattr(self, field.name)[index] for field in fields(self)))

    def where(self, condition: Tensor, other: "_Points") -> "_Points":
        """These points for the columns in ``condition`` (N,) bool, those of ``other`` for the rest."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return _Points(*(torch.where(condition if a.ndim == 1 else condition[:, None], a, b) for a, b in pairs))


def active_set(problems: Columns, x: Tensor) -> ColumnSolution:
    """Solve N columns from a feasible start.

    Every pass solves one masked system per unsolved column, whichever step of the algorithm the column is at. A column
    is solved where no entry is left that would lower f. One that has not come to that in time, or has an entry that
    would but cannot enter, has the best x that it came by, which is no worse than zero and than the start.

    Arguments:
        problems: N problems.
        x: (N, k) ≥ 0; its positive entries are the first free set. Where those are dependent, the start is zero.
    """
    columns, k = x.shape
    max_steps = 10 * k + 20  # from zero 0.9 to 1.6·k steps are usual; the rest is for numerical accidents
    out = ColumnSolution(
        x=x.clone(),
        factor=MaskedFactor(x.new_zeros(columns, k, k), x > 0, torch.zeros_like(x[:, 0])),
        solved=torch.zeros_like(x[:, 0], dtype=torch.bool),
        exchanges=torch.full((columns,), max_steps, dtype=torch.int64, device=x.device),
    )
    todo = torch.arange(columns, device=x.device)
    free, nothing = x > 0, torch.zeros_like(x)
    entering = torch.full_like(todo, -1)  # the entry that has become free since x was last at rest
    is_new, on_trial = torch.zeros_like(out.solved), torch.zeros_like(out.solved)  # in the last pass; as a doubtful one
    rejected = torch.zeros_like(free)  # entries that could not enter since x last moved
    numbers = torch.arange(k, device=x.device)
    at_zero = _Points(nothing, nothing > 0, problems.value(nothing), nothing, rejected, rejected)
    rest = _Points(x, free, problems.value(x), nothing, rejected, rejected)  # where x rested last
    best = rest.where(rest.value < at_zero.value, at_zero)
    for step in range(1, max_steps + 1):
        minimum = problems.minimum(free)
        z, dependent, there = minimum.x, ~minimum.factor.regular, _Points.of(minimum)
        is_entering = numbers == entering[:, None]

        # 1. An entering entry that would turn negative is sent back. So is one that depends on the free ones, unless
        #    it replaces one of them: f falls along a line without end, which l1 makes matter.
        slides = is_new & dependent & ~on_trial
        if slides.any():
            sliding = slides.nonzero().squeeze(-1)
            end, has_end = _far_end(problems.take(sliding), x[sliding], free[sliding], entering[sliding])
            z, slides = z.index_put((sliding,), end), slides.index_put((sliding,), has_end)
        sent_back = is_new & ((dependent & ~slides) | (torch.where(is_entering, z, 0.0).sum(-1) <= 0))
        # A warm start with dependent columns begins again from zero, where independence is kept step by step.
        restart = dependent & ~is_new
        # 2. Other entries that turn negative stop the move from x to z at the boundary, and leave the free set.
        negative = free & (z <= 0)
        blocked = negative.any(-1) & ~sent_back & ~restart
        ratio = torch.where(negative, x / (x - z).clamp(min=torch.finfo(x.dtype).tiny), torch.inf)
        length = ratio.amin(-1, keepdim=True).clamp(0.0, 1.0)
        stopped = (x + length * (z - x)).clamp(min=0)
        stopped = torch.where(negative & (ratio <= length), 0.0, stopped)
        # 3. Otherwise z is the new x, unless a doubtful entry has entered and z is no better than before.
        arrived = ~(sent_back | restart | blocked)
        gained = rest.value - there.value > rounding_tolerance(z).squeeze(-1)
        sent_back = sent_back | (arrived & on_trial & ~gained)
        moved = arrived & ~sent_back
        rest = there.where(moved, rest)
        rejected = torch.where(moved[:, None], False, rejected | (sent_back[:, None] & is_entering))
        best = rest.where(rest.value < best.value, best)
        x = torch.where(blocked[:, None], stopped, torch.where(restart[:, None], 0.0, rest.x))
        free = torch.where(blocked[:, None], free & (stopped > 0), rest.free & ~restart[:, None])

        # 4. Where x is at rest, the entry of steepest descent enters, a doubtful one if there is no other; or the
        #    column is done.
        choosing = moved | sent_back
        candidates = rest.violated & ~rejected
        on_trial = torch.where(choosing, ~candidates.any(-1), on_trial & ~restart)
        candidates = torch.where(on_trial[:, None], rest.doubtful & ~rejected, candidates)
        done = choosing & ~candidates.any(-1)
        steepest = torch.where(candidates, rest.gradient, torch.inf).argmin(-1)
        entering, is_new = torch.where(choosing, steepest, entering), choosing & ~done
        free = free | (is_new[:, None] & (numbers == entering[:, None]))

        rows, keep = done.nonzero().squeeze(-1), (~done).nonzero().squeeze(-1)
        if len(rows):
            result = _result(problems.take(rows), minimum.factor.take(rows), rest.take(rows), best.take(rows), step)
            out.set(todo[rows], result)
            todo, problems, x, free, rejected = todo[keep], problems.take(keep), x[keep], free[keep], rejected[keep]
            entering, is_new, on_trial = entering[keep], is_new[keep], on_trial[keep]
            rest, best = rest.take(keep), best.take(keep)
        if len(todo) == 0:
            return out
    out.set(todo, _result(problems, minimum.factor.take(keep), best, best, max_steps))
    return out


def _far_end(problems: Columns, x: Tensor, free: Tensor, entering: Tensor) -> tuple[Tensor, Tensor]:
    """A point far along the line on which an entering entry replaces the free ones that it depends on.

    Arguments:
        problems: N problems.
        x: (N, k) ≥ 0.
        free: (N, k) bool, with the entering entry.
        entering: (N,), its number.

    Returns:
        The point (N, k), and for which columns (N,) another entry turns negative on the way there.
    """
    is_entering = torch.arange(x.shape[-1], device=x.device) == entering[:, None]
    direction = torch.where(is_entering, 1.0, -problems.combination(free & ~is_entering, entering))
    largest = direction.abs().amax(-1, keepdim=True)
    direction = torch.where(direction.abs() > NEGLIGIBLE * largest, direction, 0.0)
    return x + FAR * direction, (direction < 0).any(-1)


def _result(problems: Columns, factor: MaskedFactor, rest: _Points, best: _Points, step: int) -> ColumnSolution:
    """Where the columns rest; or the best that they came by, where rounding has led astray."""
    right = rest.value <= best.value + rounding_tolerance(best.x).squeeze(-1)
    end = rest.where(right, best)
    # Made anew where the factor at hand is not that of the final free set.
    stale = (factor.free != end.free).any(-1).nonzero().squeeze(-1)
    if len(stale):
        factor.put(stale, problems.take(stale).minimum(end.free[stale]).factor)
    return ColumnSolution(end.x, factor, right & ~end.violated.any(-1), stale.new_full(right.shape, step))
