"""The constrained solution once more, in plain operations that PyTorch differentiates in any nesting."""

import torch
from torch import Tensor

from diffnmf.solvers.constrained.form import correlation, gram_matrices, has_own_matrices
from diffnmf.solvers.constrained.systems import without_hidden
from diffnmf.solvers.exact.masked import as_columns, cholesky, from_columns, mask_matrix
from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.optimality import objective_gradient
from diffnmf.solvers.problem import Problem


@torch.no_grad()
def rests_above(problem: Problem, W: Tensor, free: Tensor, binds: Tensor) -> Tensor:
    """Which entries (B, k, m) follow ``upper``. Where that is zero, only those that would rise.

    Arguments:
        problem: B problems with an ``upper``.
        W, free, binds: as in ``ConstrainedSolution``.
    """
    asked = problem.constraints
    assert asked is not None and asked.upper is not None
    upper, slope = asked.upper.double(), objective_gradient(problem, W.double()) + problem.l1.double()
    count = free.sum(-2, keepdim=True).clamp(min=1)
    multiplier = torch.where(binds, -torch.where(free, slope, 0.0).sum(-2, keepdim=True) / count, 0.0)
    moves = (upper > 0) | (slope + multiplier < 0)
    if asked.signed is not None:
        moves = moves | asked.signed
    return ~free & (upper <= W) & moves


def solve_again_constrained(problem: Problem, W: Tensor, free: Tensor, binds: Tensor) -> Tensor:
    """The value of W (B, k, m), the solution, with the derivatives of the solve on its free set, of any order.

    In plain operations of torch, for second derivatives and for transforms; all systems are in memory at once.

    Arguments:
        problem: B problems.
        W, free, binds: as in ``ConstrainedSolution``.
    """
    asked = problem.constraints
    assert asked is not None
    batch, m = W.shape[0], W.shape[-1]  # with len a graph would be one for this batch alone
    held = torch.zeros_like(W)
    if asked.upper is not None:
        at_upper = rests_above(problem, W, free, binds)
        held = torch.where(at_upper, torch.where(at_upper, asked.upper.double(), 0.0), 0.0)
    G, _ = gram_matrices(problem)
    d = one_where_zero(G.detach().diagonal(dim1=-2, dim2=-1)).sqrt()  # constant scales: any will do
    A = G / d.unsqueeze(-1) / d.unsqueeze(-2)
    each = 1 if has_own_matrices(problem) else m
    A = A.repeat_interleave(each, dim=0, output_size=batch * m) if each > 1 else A
    d = d.repeat_interleave(each, dim=0, output_size=batch * m)
    F, a = as_columns(free), 1 / d
    c = as_columns(correlation(problem) - problem.l1.double()) / d
    c = c - (A @ (as_columns(held) * d).unsqueeze(-1)).squeeze(-1)
    hidden = torch.zeros_like(F)
    if asked.total is not None:
        q = torch.where(F, a, -torch.inf).argmax(-1, keepdim=True)
        hidden = (torch.arange(F.shape[-1], device=F.device) == q) & binds.flatten()[:, None]
        left = as_columns(asked.total.double() - held.sum(-2, keepdim=True)).squeeze(-1)
        any_hidden = hidden.any(-1)
        a_q = torch.where(any_hidden, torch.where(hidden, a, 0.0).sum(-1), 1.0)
        rest = torch.where(any_hidden, torch.where(any_hidden, left, 0.0) / a_q, 0.0)
        w = torch.where(any_hidden[:, None], a / a_q[:, None], 0.0)
        row = (A * hidden.unsqueeze(-1)).sum(-2)
        A_qq, c_q = (row * hidden).sum(-1), (c * hidden).sum(-1)
        A = without_hidden(A, row, w, hidden)
        c = c - w * (c_q - A_qq * rest)[:, None] - row * rest[:, None]
    F = F & ~hidden
    L, regular = cholesky(mask_matrix(A, F))
    wanted = (F & regular.unsqueeze(-1)).unsqueeze(-1)
    z = torch.linalg.solve_triangular(L, torch.where(wanted, c.unsqueeze(-1), 0.0), upper=False)
    x = torch.where(wanted, torch.linalg.solve_triangular(L.mT, z, upper=True), 0.0).squeeze(-1)
    if asked.total is not None:
        x = torch.where(hidden, (rest - (w * x).sum(-1))[:, None], x)
    again = from_columns(x / d, batch) + held
    return (again + (W - again).detach()).to(problem.H.dtype)
