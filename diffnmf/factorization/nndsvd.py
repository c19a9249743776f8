"""Non-negative double singular value decomposition: a start without chance."""

import torch
from torch import Tensor

from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix
from diffnmf.factorization.svd import singular_triplets, sparse_triplets
from diffnmf.solvers.problem import one_where_zero


def nndsvd(Y: Matrix, k: int) -> tuple[Tensor, Tensor]:
    """H (B, n, k) and W (B, k, m) ≥ 0 from the singular triplets of Y (B, n, m), all finite.

    Every triplet σ u vᵀ gives its dominant sign: the larger of σ u₊v₊ᵀ and σ u₋v₋ᵀ, split evenly between H and W. What
    lies beyond the rank of Y is zero.

    Source: Boutsidis and Gallopoulos (2008), SVD based initialization: a head start for nonnegative matrix
    factorization, Pattern Recognition 41(4).
    """
    triplets = sparse_triplets(Y, k) if isinstance(Y, SparseMatrix) else singular_triplets(Y.double(), k)
    U, sigma, V = triplets  # (B, n, r), (B, 1, r), (B, m, r)
    (u, v), (u_minus, v_minus) = ((U.clamp(min=0), V.clamp(min=0)), ((-U).clamp(min=0), (-V).clamp(min=0)))
    size, size_minus = _norms(u) * _norms(v), _norms(u_minus) * _norms(v_minus)
    plus = size >= size_minus
    # The leading triplet of a non-negative matrix has one sign, but for rounding where it is not unique.
    u, v = torch.where(plus, u, u_minus), torch.where(plus, v, v_minus)
    root = (sigma * torch.maximum(size, size_minus)).sqrt()
    H, W = root * u / one_where_zero(_norms(u)), root * v / one_where_zero(_norms(v))
    missing = k - H.shape[-1]
    pad = torch.nn.functional.pad
    return pad(H, (0, missing)).to(Y.dtype), pad(W, (0, missing)).to(Y.dtype).mT.contiguous()


def _norms(X: Tensor) -> Tensor:
    """Of the columns: (B, n, r) to (B, 1, r)."""
    return torch.linalg.vector_norm(X, dim=-2, keepdim=True)
