"""How good a factorisation Y ≈ HW is: its error, how sparse and distinct its parts are, and whether they are copies.

Every score is taken per problem: batch dimensions broadcast, the result is (*batch,). Zero columns and zero
factorisations never give NaN (each docstring says what they give); a NaN in the input does. Norms are summed in
float64, and so that no scale of the inputs overflows or vanishes on the way.
"""

import math

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_number, check_same_rows, check_tensor
from diffnmf.solvers.norms import safe_norm
from diffnmf.solvers.problem import one_where_zero


def column_error(Y: Tensor, Y_hat: Tensor) -> Tensor:
    """Eq. (4) of the GAN-UNET paper: the mean over the m columns of ‖ŷ_i − y_i‖₂, unsquared.

    In [0, ∞), in the units of Y. Being unsquared, it favours a few exact columns over an even fit: k columns of Y
    as the basis can score better than the best rank-k matrix, so read it beside ``relative_error``.

    Arguments:
        Y: (*batch, n, m).
        Y_hat: (*batch, n, m), the reconstruction HW.

    Returns:
        (*batch,), in the dtype of the inputs.

    Raises:
        TypeError, ValueError: no tensors, or not of one shape; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import column_error
        >>> Y = torch.tensor([[3.0, 0.0], [4.0, 1.0]])
        >>> column_error(Y, torch.zeros(2, 2))  # the mean of 5 and 1
        tensor(3.)
    """
    check_same_matrix(Y, Y_hat)
    difference = Y_hat - Y
    return _norm(difference, dim=-2).mean(-1).to(difference.dtype)


