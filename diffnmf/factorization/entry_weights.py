"""Weights of the entries of Y, from what is known and how much it counts."""

import torch
from torch import Tensor

from diffnmf.checks import check_expands, check_same_device, check_tensor
from diffnmf.solvers.ranges import times_power


def entry_weights_of(
    mask: Tensor | None, weights: Tensor | None, Y: Tensor, shape: tuple[int, ...], sparse: bool
) -> tuple[Tensor | None, Tensor | None]:
    """V of mask and weights together, for Y of ``shape`` (*batch, n, m), in units in which the largest is about 1.

    Weights have no unit: those of 1e-50 ask for the same as those of 1, and penalties count the more beside them.

    Returns:
        V (B, n, m), and e (B, 1, 1): the user has asked for 2^e V. Each is None where it would be 1, or 0.

    Raises:
        TypeError, ValueError: as ``factorize``.
    """
    if mask is None and weights is None:
        return None, None
    if sparse:
        raise ValueError(
            "mask, weights: expected None for a sparse Y, whose empty entries are 0 (use mask='stored' where these are"
            " not known, or Y.to_dense())"
        )
    dtype = torch.promote_types(Y.dtype, torch.float32)
    if mask is not None:
        check_tensor("mask", mask)
        check_same_device("mask", mask, "Y", Y.device)
        if mask.dtype != torch.bool:
            raise TypeError(
                f"mask: expected a tensor of dtype bool, True where Y is known; got {mask.dtype} (use mask.bool())"
            )
        mask = check_expands("mask", mask, shape, "that of Y")
    if weights is None:
        assert mask is not None
        return mask.to(dtype).reshape(-1, *shape[-2:]), None
    check_tensor("weights", weights)
    check_same_device("weights", weights, "Y", Y.device)
    given = check_expands("weights", weights.detach(), shape, "that of Y")
    _check_range(weights)
    given = given.to(torch.promote_types(given.dtype, dtype))
    known = given if mask is None else torch.where(mask, given, 0.0)
    return weights_in_units(known.reshape(-1, *shape[-2:]), dtype)


def checked_weights(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """In the dtype that is worked in.

    Raises:
        ValueError: one is negative, not finite, or too large or too small for that dtype.
    """
    _check_range(weights)
    V = weights.to(dtype)
    if not bool((V.isfinite() & ((V > 0) == (weights > 0))).all()):
        raise ValueError(
            f"weights: expected 0 or numbers that {dtype}, which is computed in, can represent; got some from"
            f" {weights[weights > 0].min():.1e} to {weights.max():.1e} (divide them by their largest, or use float64)"
        )
    return V


def _check_range(weights: Tensor) -> None:
    if not bool(weights.isfinite().all()) or bool((weights < 0).any()):
        raise ValueError(
            "weights: expected finite numbers ≥ 0, 0 for an entry that is not known; got others (replace them)"
        )


def weights_in_units(given: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """V (B, n, m) in ``dtype``, the largest of each problem in [1, 2), and the exponent (B, 1, 1) of what it has lost.

    That is a power of two, so that nothing is rounded.

    Raises:
        ValueError: a weight is so much smaller than the largest of its problem that ``dtype`` has no number for it.
    """
    largest = given.amax((1, 2), keepdim=True) if given.numel() else given.new_zeros(len(given), 1, 1)
    largest = largest.double()
    exponent = torch.where(largest > 0, torch.frexp(largest)[1] - 1, 0).double()
    V = times_power(given, -exponent).to(dtype)
    if not torch.equal(V > 0, given > 0):
        raise ValueError(
            f"weights: expected those of a matrix to be at least {torch.finfo(dtype).tiny:.0e} times the largest, or 0;"
            f" got {given[(given > 0) & (V == 0)].amin():.1e}, which is nothing beside {largest.amax():.1e} in {dtype}"
            " (use 0, or Y.double())"
        )
    return V, exponent
