"""The batched active-set method for the columns that nothing else solves.

Lawson and Hanson (1974), Solving Least Squares Problems, chapter 23; on the Gram form it is that of Bro and De Jong
(1997), A fast non-negativity-constrained least squares algorithm. It ends after finitely many steps, adds only columns
of H that are independent of those already free, and so also solves rank-deficient problems, where any minimiser will
do.
"""

import torch
from torch import Tensor

from diffnmf.solvers.exact.columns import Columns
from diffnmf.solvers.exact.exchanges import ColumnSolution, rounding_tolerance
from diffnmf.solvers.exact.masked import MaskedFactor


def active_set(problems: Columns, x: Tensor) -> ColumnSolution:
    """Solve N columns from a feasible start.

    Every pass solves one masked system per unsolved column, whichever step of the algorithm the column is at.

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
    free = x > 0
    rejected = torch.zeros_like(free)  # entries that could not enter since x last moved
    entering = torch.full_like(todo, -1)  # the entry that has just become free, −1 for none
    numbers = torch.arange(k, device=x.device)
    for step in range(1, max_steps + 1):
        z, factor = problems.minimize(free)
        is_entering = numbers == entering[:, None]

        # 1. An entering entry that is dependent on the free ones, or would turn negative, is sent back.
        dependent = ~factor.regular
        sent_back = (entering >= 0) & (dependent | (torch.where(is_entering, z, 0.0).sum(-1) <= 0))
        # A warm start with dependent columns begins again from zero, where independence is kept step by step.
        restart = dependent & (entering < 0)
        # 2. Other entries that turn negative stop the move from x to z at the boundary, and leave the free set.
        negative = free & (z <= 0)
        blocked = negative.any(-1) & ~sent_back & ~restart
        ratio = torch.where(negative, x / (x - z).clamp(min=torch.finfo(x.dtype).tiny), torch.inf)
        length = ratio.amin(-1, keepdim=True).clamp(0.0, 1.0)
        stopped = (x + length * (z - x)).clamp(min=0)
        stopped = torch.where(negative & (ratio <= length), 0.0, stopped)
        # 3. Otherwise z is the new x.
        moved = ~(sent_back | restart | blocked)
        x = torch.where(moved[:, None], z, torch.where(blocked[:, None], stopped, x))
        x = torch.where(restart[:, None], 0.0, x)
        free = torch.where(blocked[:, None], free & (stopped > 0), free)
        free = torch.where(sent_back[:, None], free & ~is_entering, free & ~restart[:, None])
        rejected = torch.where(moved[:, None], False, rejected | (sent_back[:, None] & is_entering))

        # 4. Where x solves its own free set, the entry of steepest descent enters, or the column is done.
        gradient = problems.gradient(x)
        candidates = ~free & ~rejected & (gradient < -rounding_tolerance(x))
        choosing = ~blocked
        solved = choosing & ~candidates.any(-1)
        steepest = torch.where(candidates, gradient, torch.inf).argmin(-1)
        entering = torch.where(choosing & ~solved, steepest, -1)
        free = free | (numbers == entering[:, None])

        done, keep = solved.nonzero().squeeze(-1), (~solved).nonzero().squeeze(-1)
        rows = todo[done]
        out.x[todo] = x
        out.solved[rows] = True
        out.exchanges[rows] = step
        # Made anew: where an entry was sent back, the factor at hand is not that of the final free set.
        if len(rows):
            out.factor.put(rows, problems.take(done).minimize(free[done])[1])
        todo, problems, x = todo[keep], problems.take(keep), x[keep]
        free, rejected, entering = free[keep], rejected[keep], entering[keep]
        if len(todo) == 0:
            break
    return out