def relative_error(Y: Tensor, Y_hat: Tensor) -> Tensor:
    """‖Y − Ŷ‖_F / ‖Y‖_F, the usual error of an NMF; the rank-k SVD is its lower bound.

    In [0, ∞); 0 where Y and Ŷ are both zero, infinite where Y alone is.

    Arguments:
        Y: (*batch, n, m).
        Y_hat: (*batch, n, m), the reconstruction HW.

    Returns:
        (*batch,), in the dtype of the inputs.

    Raises:
        TypeError, ValueError: no tensors, or not of one shape; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import relative_error
        >>> Y = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
        >>> relative_error(Y, torch.tensor([[3.0, 0.0], [0.0, 0.0]]))  # 4 of 5
        tensor(0.8000)
    """
    check_same_matrix(Y, Y_hat)
    difference = Y_hat - Y
    error, size = _norm(difference, dim=(-2, -1)), _norm(Y, dim=(-2, -1))
    ratio = error / one_where_zero(size)
    return torch.where((size == 0) & (error > 0), math.inf, ratio).to(difference.dtype)


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
        TypeError, ValueError: X is no tensor, or dim no such int.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import hoyer_sparsity
        >>> hoyer_sparsity(torch.tensor([[0.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), dim=1)
        tensor([1., 0.])
    """
    dim = check_count("dim", dim, at_least=-check_tensor("X", X).ndim)
    root = math.sqrt(X.shape[dim])
    if root <= 1:
        return torch.zeros_like(X.sum(dim))
    length = _norm(X, dim)
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
        TypeError: H is no tensor.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import hoyer_H
        >>> hoyer_H(torch.eye(4)), hoyer_H(torch.ones(4, 2))  # parts of one pixel, parts that fill the image
        (tensor(1.), tensor(0.))
    """
    check_tensor("H", H)
    return _mean_where(hoyer_sparsity(H, dim=-2), _live_columns(H))


def hoyer_W(W: Tensor) -> Tensor:
    """Mean Hoyer sparsity of the live (non-zero) rows of W: how few columns of Y use a part.

    In [0, 1]; 0 where no row is live.

    Arguments:
        W: (*batch, k, m).

    Returns:
        (*batch,).

    Raises:
        TypeError: W is no tensor.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import hoyer_W
        >>> hoyer_W(torch.tensor([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]))  # one part for one column, one for all
        tensor(0.5000)
    """
    return hoyer_H(check_tensor("W", W).mT)


def zero_share(H: Tensor, tolerance: float = 0.0) -> Tensor:
    """The share of the entries of H that are at most tolerance · max(H).

    In [0, 1]; 1 where H is zero. Unlike the Hoyer sparsity it counts dead columns as zeros, and only exact
    zeros at tolerance 0, which least squares without a constraint never gives.

    Arguments:
        H: (*batch, n, k), non-negative.
        tolerance: in [0, 1).

    Returns:
        (*batch,).

    Raises:
        TypeError, ValueError: H is no tensor, or tolerance no such number.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import zero_share
        >>> H = torch.tensor([[1.0, 0.0], [0.01, 2.0]])
        >>> zero_share(H), zero_share(H, tolerance=0.05)
        (tensor(0.2500), tensor(0.5000))
    """
    tolerance = check_number("tolerance", tolerance, "[0, 1)")
    largest = check_tensor("H", H).amax(dim=(-2, -1), keepdim=True)
    share = (tolerance * largest >= H).to(H.dtype).mean(dim=(-2, -1))
    return torch.where(largest[..., 0, 0].isnan(), math.nan, share)  # a comparison with NaN would pass for "dense"


def copying(H: Tensor, Y: Tensor) -> Tensor:
    """Mean over the live columns of H of the largest cosine with a column of Y.

    In [0, 1] for non-negative inputs: 1 means that the basis is a choice of the images and no parts were found;
    0 where no column of H is live. Unchanged when columns of H or Y are scaled.

    Arguments:
        H: (*batch, n, k).
        Y: (*batch, n, m); its zero columns resemble nothing (cosine 0).

    Returns:
        (*batch,).

    Raises:
        TypeError, ValueError: no tensors, or not of the same number of rows.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import copying
        >>> Y = torch.eye(4)
        >>> copying(3 * Y[:, :2], Y), copying(torch.ones(4, 1), Y)  # two of the images, and their mean
        (tensor(1.), tensor(0.5000))
    """
    check_same_rows("H", check_tensor("H", H), "Y", check_tensor("Y", Y))
    cosines = (unit_columns(H).mT @ unit_columns(Y)).clamp(-1, 1)  # (*batch, k, m)
    return _mean_where(cosines.amax(-1), _live_columns(H))


def dead_components(H: Tensor, W: Tensor, tolerance: float = 1e-8) -> Tensor:
    """The number of components that contribute nothing: ‖h_i‖·‖w_i‖ ≤ tolerance · max_j ‖h_j‖·‖w_j‖.

    In 0 … k: k where HW is zero through and through. The product ‖h_i‖·‖w_i‖ is the Frobenius norm of the term
    h_i w_iᵀ, so moving scale from H to W changes nothing. A component that is NaN is not called dead.

    Arguments:
        H: (*batch, n, k).
        W: (*batch, k, m), w_i its i-th row.
        tolerance: relative to the strongest component of the same problem, in [0, 1).

    Returns:
        (*batch,), int64.

    Raises:
        TypeError, ValueError: H and W do not fit together, or tolerance is no such number.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import dead_components
        >>> H, W = torch.rand(2, 6, 3), torch.rand(2, 3, 5)
        >>> H[0, :, 1] = 0  # of the first problem
        >>> dead_components(H, W)
        tensor([1, 0])
    """
    return dead_mask(H, W, tolerance).sum(-1)


def dead_mask(H: Tensor, W: Tensor, tolerance: float = 1e-8) -> Tensor:
    """Which components ``dead_components`` counts, (*batch, k) bool."""
    check_factors(H, W)
    tolerance = check_number("tolerance", tolerance, "[0, 1)")
    strength = _norm(H, dim=-2) * _norm(W, dim=-1)  # (*batch, k)
    return strength <= tolerance * strength.amax(-1, keepdim=True)


def part_overlap(H: Tensor) -> Tensor:
    """Mean cosine between two different live columns of H: how much the parts share.

    In [0, 1] for non-negative H: 0 for parts with disjoint pixels, 1 for copies of one part; 0 where fewer than two
    columns are live. Unchanged when columns are scaled.

    Arguments:
        H: (*batch, n, k).

    Returns:
        (*batch,).

    Raises:
        TypeError: H is no tensor.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import part_overlap
        >>> part_overlap(torch.eye(3)), part_overlap(torch.tensor([[2.0, 3.0], [0.0, 4.0]]))
        (tensor(0.), tensor(0.6000))
    """
    directions = unit_columns(check_tensor("H", H))  # dead columns stay zero and add nothing to the sum
    live = _live_columns(H).sum(-1)
    pairs = (live * (live - 1) // 2).clamp(min=1)
    total = (directions.mT @ directions).tril(-1).sum(dim=(-2, -1))
    return (total / pairs).clamp(-1, 1)


@torch.no_grad()
def summarize(Y: Tensor, H: Tensor, W: Tensor) -> dict[str, Tensor]:
    """The scores that every table shows, without gradient.

    Arguments:
        Y: (*batch, n, m).
        H: (*batch, n, k).
        W: (*batch, k, m).

    Returns:
        ``column_error``, ``relative_error``, ``hoyer_H``, ``hoyer_W``, ``copying``, ``dead_components`` (int64)
        and ``part_overlap``, each (*batch,).

    Raises:
        TypeError, ValueError: shapes do not fit; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import summarize
        >>> H, W = torch.eye(4, 2), torch.ones(2, 3)
        >>> {name: round(score.item(), 2) for name, score in summarize(H @ W, H, W).items() if name.startswith("hoyer")}
        {'hoyer_H': 1.0, 'hoyer_W': 0.0}
    """
    check_factors(H, W)
    check_tensor("Y", Y)
    Y_hat = H @ W
    error = column_error(Y, Y_hat)
    scores = {
        "column_error": error,
        "relative_error": relative_error(Y, Y_hat),
        "hoyer_H": hoyer_H(H),
        "hoyer_W": hoyer_W(W),
        "copying": copying(H, Y),
        "dead_components": dead_components(H, W),
        "part_overlap": part_overlap(H),
    }
    return {name: score.expand(error.shape) for name, score in scores.items()}


def _norm(X: Tensor, dim: int | tuple[int, int]) -> Tensor:
    return safe_norm(X, dim)


def _live_columns(X: Tensor) -> Tensor:
    """(*batch, columns), bool. NaN counts as live, so that it shows in the score."""
    return (X != 0).any(dim=-2)


def unit_columns(X: Tensor) -> Tensor:
    """X with columns of norm 1; zero columns stay zero."""
    return X / one_where_zero(_norm(X, dim=-2)).to(X.dtype).unsqueeze(-2)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen entries along the last dimension; 0 where none is chosen."""
    return torch.where(chosen, values, 0.0).sum(-1) / chosen.sum(-1).clamp(min=1)


def check_same_matrix(Y: Tensor, Y_hat: Tensor) -> None:
    check_tensor("Y", Y)
    check_tensor("Y_hat", Y_hat)
    if Y.ndim < 2 or Y_hat.ndim < 2 or Y.shape[-2:] != Y_hat.shape[-2:]:
        raise ValueError(
            f"Y and Y_hat: expected (*batch, n, m) both, with the same n and m;"
            f" got Y {tuple(Y.shape)} and Y_hat {tuple(Y_hat.shape)} (Y_hat is H @ W)"
        )


def check_factors(H: Tensor, W: Tensor) -> None:
    check_tensor("H", H)
    check_tensor("W", W)
    if H.ndim < 2 or W.ndim < 2 or H.shape[-1] != W.shape[-2]:
        raise ValueError(
            f"H and W: expected (*batch, n, k) and (*batch, k, m), as many columns of H as rows of W;"
            f" got H {tuple(H.shape)} and W {tuple(W.shape)} (transpose the one that lies on its side)"
        )
