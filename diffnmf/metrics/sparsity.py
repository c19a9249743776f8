"""How much of a basis, or of its weights, is nothing; batches, zeros and NaN as in ``scores.py``."""

import math

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_floating, check_matrix, check_number
from diffnmf.metrics.matrices import live_columns, mean_where
from diffnmf.solvers.norms import moved_into_range, one_where_zero, safe_norm


def hoyer_sparsity(X: Tensor, dim: int) -> Tensor:
    """(√n − ‖x‖₁/‖x‖₂)/(√n − 1) for every vector x of length n along dim (Hoyer 2004, JMLR 5, section 3.1).

    In [0, 1]: 0 where all entries have the same size, 1 where a single one is not zero; unchanged when x is scaled.
    The formula is 0/0 for a zero vector and for n = 1, where nothing tells sparse from dense: 0 is returned.

    Arguments:
        X: any shape.
        dim: the dimension along which the vectors lie, an int ≥ −X.ndim; it is gone in the result.

    Returns:
        The shape of X without dim, in the dtype of X.

    Raises:
        TypeError, ValueError, IndexError: X is no floating tensor, or has no such dimension.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import hoyer_sparsity
        >>> hoyer_sparsity(torch.tensor([[0.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), dim=1)
        tensor([1., 0.])
    """
    dim = check_count("dim", dim, at_least=-check_floating("X", X).ndim)
    root = math.sqrt(X.shape[dim])
    if root <= 1:
        return torch.zeros_like(X.sum(dim))
    X = moved_into_range(X, dim)  # a sum may be beyond every number where the norm is not
    length = safe_norm(X, dim)
    spread = torch.linalg.vector_norm(X, 1, dim=dim, dtype=torch.float64) / one_where_zero(length)
    sparsity = ((root - spread) / (root - 1)).clamp(0, 1)  # rounding may step over the ends
    return torch.where(length == 0, 0.0, sparsity).to(X.dtype)


def hoyer_H(H: Tensor) -> Tensor:
    """Mean Hoyer sparsity of the live (non-zero) columns of H: how local the parts are.

    In [0, 1]; 0 where no column is live. Dead columns are counted by ``dead_components`` instead: as "perfectly
    sparse" ones they would reward a basis for losing its parts.

    Arguments:
        H: (*batch, n, k).

    Returns:
        (*batch,).

    Raises:
        TypeError, ValueError: H is no floating-point matrix.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import hoyer_H
        >>> hoyer_H(torch.eye(4)), hoyer_H(torch.ones(4, 2))  # parts of one pixel, parts that fill the image
        (tensor(1.), tensor(0.))
    """
    check_matrix("H", H)
    return mean_where(hoyer_sparsity(H, dim=-2), live_columns(H))


def hoyer_W(W: Tensor) -> Tensor:
    """Mean Hoyer sparsity of the live (non-zero) rows of W: how few columns of Y use a part.

    In [0, 1]; 0 where no row is live.

    Arguments:
        W: (*batch, k, m).

    Returns:
        (*batch,).

    Raises:
        TypeError, ValueError: W is no floating-point matrix.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import hoyer_W
        >>> hoyer_W(torch.tensor([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))  # one part for one column, one for all
        tensor(0.5000)
    """
    return hoyer_H(check_matrix("W", W).mT)


def zero_share(H: Tensor, tolerance: float = 0.0) -> Tensor:
    """The share of the entries of H that are at most tolerance · max(H).

    In [0, 1]; 1 where H is zero or has no entry. Unlike the Hoyer sparsity it counts dead columns as zeros, and only
    exact zeros at tolerance 0, which least squares without a constraint never gives.

    Arguments:
        H: (*batch, n, k), non-negative.
        tolerance: in [0, 1).

    Returns:
        (*batch,).

    Raises:
        TypeError, ValueError: H is no floating-point matrix, or tolerance no such number.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import zero_share
        >>> H = torch.tensor([[1.0, 0.0], [0.01, 2.0]])
        >>> zero_share(H), zero_share(H, tolerance=0.05)
        (tensor(0.2500), tensor(0.5000))
    """
    tolerance = check_number("tolerance", tolerance, "[0, 1)")
    if 0 in check_matrix("H", H).shape[-2:]:
        return H.new_ones(H.shape[:-2])
    largest = H.amax(dim=(-2, -1), keepdim=True)
    share = (tolerance * largest >= H).to(H.dtype).mean(dim=(-2, -1))
    return torch.where(largest[..., 0, 0].isnan(), math.nan, share)  # a comparison with NaN would pass for "dense"
