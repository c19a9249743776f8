"""How much every entry of Y counts: what ``mask`` and ``weights`` say, checked, and in units of its own."""

import torch
from torch import Tensor

from diffnmf.checks import check_expands, check_same_device, check_tensor


def entry_weights_of(
    mask: Tensor | None, weights: Tensor | None, Y: Tensor, shape: tuple[int, ...], sparse: bool
) -> Tensor | None:
    """V (B, n, m) of mask and weights together, for Y of ``shape`` (*batch, n, m)."""
    if mask is None and weights is None:
        return None
    if sparse:
        raise ValueError("mask, weights: expected None for a sparse Y, whose empty entries are 0 (use Y.to_dense())")
    dtype = torch.promote_types(Y.dtype, torch.float32)
    V = torch.ones((), dtype=dtype, device=Y.device)
    if mask is not None:
        check_tensor("mask", mask)
        check_same_device("mask", mask, "Y", Y.device)
        if mask.dtype != torch.bool:
            raise TypeError(
                f"mask: expected a tensor of dtype bool, True where Y is known; got {mask.dtype} (use mask.bool())"
            )
        V = check_expands("mask", mask, shape, "that of Y").to(dtype)
    if weights is not None:
        check_tensor("weights", weights)
        check_same_device("weights", weights, "Y", Y.device)
        V = V * check_expands("weights", checked_weights(weights.detach(), dtype), shape, "that of Y")
    return V.expand(shape).reshape(-1, *shape[-2:])


def checked_weights(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """In the dtype that is worked in.

    Raises:
        ValueError: one is negative, not finite, or too large or too small for that dtype.
    """
    if not bool(weights.isfinite().all()) or bool((weights < 0).any()):
        raise ValueError(
            "weights: expected finite numbers ≥ 0, 0 for an entry that is not known; got others (replace them)"
        )
    V = weights.to(dtype)
    if not bool((V.isfinite() & ((V > 0) == (weights > 0))).all()):
        raise ValueError(
            f"weights: expected numbers in the range of {dtype}, in which Y is factorised; got some from"
            f" {weights[weights > 0].min():.1e} to {weights.max():.1e} (divide them by the largest, or take float64)"
        )
    return V


def weights_in_units(V: Tensor) -> tuple[Tensor, Tensor]:
    """V (B, n, m) divided by 2^e, so that the largest of every problem lies in [1, 2), without rounding; e (B,)."""
    largest = V.amax((1, 2)) if V.numel() else V.new_zeros(len(V))
    exponent = torch.where(largest > 0, torch.frexp(largest)[1] - 1, 0)
    if bool(exponent.any()):
        half = exponent.div(2, rounding_mode="floor")
        for part in (half, exponent - half):  # in two steps: a power of two as large as V may be out of range
            V = V / torch.ldexp(torch.ones_like(largest), part)[:, None, None]
    return V, exponent
