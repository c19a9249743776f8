"""Block principal pivoting: exchange every infeasible variable of every column at once.

Kim and Park (2011), Fast nonnegative matrix factorization: an active-set-like method and comparisons, SIAM J. Sci.
Comput. 33(6), with their backup rule. It needs few exchanges from a good start, and may cycle when A_FF is nearly
singular: what is not solved in time is left to the active-set method.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.solvers.exact.columns import GramColumns, rounding_tolerance
from diffnmf.solvers.exact.masked import MaskedFactor

FULL_EXCHANGES = 3  # full exchanges in a row that may fail to reduce the number of infeasible variables


@dataclass
class ColumnSolution:
    """Solutions of N columns, filled in as they are found.

    Attributes:
        x: (N, k), non-negative.
        factor: of the systems on the final free sets.
        solved: (N,) bool; x is a guess where it is False.
        exchanges: (N,) int64, the systems solved for a column.
    """

    x: Tensor
    factor: MaskedFactor
    solved: Tensor
    exchanges: Tensor

    def set(self, index: Tensor, other: "ColumnSolution") -> None:
        """Replace the columns at ``index`` (numbers) in place."""
        self.x[index] = other.x
        self.factor.put(index, other.factor)
        self.solved[index] = other.solved
        self.exchanges[index] = other.exchanges

    def put(self, index: Tensor, other: "ColumnSolution") -> None:
        """As ``set``, with the exchanges added to those before."""
        before = self.exchanges[index]
        self.set(index, other)
        self.exchanges[index] += before


def fixed_exchanges(problems: GramColumns, free: Tensor, rounds: int) -> tuple[ColumnSolution, Tensor]:
    """Exchange every infeasible variable of all columns, a fixed number of times, at fixed shapes.

    A column that is solved has nothing to exchange and stays as it is, so that no result has to be read back.

    Arguments:
        problems: N problems.
        free: (N, k) bool, the guess.
        rounds: systems solved per column, ≥ 1.

    Returns:
        The solutions, and the next guess for the columns that are not solved yet, (N, k).
    """
    for _ in range(rounds):
        x, factor = problems.minimize(free)
        infeasible = _infeasible(problems, x, free)
        free = free ^ infeasible
    solved = factor.regular & ~infeasible.any(-1)
    exchanges = torch.full_like(solved, rounds, dtype=torch.int64)
    return ColumnSolution(x.clamp(min=0), factor, solved, exchanges), free


def block_pivoting(problems: GramColumns, free: Tensor, max_exchanges: int) -> ColumnSolution:
    """Solve min ½ xᵀAx − cᵀx, x ≥ 0 for N columns from a guess of their free sets.

    Arguments:
        problems: N problems.
        free: (N, k) bool, the guess.
        max_exchanges: systems solved per column at the most.
    """
    (columns, k), c = problems.c.shape, problems.c
    out = ColumnSolution(
        x=torch.zeros_like(c),
        factor=MaskedFactor(c.new_zeros(columns, k, k), free.clone(), torch.zeros_like(c[:, 0])),
        solved=torch.zeros_like(free[:, 0]),
        exchanges=torch.full((columns,), max_exchanges, dtype=torch.int64, device=c.device),
    )
    todo = torch.arange(columns, device=c.device)
    fewest = torch.full_like(todo, k + 1)
    patience = torch.full_like(todo, FULL_EXCHANGES)
    last = torch.arange(k, device=c.device)
    for exchange in range(1, max_exchanges + 1):
        x, factor = problems.minimize(free)
        infeasible = _infeasible(problems, x, free)
        count = infeasible.sum(dim=-1)

        done = (factor.regular & (count == 0)).nonzero().squeeze(-1)
        rows = todo[done]
        out.x[rows] = x[done].clamp(min=0)
        out.factor.put(rows, factor.take(done))
        out.solved[rows] = True
        out.exchanges[rows] = exchange

        # A column whose system is singular has no use for its signs: it goes to the active-set method.
        keep = (factor.regular & (count > 0)).nonzero().squeeze(-1)
        if len(keep) == 0:
            break
        fewer = count < fewest
        patience = torch.where(fewer, FULL_EXCHANGES, patience - 1)
        fewest = torch.where(fewer, count, fewest)
        # The backup rule: exchange the last infeasible variable alone; this cannot cycle.
        highest = torch.where(infeasible, last, -1).amax(dim=-1, keepdim=True)
        alone = infeasible & (last == highest)
        free = (free ^ torch.where((patience >= 0)[:, None], infeasible, alone))[keep]
        todo, problems, fewest, patience = todo[keep], problems.take(keep), fewest[keep], patience[keep]
    return out


def _infeasible(problems: GramColumns, x: Tensor, free: Tensor) -> Tensor:
    """(N, k) bool: negative entries in the free set, negative gradients outside."""
    return torch.where(free, x, problems.gradient(x)) < -rounding_tolerance(x)
