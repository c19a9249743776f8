"""Between what users of the estimator hold (arrays, data frames, tensors) and the tensors that the work is done on."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def tensor_of(array: np.ndarray | Tensor) -> Tensor:
    """The same memory as a tensor; a copy where torch could not use the memory, such as that of a read-only file."""
    if isinstance(array, Tensor):
        return array
    usable = array.flags.writeable and array.flags.forc
    return torch.from_numpy(array if usable else array.copy())


def in_kind(result: Tensor, X: object) -> Any:
    """A result as its user wants it: a tensor on the device of X where X is one, otherwise an array."""
    result = result.contiguous()
    return result.to(X.device) if isinstance(X, Tensor) else result.cpu().numpy()


def matrix_of(X: Tensor) -> Tensor:
    """A user's tensor without its gradient, at least float32; integers become floating point.

    Raises:
        TypeError: it is sparse or complex.
        ValueError: it is no matrix, has no entries, or holds NaN or infinity.
    """
    if X.layout != torch.strided:
        raise TypeError(f"X: expected a dense tensor; got one of layout {X.layout} (use X.to_dense())")
    if X.is_complex():
        raise ValueError(f"X: Complex data not supported; expected real numbers, got {X.dtype} (use X.abs())")
    if X.ndim != 2:
        raise ValueError(
            f"X: Expected 2D array, one row per sample; got {tuple(X.shape)} (use X[None] or X.flatten(1))"
        )
    for size, what in zip(X.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise ValueError(f"X: expected at least one {what}; Found array with 0 {what}(s), shape {tuple(X.shape)}")
    X = X.detach()
    X = X.to(torch.promote_types(X.dtype, torch.float32)) if X.is_floating_point() else X.to(torch.get_default_dtype())
    if not bool(X.isfinite().all()):
        raise ValueError("X: expected finite numbers; Input contains NaN or infinity (leave those rows out or impute)")
    return X


def check_non_negative(X: Tensor) -> None:
    """Raise ValueError, in scikit-learn's words, when an entry is negative."""
    smallest = X.min().item()
    if smallest < 0:
        raise ValueError(
            f"Negative values in data passed to NMF; X: expected entries ≥ 0, got {smallest:.3g} (clip or shift them)"
        )


def device_of(device: Any) -> torch.device | None:
    """A user's device, checked.

    Raises:
        ValueError: there is no such device.
    """
    try:
        return None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected None or a device such as 'cpu' or 'cuda'; got {device!r}") from error
