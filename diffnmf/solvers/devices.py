"""What differs between the CPU and an accelerator."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from diffnmf.errors import DeviceWarning
from diffnmf.solvers.constraints import Asked

Solver = TypeVar("Solver", bound=Callable[..., Any])
WITHOUT_FLOAT64 = {"mps"}


def looking_is_free(device: torch.device) -> bool:
    """Whether Python may look at a result, to pick out columns or to leave something out, without a wait.

    On an accelerator that waits until all the work queued there is done, and the accelerator then waits for Python.
    """
    return device.type == "cpu"


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64, as the solvers do: Apple's GPUs do not."""
    return device.type not in WITHOUT_FLOAT64


def needs_float64(solve: Solver) -> Solver:
    """Let a function be called with tensors of a device that has no float64: it is computed on the CPU, with a warning.

    The device is that of the first argument. Differentiable. What it returns, a tensor or a named tuple of them, comes
    back to the device, float64 as float32.
    """
    name_of_first = next(iter(inspect.signature(solve).parameters))

    @wraps(solve)
    def wrapped(*args: Any, **options: Any) -> Any:
        first = args[0] if args else options.get(name_of_first)
        if not isinstance(first, Tensor) or has_float64(first.device):
            return solve(*args, **options)
        device = first.device
        _warn_of(device)
        result = solve(*map(_at_home, args), **{name: _at_home(x) for name, x in options.items()})
        if isinstance(result, Tensor):
            return _returned(result, device)
        return type(result)(*(_returned(x, device) for x in result))

    return wrapped  # type: ignore[return-value]


def _at_home(x: Any) -> Any:
    """An argument on the CPU."""
    return x.cpu() if isinstance(x, (Tensor, Asked)) else x


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Products in the dtype of what is multiplied: autocast would lower those of float32 to half precision."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)  # meta has none


def check_float64(name: str, x: Tensor) -> None:
    """Raise a ValueError unless the device of a tensor computes in float64."""
    if not has_float64(x.device):
        raise ValueError(
            f"{name}: expected it on a device that computes in float64, such as the CPU or CUDA; got {x.device}"
            f" (use {name}.cpu())"
        )


def _returned(x: Tensor, device: torch.device) -> Tensor:
    return (x.float() if x.dtype == torch.float64 else x).to(device)


def _warn_of(device: torch.device) -> None:
    """Once in a process, like every warning of that kind."""
    if device.type in _warned:
        return
    _warned.add(device.type)
    warnings.warn(
        f"{device.type} has no float64, which the solvers need: they compute on the CPU, and what they find is copied"
        " back",
        DeviceWarning,
        stacklevel=4,
    )


_warned: set[str] = set()


@contextmanager
def precise_products(device: torch.device) -> Iterator[None]:
    """Products of matrices in their own dtype: neither autocast nor TF32 lowers those of float32.

    TF32 keeps ten bits of a number: an iteration whose progress is smaller than that never converges.
    """
    with without_autocast(device), _ieee_products():
        yield


def precisely(compute: Solver) -> Solver:
    """Let the products of a function be ``precise_products``, on the device of the first tensor that it is given.

    In a graph of ``torch.compile`` without autocast alone: TF32 is a setting of the process, which no graph can hold.
    """

    @wraps(compute)
    def wrapped(*args: Any, **options: Any) -> Any:
        tensors = (x for x in (*args, *options.values()) if isinstance(x, Tensor))
        first = next(tensors, None)
        context = without_autocast if torch.compiler.is_compiling() else precise_products
        with context(torch.device("cpu") if first is None else first.device):
            return compute(*args, **options)

    return wrapped  # type: ignore[return-value]


@contextmanager
def _ieee_products() -> Iterator[None]:
    """Without TF32, whatever ``torch.set_float32_matmul_precision`` allows elsewhere.

    The setting is the whole process's, and is put back at the end.
    """
    backends: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    if not all(hasattr(backend, "fp32_precision") for backend in backends):  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    settings = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, setting in zip(backends, settings, strict=True):
            backend.fp32_precision = setting
