"""What users hold, arrays or tensors with a sample in each row, as the tensors that the work is done on."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnmf.checks import check_tensor
from diffnmf.factorization.sample_arrays import tensor_of


def rows_of(name: str, data: Any, width: int, like: Tensor, interval: str = "(-inf, inf)") -> Tensor:
    """Samples as a tensor (N, width), N ≥ 0, in the dtype and on the device of ``like``, with their gradient.

    Arguments:
        name: of the argument.
        data: an array, a data frame or a tensor of real numbers.
        width: how long a row has to be.
        like: a weight.
        interval: what an entry may be, such as "[0, 1]"; finite in any case.

    Raises:
        TypeError: it is not of real numbers.
        ValueError: it has another shape, or entries that are not in the interval.
    """
    rows = check_tensor(name, data if isinstance(data, Tensor) else _tensor_of(name, data))
    if rows.is_complex():
        raise TypeError(f"{name}: expected real numbers; got {rows.dtype} (use {name}.abs())")
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"{name}: expected rows (N, {width}); got {tuple(rows.shape)} (flatten or transpose them)")
    # The same rounding whatever the memory is like: learning would make other weights of it.
    rows = rows.to(like).contiguous()
    if torch.compiler.is_compiling():
        return rows  # a graph is made for other numbers than these
    if rows.is_inference() and not torch.is_inference_mode_enabled():
        rows = rows.clone()  # of which a gradient can be taken
    # Nothing can be read on the meta device, nor inside of torch.func.vmap.
    if rows.numel() > 0 and not rows.is_meta and not torch._C._are_functorch_transforms_active():
        _check_entries(name, rows, interval)
    return rows


def labels_of(name: str, labels: Any, count: int, classes: int) -> Tensor:
    """The classes of ``count`` samples as a tensor (count,) int64; of a list, an array or a series, too.

    Arguments:
        name: of the argument.
        labels: integers or flags.
        count: how many there have to be.
        classes: they are from 0 to classes − 1.

    Raises:
        TypeError: they are no integers.
        ValueError: there is not one for each sample, or one is out of range.
    """
    if not isinstance(labels, Tensor):
        array = np.asarray(labels)
        labels = tensor_of(array.astype(np.int64)) if array.dtype.kind in "biu" else array
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"{name}: expected integers, the class of each sample; got {labels.dtype} (number the classes)")
    if labels.shape != (count,):
        raise ValueError(
            f"{name}: expected one class for each of {count} samples; got {tuple(labels.shape)} (in their order)"
        )
    labels = labels.long()
    if labels.is_inference() and not torch.is_inference_mode_enabled():
        labels = labels.clone()  # which a loss can keep
    if count and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"{name}: expected classes from 0 to {classes - 1}; "
            f"got {int(labels.min())} to {int(labels.max())} (number them)"
        )
    return labels


def _tensor_of(name: str, data: Any) -> Tensor:
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name}: expected an array or a tensor of real numbers; "
            f"got {type(data).__name__} of {array.dtype} (convert it)"
        )
    return tensor_of(array)


def _check_entries(name: str, rows: Tensor, interval: str) -> None:
    low, high = (end.item() for end in rows.detach().aminmax())  # a NaN anywhere comes out in both
    least, most = (float(end) for end in interval[1:-1].split(","))
    if not (least <= low and high <= most and abs(low) != float("inf") and abs(high) != float("inf")):
        raise ValueError(
            f"{name}: expected finite numbers in {interval}; got {low:.6g} to {high:.6g} (shift, scale or clip them)"
        )
