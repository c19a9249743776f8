"""What the library's own operators of torch (``torch.library.custom_op``) share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Of an operator that reads from the device, which cannot be recorded: a compiled model that uses CUDA graphs leaves it
# out of them. Known to torch since 2.8.
WAITING: dict[str, Any] = {"tags": (torch.Tag.cudagraph_unsafe,)} if hasattr(torch.Tag, "cudagraph_unsafe") else {}


def mapped_first(x: Tensor, dim: int | None, size: int) -> Tensor:
    """An argument of a rule for vmap with the mapped dimension ``dim`` first; None: ``size`` times the same."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def in_one_batch(operator: Callable[..., Any], arguments: Sequence[Any], in_dims: Sequence[Any], size: int) -> Any:
    """The rule for vmap of an operator of B problems, with the mapped ones as one larger batch.

    Arguments:
        operator: takes and returns tensors (B, ...), its first argument one of them; None and plain values as they are.
        arguments: of the call.
        in_dims: which dimension of each is mapped, or None.
        size: of that dimension.
    """
    pairs = zip(arguments, in_dims, strict=True)
    mapped = [mapped_first(x, dim, size) if isinstance(x, Tensor) else x for x, dim in pairs]  # (V, B, ...)
    results = operator(*(x.flatten(0, 1) if isinstance(x, Tensor) else x for x in mapped))
    return tuple(x.unflatten(0, mapped[0].shape[:2]) for x in results), (0,) * len(results)
