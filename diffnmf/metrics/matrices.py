"""What the scores are made of: live columns, means over them, and checks of matrices that belong together."""

import torch
from torch import Tensor

from diffnmf.checks import check_floating


def live_columns(X: Tensor) -> Tensor:
    """(*batch, columns), bool. NaN counts as live, so that it shows in the score."""
    return (X != 0).any(dim=-2)


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen entries along the last dimension; 0 where none is chosen."""
    return torch.where(chosen, values, 0.0).sum(-1) / chosen.sum(-1).clamp(min=1)


def check_same_matrix(Y: Tensor, Y_hat: Tensor) -> None:
    """Raise TypeError or ValueError unless Y and Y_hat are (*batch, n, m) both."""
    check_floating("Y", Y)
    check_floating("Y_hat", Y_hat)
    if Y.ndim < 2 or Y_hat.ndim < 2 or Y.shape[-2:] != Y_hat.shape[-2:]:
        raise ValueError(
            f"Y and Y_hat: expected (*batch, n, m) both, with the same n and m;"
            f" got Y {tuple(Y.shape)} and Y_hat {tuple(Y_hat.shape)} (Y_hat is H @ W)"
        )


def product(H: Tensor, W: Tensor) -> Tensor:
    """HW, in the wider of their dtypes.

    Raises:
        TypeError, ValueError: as ``check_factors``.
    """
    check_factors(H, W)
    dtype = torch.promote_types(H.dtype, W.dtype)
    return H.to(dtype) @ W.to(dtype)


def check_factors(H: Tensor, W: Tensor) -> None:
    """Raise TypeError or ValueError unless H is (*batch, n, k) and W (*batch, k, m)."""
    check_floating("H", H)
    check_floating("W", W)
    if H.ndim < 2 or W.ndim < 2 or H.shape[-1] != W.shape[-2]:
        raise ValueError(
            f"H and W: expected (*batch, n, k) and (*batch, k, m), as many columns of H as rows of W;"
            f" got H {tuple(H.shape)} and W {tuple(W.shape)} (transpose the one that lies on its side)"
        )
