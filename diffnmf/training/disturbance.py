"""What the critic is shown as real: not the source itself, which no rank-k product could match, but its PCA."""

import torch
from torch import Tensor


@torch.no_grad()
def pca_disturbance(Y: Tensor, rank: int) -> Tensor:
    """The rank-``rank`` PCA reconstruction of every group, clipped to [0, 1]: negative pixels would give it away.

    The columns of a group are the samples. m centred columns have rank m − 1, so that a rank of m − 1 or more is the
    identity; it is lowered to m − 2 to disturb anything at all (0 leaves the mean image; a single image is its mean).

    Arguments:
        Y: (B, n, m), pixels in [0, 1].
        rank: principal components to keep, ≥ 1.
    """
    m = Y.shape[-1]
    mean = Y.mean(dim=-1, keepdim=True)  # (B, n, 1)
    centred = Y - mean
    # Eigenvectors of the m×m Gram matrix instead of an SVD of n×m: V Vᵀ projects the columns on the leading components.
    kept = max(0, min(rank, m - 2))
    leading = torch.linalg.eigh(centred.mT @ centred).eigenvectors[..., m - kept :]  # (B, m, kept)
    return (mean + centred @ leading @ leading.mT).clamp(0.0, 1.0)
