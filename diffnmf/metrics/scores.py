"""How good a factorisation Y ≈ HW is: its error, how sparse and distinct its parts are, and whether they are copies.

Every score is taken per problem: batch dimensions broadcast, the result is (*batch,). Zero columns and zero
factorisations never give NaN (each docstring says what they give); a NaN in the input does. Norms are summed in
float64, and so that no scale of the inputs overflows or vanishes on the way.
"""

import math

import torch
from torch import Tensor

from diffnmf.checks import check_matrix, check_number, check_same_rows
from diffnmf.metrics.matrices import check_factors, check_same_matrix, live_columns, mean_where, product
from diffnmf.metrics.sparsity import hoyer_H, hoyer_W
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero, safe_norm, with_unit_columns


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
        TypeError, ValueError: no floating tensors, or not of one shape; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import column_error
        >>> Y = torch.tensor([[3.0, 0.0], [4.0, 1.0]])
        >>> column_error(Y, torch.zeros(2, 2))  # the mean of 5 and 1
        tensor(3.)
    """
    check_same_matrix(Y, Y_hat)
    difference = Y_hat - Y
    return safe_norm(difference, dim=-2).mean(-1).to(difference.dtype)


def relative_error(Y: Tensor, Y_hat: Tensor) -> Tensor:
    """‖Y − Ŷ‖_F / ‖Y‖_F, the usual error of an NMF; the rank-k SVD is its lower bound.

    In [0, ∞); 0 where Y and Ŷ are both zero, infinite where Y alone is.

    Arguments:
        Y: (*batch, n, m).
        Y_hat: (*batch, n, m), the reconstruction HW.

    Returns:
        (*batch,), in the dtype of the inputs.

    Raises:
        TypeError, ValueError: no floating tensors, or not of one shape; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import relative_error
        >>> Y = torch.tensor([[3.0, 0.0], [4.0, 0.0]])
        >>> relative_error(Y, torch.tensor([[3.0, 0.0], [0.0, 0.0]]))  # 4 of 5
        tensor(0.8000)
    """
    check_same_matrix(Y, Y_hat)
    difference = Y_hat - Y
    error, size = safe_norm(difference, dim=(-2, -1)), safe_norm(Y, dim=(-2, -1))
    ratio = error / one_where_zero(size)
    return torch.where((size == 0) & (error > 0), math.inf, ratio).to(difference.dtype)


@precisely
def copying(H: Tensor, Y: Tensor) -> Tensor:
    """Mean over the live columns of H of the largest cosine with a column of Y.

    In [0, 1] for non-negative inputs: 1 means that the basis is a choice of the images and no parts were found;
    0 where no column of H is live, or Y has none. Unchanged when columns of H or Y are scaled.

    Arguments:
        H: (*batch, n, k).
        Y: (*batch, n, m); its zero columns resemble nothing (cosine 0).

    Returns:
        (*batch,).

    Raises:
        TypeError, ValueError: no floating-point matrices, or not of the same number of rows.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import copying
        >>> Y = torch.eye(4)
        >>> copying(3 * Y[:, :2], Y), copying(torch.ones(4, 1), Y)  # two of the images, and their mean
        (tensor(1.), tensor(0.5000))
    """
    check_same_rows("H", check_matrix("H", H), "Y", check_matrix("Y", Y))
    cosines = product(with_unit_columns(H).mT, with_unit_columns(Y)).clamp(-1, 1)  # (*batch, k, m)
    if cosines.shape[-1] == 0:  # there is nothing to resemble
        return cosines.sum(dim=(-2, -1))
    return mean_where(cosines.amax(-1), live_columns(H))


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
    strength = safe_norm(H, dim=-2) * safe_norm(W, dim=-1)  # (*batch, k)
    if strength.shape[-1] == 0:
        return strength.bool()  # no component, of which none is the strongest
    return strength <= tolerance * strength.amax(-1, keepdim=True)


@precisely
def part_overlap(H: Tensor) -> Tensor:
    """Mean cosine between two different live columns of H: how much the parts share.

    In [0, 1] for non-negative H: 0 for parts with disjoint pixels, 1 for copies of one part; 0 where fewer than two
    columns are live. Unchanged when columns are scaled.

    Arguments:
        H: (*batch, n, k).

    Returns:
        (*batch,).

    Raises:
        TypeError, ValueError: H is no floating-point matrix.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import part_overlap
        >>> part_overlap(torch.eye(3)), part_overlap(torch.tensor([[2.0, 3.0], [0.0, 4.0]]))
        (tensor(0.), tensor(0.6000))
    """
    directions = with_unit_columns(check_matrix("H", H))  # dead columns stay zero and add nothing to the sum
    live = live_columns(H).sum(-1)
    pairs = (live * (live - 1) // 2).clamp(min=1)
    # In float64: neither the cosines nor the pairs of some hundred parts can be counted in 16 bits.
    total = (directions.mT @ directions).tril(-1).sum(dim=(-2, -1), dtype=torch.float64)
    return (total / pairs).clamp(-1, 1).to(H.dtype)


@precisely
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
    Y_hat = product(H, W)
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
