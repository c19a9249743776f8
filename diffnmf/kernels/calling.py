"""Whether a kernel can be called with tensors, and calling it."""

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from diffnmf.kernels.library import kernel, library
from diffnmf.kernels.sharing import share

GOOD, WANTS_CARE, OUT_OF_RANGE, NO_MEMORY = range(4)  # what a kernel returns
TYPES = {torch.float32: "float", torch.float64: "double"}  # in the names of kernels that exist for both

_functions: dict[str, Callable[..., int]] = {}


def available(*tensors: Tensor) -> bool:
    """Whether the kernels can take these tensors: plain ones on the CPU, seen by no transform, without derivatives."""
    return kernel().name == "c" and readable({"cpu"}, *tensors)


def readable(devices: set[str], *tensors: Tensor) -> bool:
    """Whether a program may read the memory of these tensors: plain ones on a device of these types, as above."""
    return (
        all(x.device.type in devices and _is_plain(x) for x in tensors)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
        and not torch._C._are_functorch_transforms_active()
        # Whoever records operations sees none inside of a kernel.
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
    )


def multiplies(*tensors: Tensor) -> bool:
    """``available`` for tensors of any dtype; not in a graph of torch.compile, which even the question would break."""
    return not torch.compiler.is_compiling() and all(x.dtype in TYPES for x in tensors) and available(*tensors)


def _is_plain(x: Tensor) -> bool:
    """Whether the numbers of a tensor are what its memory holds."""
    return (
        (type(x) is Tensor or type(x) is torch.nn.Parameter)
        and x.layout is torch.strided
        and not x.is_nested
        and not x.is_neg()
        and not x._is_zerotensor()
        and not torch._C._functorch.is_legacy_batchedtensor(x)  # in gradients of a batch
        and not has_tangent(x)
    )


def has_tangent(x: Tensor) -> bool:
    """Whether a tensor has a derivative of forward mode; below autograd, inside of an operator, none has."""
    if forward_ad._current_level < 0:  # as nearly always, and the cheapest question
        return False
    below = torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.AutogradFunctionality)
    return not below and forward_ad.unpack_dual(x).tangent is not None


def side_by_side(X: Tensor) -> Tensor:
    """X (B, ·, ·), or a copy, with the numbers of a row or of a column beside each other in memory."""
    return X if 1 in X.stride()[1:] else X.contiguous()


def call(name: str, types: Sequence[type], count: int, cost: float, *arguments: Tensor | float | None) -> int:
    """Call a kernel for ``count`` columns, on several threads where that pays; returns what it says.

    Arguments:
        name: of the function in C.
        types: of its arguments, the last two of which are the range of columns.
        count: of columns, problems or tiles.
        cost: of each, in multiplications, roughly.
        arguments: all but the range; a tensor stands for its memory.

    Raises:
        MemoryError: there was none for a few small matrices.
    """
    kernel_ = function(name, types)

    def work(first: int, last: int) -> int:
        # Addresses are taken here, where the tensors live until the kernel is done: torch.compile frees what a function
        # of Python has named for the last time, and an address names nothing.
        return kernel_(*(x.data_ptr() if isinstance(x, Tensor) else x for x in arguments), first, last)

    result = share(work, count, cost)
    if result == NO_MEMORY:
        raise MemoryError(f"{name}: the memory of a few k×k matrices could not be had")
    return result


def function(name: str, types: Sequence[type]) -> Callable[..., int]:
    """A function of the library, with the types of its arguments."""
    found = _functions.get(name)
    if found is None:
        loaded = library()
        assert loaded is not None
        found = loaded.function(name)
        found.argtypes, found.restype = types, ctypes.c_int
        _functions[name] = found
    return found
