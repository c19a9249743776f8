"""The search for the free set: columns in, their solutions out.

Three implementations agree to rounding: operations of torch on any device, which are the reference, the compiled
kernels on the CPU (``diffnmf.kernels``), and those in Triton on CUDA (``diffnmf.kernels.cuda``).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from diffnmf.kernels import columns as kernels
from diffnmf.kernels.calling import available
from diffnmf.kernels.cuda import calling as cuda
from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.exact.active_set import active_set
from diffnmf.solvers.exact.chunks import index_chunks, tiles
from diffnmf.solvers.exact.columns import GramColumns, ReducedProblems
from diffnmf.solvers.exact.exchanges import ColumnSolution, block_pivoting, fixed_exchanges
from diffnmf.solvers.exact.masked import MaskedFactor

# Exchanges of all columns before the unsolved ones are picked out.
FIXED_ROUNDS_CPU, FIXED_ROUNDS_ACCELERATOR = 1, 3


def search(columns: GramColumns, start: Tensor, max_exchanges: int) -> tuple[ColumnSolution, Callable[[], None]]:
    """Solve N columns on their Gram form.

    Arguments:
        columns: the problems, with the columns of a problem in a row.
        start: (N, k) ≥ 0; its positive entries are the first guess of the free set.
        max_exchanges: systems per column before the active-set method takes over, in torch.

    Returns:
        The solutions, and what solves the columns that are not solved yet, in place: on an accelerator that waits.
    """
    if available(columns.A, columns.c):
        found = kernels.search(columns.A, columns.c, start > 0)
        return _of_kernel(found), lambda: None
    if cuda.available(columns.c.shape[-1], columns.A, columns.c):
        return _on_device(columns, start, max_exchanges)
    m = len(columns.c) // max(1, len(columns.A))
    fixed = FIXED_ROUNDS_CPU if looking_is_free(start.device) else FIXED_ROUNDS_ACCELERATOR
    rounds = min(max_exchanges, fixed)
    solution, guess = _first_exchanges(columns, start > 0, m, rounds)
    return solution, partial(_solve_the_rest, columns, solution, start, guess, max_exchanges - rounds)


def _on_device(columns: GramColumns, start: Tensor, rounds: int) -> tuple[ColumnSolution, Callable[[], None]]:
    """In Triton. What that leaves unsolved, block pivoting goes on with."""
    found = cuda.search(columns.A, columns.c, start > 0)
    solution = _of_kernel(found)
    return solution, partial(_solve_the_rest, columns, solution, start, found.free.clone(), rounds)


def search_unsquared(problems: ReducedProblems, start: Tensor) -> ColumnSolution:
    """Solve N columns without their Gram form, from a start (N, k) ≥ 0."""
    if available(problems.R, problems.y):
        return _of_kernel(kernels.unsquared(problems.R, problems.owner, problems.y, problems.weight, start))
    return active_set(problems.columns(), start)


def _of_kernel(found: kernels.Search) -> ColumnSolution:
    return ColumnSolution(found.x, MaskedFactor(None, found.free, found.pivot), found.solved, found.steps)


def _first_exchanges(columns: GramColumns, free: Tensor, m: int, rounds: int) -> tuple[ColumnSolution, Tensor]:
    """``fixed_exchanges`` in runs; the factors of all columns are kept where one run is enough."""
    parts = []
    for A, tile in tiles(columns.A, m):
        found, guess = fixed_exchanges(GramColumns(A, columns.c[tile]), free[tile], rounds)
        if len(found.x) == len(free):
            return found, guess
        # Forgotten before the next run makes its own: all of them together would be too many.
        found.factor = replace(found.factor, L=None)
        parts.append((found, guess))
    solutions, guesses = zip(*parts, strict=True)
    factors = [part.factor for part in solutions]
    factor = MaskedFactor(None, torch.cat([f.free for f in factors]), torch.cat([f.pivot for f in factors]))
    x, solved, exchanges = (torch.cat([getattr(part, n) for part in solutions]) for n in ("x", "solved", "exchanges"))
    return ColumnSolution(x, factor, solved, exchanges), torch.cat(guesses)


def _solve_the_rest(
    columns: GramColumns, found: ColumnSolution, start: Tensor, guess: Tensor, max_exchanges: int
) -> None:
    """Block pivoting, then the active-set method, for the columns that are not solved yet; in place."""
    left = (~found.solved).nonzero().squeeze(-1)
    for numbers in index_chunks(left, columns.c.shape[-1]):
        problems = columns.take(numbers)
        rest = block_pivoting(problems, guess[numbers], max_exchanges)
        stubborn = (~rest.solved).nonzero().squeeze(-1)
        if len(stubborn):
            rest.put(stubborn, active_set(problems.take(stubborn), start[numbers[stubborn]]))
        found.put(numbers, rest)
