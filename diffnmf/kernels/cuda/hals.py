"""Calling the sweeps of HALS in Triton."""

from typing import Any

import torch
from torch import Tensor

from diffnmf.kernels.calling import TYPES
from diffnmf.kernels.cuda import calling
from diffnmf.kernels.cuda.trying import runs

MAX_COMPONENTS = 128  # of a few columns, in registers


def available(A: Tensor, C: Tensor, X: Tensor, past: Tensor | None, beta: Tensor | None) -> bool:
    """Whether the program can take what ``half_`` takes: up to 128 components, X and the past contiguous."""
    tensors = [x for x in (A, C, X, past, beta) if x is not None]
    return (
        calling.can_take(*tensors)
        and X.dtype in TYPES
        and 0 < X.shape[1] <= MAX_COMPONENTS
        and all(x.is_contiguous() for x in tensors[2:])
        and runs(_attempt, X.device, X.shape[1])
    )


def _attempt(device: torch.device, k: int) -> bool:
    """Whether a sweep finds the rows of C where A is the identity, and no extrapolation moves them."""
    kind: dict[str, Any] = {"dtype": torch.float32, "device": device}
    A, C = torch.eye(k, **kind).expand(2, k, k), torch.ones(2, k, 1, **kind)
    X, past = torch.zeros_like(C), C.clone()
    half_(A, C, X, 1, 0.0, past, torch.ones(2, **kind))
    return bool((X == C).all())


@calling.where_the_tensors_are
def half_(A: Tensor, C: Tensor, X: Tensor, sweeps: int, zero: float, past: Tensor | None, beta: Tensor | None) -> None:
    """``diffnmf.kernels.hals.half_`` in one launch and without a wait; A and C of any strides."""
    from diffnmf.kernels.cuda import sweeping

    batch, k, width = X.shape
    tile = columns_tile(k, X.dtype)
    if X.numel():
        sweeping.half[(batch * -(-width // tile["COLUMNS"]),)](
            *(A, C, X, X if past is None else past, X if beta is None else beta),
            *(sweeps, width, *A.stride(), *C.stride()),
            **tile,
            ZERO=zero,
            EXTRAPOLATE=past is not None and beta is not None,
        )


def columns_tile(k: int, dtype: torch.dtype) -> dict[str, int]:
    """So many columns that X has room in the registers of one warp (tests compile it)."""
    K = calling.padded(k)
    columns = (1024 if K < 128 else 512) // K if dtype == torch.float32 else min(16, 512 // K)
    # The compiler would rather spill a few bytes than use more registers, unless told how many there are.
    return {"k": k, "K": K, "COLUMNS": columns, "num_warps": 1, "maxnreg": 255, "enable_fp_fusion": True}
