"""Parts of a batch of constrained problems: those whose matrices may be in memory at once, or those that want more."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from diffnmf.kernels.calling import available
from diffnmf.solvers.constrained.form import has_own_matrices
from diffnmf.solvers.constraints import some_columns
from diffnmf.solvers.exact.chunks import max_entries
from diffnmf.solvers.problem import Problem


def part(problem: Problem, problems: slice, columns: slice | Tensor) -> Problem:
    """Some columns of some problems."""
    assert problem.constraints is not None
    return replace(
        problem,
        H=problem.H[problems],
        Y=some_columns(problem.Y, problems, columns),
        ridge=some_columns(problem.ridge, problems, columns),
        l1=some_columns(problem.l1, problems, columns),
        W0=None if problem.W0 is None else some_columns(problem.W0, problems, columns),
        constraints=problem.constraints.part(problems, columns),
    )


def runs(problem: Problem) -> Iterator[tuple[slice, slice]]:
    """Problems and columns whose k×k matrices may be in memory at once; all of them where they share few."""
    batch, m, k = len(problem.H), problem.Y.shape[-1], problem.H.shape[-1]
    if available(problem.H.detach(), problem.Y.detach()) and not has_own_matrices(problem):
        yield slice(0, batch), slice(0, m)
        return
    size = max(1, max_entries(problem.H.device) // (4 * (k + 1) ** 2))  # a tableau, a factor and copies
    if size >= m:
        step = max(1, size // max(1, m))
        for first in range(0, batch, step):
            yield slice(first, min(first + step, batch)), slice(0, m)
    else:
        for number in range(batch):
            for first in range(0, m, size):
                yield slice(number, number + 1), slice(first, min(first + size, m))
