"""Non-negative double singular value decomposition: a start without chance."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix
from diffnmf.factorization.svd import singular_triplets, sparse_triplets
from diffnmf.solvers.norms import one_where_zero

ROUNDING = 1e-9  # of an entry of a unit vector


def nndsvd(Y: Matrix, k: int) -> tuple[Tensor, Tensor]:
    """H (B, n, k) and W (B, k, m) ≥ 0 from the singular triplets of Y (B, n, m), all finite.

    Every triplet σ u vᵀ gives its dominant sign: the larger of σ u₊v₊ᵀ and σ u₋v₋ᵀ, split evenly between H and W. What
    lies beyond the rank of Y is zero.

    Source: Boutsidis and Gallopoulos (2008), SVD based initialization: a head start for nonnegative matrix
    factorization, Pattern Recognition 41(4).
    """
    triplets = sparse_triplets(Y, k) if isinstance(Y, SparseMatrix) else singular_triplets(Y.double(), k)
    H, Wt = of_triplets(*triplets, k)
    return H.to(Y.dtype), Wt.to(Y.dtype).mT.contiguous()


def nndsvd_filled_with(Y: Matrix, k: int, of_H: Tensor, of_W: Tensor) -> tuple[Tensor, Tensor]:
    """``nndsvd`` with something in the place of its zeros."""
    H, W = nndsvd(Y, k)
    return torch.where(H > 0, H, of_H), torch.where(W > 0, W, of_W)


def column_norms(X: Tensor) -> Tensor:
    """(B, n, r) to (B, 1, r)."""
    return torch.linalg.vector_norm(X, dim=-2, keepdim=True)


def of_triplets(
    U: Tensor, sigma: Tensor, V: Tensor, k: int, norms_U: Callable[[Tensor], Tensor] = column_norms
) -> tuple[Tensor, Tensor]:
    """H (B, n, k) and Wᵀ (B, m, k) from U (B, n, r), σ (B, 1, r) and V (B, m, r), r ≤ k.

    ``norms_U`` gives the norms of columns of U, where only some of its rows are here.
    """
    # A zero of a singular vector comes with rounding: as a number it would not be filled, and "mu" would not move it.
    U, V = (torch.where(x.abs() > ROUNDING, x, 0.0) for x in (U, V))
    (u, v), (u_minus, v_minus) = ((U.clamp(min=0), V.clamp(min=0)), ((-U).clamp(min=0), (-V).clamp(min=0)))
    size, size_minus = norms_U(u) * column_norms(v), norms_U(u_minus) * column_norms(v_minus)
    plus = size >= size_minus
    # The leading triplet of a non-negative matrix has one sign, but for rounding where it is not unique.
    u, v = torch.where(plus, u, u_minus), torch.where(plus, v, v_minus)
    root = (sigma * torch.maximum(size, size_minus)).sqrt()
    H, Wt = root * u / one_where_zero(norms_U(u)), root * v / one_where_zero(column_norms(v))
    missing = (0, k - H.shape[-1])
    return torch.nn.functional.pad(H, missing), torch.nn.functional.pad(Wt, missing)
