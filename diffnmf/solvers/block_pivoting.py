"""Solver "bpp": block principal pivoting from the start, without first-order steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_count, set_fields
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.iterative import Iterate, solve_by_iterations
from diffnmf.solvers.problem import Problem


@dataclass(frozen=True)
class BlockPivoting(NNLSSolver):
    """Block principal pivoting over every column of every problem, with the active-set method as a fallback.

    Choose it with a good warm start, where it needs one or two exchanges; from a cold start other solvers find the
    support with less work. Where the compiled kernel runs (``diffnmf.solvers.kernel``), it makes no difference.

    Options:
        max_iter: exchanges of a column before the active-set method takes over, an int ≥ 1.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Source: Kim and Park (2011), Fast nonnegative matrix factorization: an active-set-like method and comparisons.

    Example:
        >>> import torch
        >>> from diffnmf import nnls
        >>> from diffnmf.solvers import BlockPivoting
        >>> H, Y = torch.rand(2, 20, 5), torch.rand(2, 20, 8)
        >>> before = nnls(H, Y).W
        >>> nnls(H, Y + 0.01, solver=BlockPivoting(max_iter=10), W0=before).converged
        tensor([True, True])
    """

    max_iter: int = 20

    exact = True
    finishes = True
    takes_constraints = True
    tolerance = 0.0
    backwards = ("implicit", "detached")

    def __post_init__(self) -> None:
        set_fields(self, max_iter=check_count("max_iter", self.max_iter, at_least=1))

    def solve(self, problem: Problem, backward: str) -> Solved:
        return solve_by_iterations(problem, backward, self._iterate, finish=True, max_exchanges=self.max_iter)

    def _iterate(self, form: GramForm, X0: Tensor) -> Iterate:
        return Iterate(X0, torch.zeros(len(X0), dtype=torch.int64, device=X0.device))
