"""Dead components, and their revival."""

import torch
from torch import Tensor

from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.factorization.sparse_matrix import ObservedMatrix, SparseMatrix


def vanished(W: Tensor, Ht: Tensor) -> Tensor:
    """Which components contribute nothing, (B, k): a row of W (B, k, m) or of Hᵀ (B, k, n) is zero."""
    return torch.minimum(W.amax(-1), Ht.amax(-1)) == 0


def revive_(problem: NMFProblem, W: Tensor, Ht: Tensor) -> Tensor:
    """Give dead components another start, in place: what is missing in the columns of Y that are fitted worst.

    The first dead column of H becomes the positive part of the residual of the worst column of Y, the second that of
    the next one, and so on; their weights are zero, so that HW does not change. Columns that are fitted to rounding
    have nothing to give.

    Returns:
        The components that have a new start, (B, k).
    """
    dead = vanished(W, Ht)
    dead[:, : problem.fixed] = False
    some = dead.any(-1).nonzero().squeeze(-1)
    revived = torch.zeros_like(dead)
    if len(some) == 0:
        return revived
    m = problem.Y.shape[2]
    if isinstance(problem.Y, ObservedMatrix):
        return _revive_observed_(problem, W, Ht, dead)
    if isinstance(problem.Y, SparseMatrix):
        return revived  # the residual would be dense
    residual = torch.baddbmm(problem.Y[some], Ht[some].mT, W[some], beta=1, alpha=-1)  # (b, n, m)
    if problem.weights is not None:
        residual = residual * problem.weights[some]
    order = torch.linalg.vector_norm(residual, dim=1).argsort(dim=1, descending=True)  # (b, m), the worst first
    rank = dead[some].cumsum(-1) - 1  # (b, k), of a component among the dead ones
    column = order.gather(1, rank.clamp(0, m - 1))  # (b, k)
    parts = residual.mT[torch.arange(len(some), device=some.device)[:, None], column].clamp(min=0)  # (b, k, n)
    worth = _is_worth(parts, problem.square[some])
    revived[some] = dead[some] & (rank < m) & worth
    Ht[some] = torch.where(revived[some].unsqueeze(-1), parts, Ht[some])
    W.masked_fill_(revived.unsqueeze(-1), 0.0)
    return revived


def _revive_observed_(problem: NMFProblem, W: Tensor, Ht: Tensor, dead: Tensor) -> Tensor:
    """The same from what is known of the columns."""
    assert isinstance(problem.Y, ObservedMatrix)
    residual = problem.Y.less(Ht[0], W[0]).mT  # (1, m, n), its entries column after column
    of_column, rows = residual.places
    squares = residual.values.new_zeros(W.shape[2]).index_add_(0, of_column, residual.values.square())
    components = dead[0].nonzero().squeeze(-1)[: W.shape[2]]
    worst = squares.argsort(descending=True)[: len(components)]
    parts = Ht.new_zeros(len(components), Ht.shape[2])
    for part, column in zip(parts, worst, strict=True):
        some = of_column == column
        part[rows[some]] = residual.values[some].clamp(min=0)
    worth = _is_worth(parts.unsqueeze(0), problem.square)[0]
    Ht[0, components[worth]] = parts[worth]
    W[0, components[worth]] = 0.0
    return torch.zeros_like(dead).index_fill_(1, components[worth], True)


def _is_worth(parts: Tensor, square: Tensor) -> Tensor:
    """Whether parts (b, k, n) are more than rounding beside ‖Y‖², (b,)."""
    rounding = 10 * torch.finfo(parts.dtype).eps * square.sqrt()
    return torch.linalg.vector_norm(parts, dim=-1, dtype=torch.float64) > rounding[:, None]
