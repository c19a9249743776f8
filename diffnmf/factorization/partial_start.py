"""A start where Y is known in part, or H is: for the rest, the usual starts."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from diffnmf.factorization.exact_weights import exact_weights
from diffnmf.factorization.nmf_problem import NMFProblem, Penalties
from diffnmf.factorization.sparse_matrix import Matrix, ObservedMatrix, SparseMatrix
from diffnmf.solvers.norms import one_where_zero

Start = tuple[Tensor, Tensor]  # H (B, n, k), W (B, k, m)


def partial_start(problem: NMFProblem, fixed: Tensor | None, whole: Callable[[NMFProblem], Start]) -> Start:
    """A start of a problem with weights or with fixed columns of H.

    Arguments:
        problem: B problems.
        fixed: (B, n, f), the first columns of H, or None.
        whole: a start of a problem that has neither.
    """
    filled = problem if problem.weights is None else _filled(problem, problem.weights)
    if fixed is None:
        return whole(filled)
    rest = problem.k - fixed.shape[2]
    W_fixed = exact_weights(fixed, problem.Y, weights=problem.weights)
    if rest == 0:
        return fixed, W_fixed
    if isinstance(filled.Y, ObservedMatrix):
        left: Matrix = filled.Y.less(fixed[0].mT, W_fixed[0]).map(lambda values: values.clamp(min=0))
    elif isinstance(filled.Y, SparseMatrix):
        left = filled.Y  # what is left of it would be dense
    else:
        left = torch.baddbmm(filled.dense, fixed, W_fixed, alpha=-1).clamp_(min=0)
    H, W = whole(replace(filled, Y=left, k=rest, fixed=0, weights_penalties=Penalties(), basis_penalties=Penalties()))
    batch = len(fixed)
    return torch.cat((fixed, H.expand(batch, -1, -1)), 2), torch.cat((W_fixed, W.expand(batch, -1, -1)), 1)


def _filled(problem: NMFProblem, V: Tensor) -> NMFProblem:
    """Without weights: what is not known becomes row mean · column mean / mean of what is, a model of rank one."""
    Y = problem.dense
    weighted = Y * V
    mean = weighted.sum((1, 2), keepdim=True) / one_where_zero(V.sum((1, 2), keepdim=True))
    lines = []
    for dim in (2, 1):
        count = V.sum(dim, keepdim=True)
        # A row of which nothing is known is like the others.
        lines.append(torch.where(count > 0, weighted.sum(dim, keepdim=True) / one_where_zero(count), mean))
    filled = torch.where(V > 0, Y, lines[0] * (lines[1] / one_where_zero(mean)))
    square = torch.linalg.vector_norm(filled, dim=(1, 2), dtype=torch.float64).square()
    return replace(problem, Y=filled, square=square, weights=None)
