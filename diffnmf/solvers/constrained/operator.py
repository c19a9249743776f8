"""Constrained solutions under torch.func, forward mode and torch.compile, as ``transforms.py`` has it.

Whatever exact solver is asked, the search is the same one: here it is an operator without derivative, and the solve on
the free set that follows is made of plain differentiable operations.
"""

import torch
from torch import Tensor

from diffnmf.solvers.base import Solved
from diffnmf.solvers.constrained.again import solve_again_constrained
from diffnmf.solvers.constrained.solve import solve_constrained
from diffnmf.solvers.constraints import Constraints
from diffnmf.solvers.operators import WAITING, in_one_batch
from diffnmf.solvers.problem import Problem


def solve_constrained_transformed(problem: Problem, backward: str) -> Solved:
    """The exact solution, with derivatives of any kind and order where ``backward`` is "implicit"."""
    asked = problem.constraints
    assert asked is not None
    given = [
        None if x is None else x.detach()
        for x in (*problem.inputs, problem.W0, asked.weights, asked.total, asked.upper, asked.signed)
    ]
    W, free, binds, iterations = _constrained_solution(*given, asked.at_most, problem.squared)
    return Solved(W if backward == "detached" else solve_again_constrained(problem, W, free, binds), iterations)


@torch.library.custom_op("diffnmf::constrained_nnls_solution", mutates_args=(), **WAITING)
def _constrained_solution(
    H: Tensor,
    Y: Tensor,
    ridge: Tensor,
    l1: Tensor,
    W0: Tensor | None,
    weights: Tensor | None,
    total: Tensor | None,
    upper: Tensor | None,
    signed: Tensor | None,
    at_most: bool,
    squared: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W and free (B, k, m), binds (B, 1, m) and the iterations (B,), without derivative."""
    if len(H) == 0:  # under vmap over nothing
        return _nothing(H, Y)
    constraints = Constraints(weights, total, at_most, upper, signed)
    problem = Problem(H, Y, ridge, l1, W0, H.shape[:1], H.dtype, constraints=constraints, squared=squared)
    found = solve_constrained(problem)
    W = found.W.to(H.dtype, copy=True, memory_format=torch.contiguous_format)
    return W, found.free, found.binds, found.iterations


def _nothing(H: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    W = H.new_empty(H.shape[0], H.shape[2], Y.shape[2])
    binds = H.new_empty(H.shape[0], 1, Y.shape[2], dtype=torch.bool)
    return W, torch.empty_like(W, dtype=torch.bool), binds, H.new_empty(H.shape[0], dtype=torch.int64)


@_constrained_solution.register_fake
def _(H, Y, ridge, l1, W0, weights, total, upper, signed, at_most, squared):  # type: ignore[no-untyped-def]
    return _nothing(H, Y)


@_constrained_solution.register_vmap
def _(info, in_dims, *arguments):  # type: ignore[no-untyped-def]
    return in_one_batch(_constrained_solution, arguments, in_dims, info.batch_size)
