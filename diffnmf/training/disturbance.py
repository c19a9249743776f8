"""What the critic is shown as real: not the source itself, which no rank-k product could match, but its PCA."""

import torch
from torch import Tensor


@torch.no_grad()
def pca_disturbance(Y: Tensor, rank: int, leading: Tensor | None = None) -> Tensor:
    """The rank-``rank`` PCA reconstruction of every group, clipped to [0, 1]: negative pixels would give it away.

    The columns of a group are the samples. m centred columns of n pixels have at most rank min(n, m − 1), which is the
    identity; the rank is lowered to one less to disturb anything at all (0 leaves the mean image; a single image is its
    mean).

    Arguments:
        Y: (B, n, m), pixels in [0, 1].
        rank: principal components to keep, ≥ 1.
        leading: what ``leading_components`` returned for them, where that is known already.
    """
    mean = Y.mean(dim=-1, keepdim=True)  # (B, n, 1)
    centred = Y - mean
    if leading is None:
        leading = leading_components(Y, rank)
    return (mean + centred @ leading @ leading.mT).clamp(0.0, 1.0)


@torch.no_grad()
def leading_components(Y: Tensor, rank: int) -> Tensor:
    """V (B, m, kept) for Y (B, n, m): V Vᵀ projects the centred columns on the leading principal components.

    Eigenvectors of the m×m Gram matrix, instead of an SVD of n×m. They are always found on the CPU: before
    torch 2.12 a GPU takes the matrices of a batch one after the other beyond 32 columns.
    """
    n, m = Y.shape[-2:]
    centred = Y - Y.mean(dim=-1, keepdim=True)
    kept = max(0, min(rank, m - 2, n - 1))
    return torch.linalg.eigh((centred.mT @ centred).cpu()).eigenvectors[..., m - kept :].to(Y.device)
