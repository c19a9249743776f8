"""An accelerator without one: tensors that say they are on another device, around tensors on the CPU.

What is done to them is recorded: operations that would launch a kernel, and operations for which the host would wait,
with file and line. An operation on tensors of two devices raises, as on a GPU. It says nothing about time, and an
operation counts once however many kernels the library of a vendor makes of it: the counts are lower bounds.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import diffnmf

NAME = "simulated"
PACKAGE = str(Path(diffnmf.__file__).parent)

# Python must know a number, or how many there are.
READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique_dim", "_unique2", "bincount"}
READS |= {"_linalg_check_errors", "_linalg_eigh", "linalg_eigh", "_linalg_svd", "linalg_svd", "linalg_eigvalsh"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
# Views beside those that say so, and memory that nobody writes to.
FREE = {"_unsafe_view", "_reshape_alias", "lift_fresh", "detach", "detach_", "alias", "squeeze_", "unsqueeze_", "t_"}
FREE |= {"empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "set_", "resize_", "is_same_size"}
COPIES = {"_to_copy", "copy_", "_copy_from"}


class _Backend(backend_registration._DummyBackendModule):  # type: ignore[name-defined]
    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())  # type: ignore[attr-defined]
DEVICE = torch.device(NAME, 0)


@dataclass(frozen=True)
class Event:
    """An operation, and the line of the library that asked for it."""

    name: str
    where: str


@dataclass
class Log:
    """What was done to the device.

    Attributes:
        kernels: operations that launch something.
        waits: operations that read from the device, which the host waits for.
        uploads: copies of ordinary memory to the device, which the host waits for, too, though not for what is queued
            before them on other streams.
    """

    kernels: list[Event] = field(default_factory=list)
    waits: list[Event] = field(default_factory=list)
    uploads: list[Event] = field(default_factory=list)

    @property
    def parts(self) -> tuple[list[Event], list[Event], list[Event]]:
        return self.kernels, self.waits, self.uploads

    @property
    def counts(self) -> tuple[int, int, int]:
        return len(self.kernels), len(self.waits), len(self.uploads)

    def in_words(self) -> str:
        """The counts, and where the waits are."""
        lines = [f"{len(self.kernels)} kernels, {len(self.waits)} waits, {len(self.uploads)} uploads"]
        for title, events in (("wait", self.waits), ("upload", self.uploads)):
            lines += [f"  {title} {count}× {event.name} at {event.where}" for event, count in Counter(events).items()]
        return "\n".join(lines)

    def most(self, number: int = 20) -> list[tuple[str, int]]:
        """The lines that launch most."""
        return Counter(f"{event.where} {event.name}" for event in self.kernels).most_common(number)


class SimulatedTensor(Tensor):
    """A tensor on the simulated device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "SimulatedTensor":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "layout": inner.layout}
        made = Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype, device=DEVICE, **layout)  # type: ignore[attr-defined]
        made.inner = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"SimulatedTensor({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(operator, args, kwargs or {}, None)


class SimulatedAccelerator(TorchDispatchMode):
    """Inside, the simulated device can be computed on, and what is done there is recorded in ``log``."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(operator, args, kwargs or {}, self.log)


def on_device(x: Tensor) -> Tensor:
    """A copy of a tensor there, as a leaf."""
    return SimulatedTensor(x.detach().clone()).requires_grad_(x.requires_grad)


def _dispatch(operator: Any, args: Any, kwargs: dict[str, Any], log: Log | None) -> Any:
    name = operator.overloadpacket.__name__
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, SimulatedTensor)]
    asked = kwargs.get("device")
    target = torch.device(asked).type if asked is not None else (NAME if there else "cpu")
    if there and name not in COPIES:
        _check_devices(name, tensors, args)
    if log is not None and (there or target == NAME):
        _record(log, operator, name, args, kwargs, there, target)
    if target == NAME and asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    plain = lambda x: x.inner if isinstance(x, SimulatedTensor) else x  # noqa: E731
    inner_args, inner_kwargs = tree_map(plain, args), tree_map(plain, kwargs)
    out = operator(*inner_args, **inner_kwargs)
    if name == "_to_copy" and inner_args and out is inner_args[0]:
        out = out.clone()
    if target != NAME:
        return out
    known = {id(x.inner): x for x in there}  # an operation in place returns what it was given

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor) or isinstance(x, SimulatedTensor):
            return x
        return known[id(x)] if id(x) in known else SimulatedTensor(x)

    return tree_map(wrapped, out)


def _check_devices(name: str, tensors: list[Tensor], args: Any) -> None:
    """Raise as a GPU does; a number on the CPU and numbers to index with may be mixed with what is there."""
    strangers = [x for x in tensors if not isinstance(x, SimulatedTensor) and x.ndim > 0]
    if name in INDEXING and isinstance(args[0], SimulatedTensor):
        strangers = [x for x in strangers if not any(x is index for index in args[1])]
    if strangers:
        shapes = [tuple(x.shape) for x in strangers]
        raise RuntimeError(f"{name}: expected all tensors on {DEVICE}; got some of {shapes} on the CPU ({_where()})")


def _record(
    log: Log, operator: Any, name: str, args: Any, kwargs: dict[str, Any], there: list[Any], target: str
) -> None:
    event = Event(name, _where())
    if name == "_to_copy":
        came_from_there = isinstance(args[0], SimulatedTensor)
        if came_from_there and target != NAME:
            log.waits.append(event)
        elif not came_from_there and not kwargs.get("non_blocking"):
            log.uploads.append(event)
    elif name in ("copy_", "_copy_from"):
        receives, gives = (isinstance(x, SimulatedTensor) for x in args[:2])
        if gives and not receives:
            log.waits.append(event)
        elif receives and not gives and not (len(args) > 2 and args[2]):
            log.uploads.append(event)
    elif there and _reads(name, args, kwargs):
        log.waits.append(event)
    elif name in INDEXING and any(isinstance(x, Tensor) and not isinstance(x, SimulatedTensor) for x in args[1]):
        log.uploads.append(event)
    if not (operator.is_view or name in FREE):
        log.kernels.append(event)


def _reads(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    return name in READS or (
        name in INDEXING and any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in args[1])
    )


def _where() -> str:
    """The innermost line of the library, or of what it calls an optimiser and an engine with."""
    frame = sys._getframe(1)
    outside = "?"
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE):
            return f"{file[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
        if outside == "?" and "site-packages" in file and "/torch/utils/" not in file and "/torch/_" not in file:
            outside = f"{file.split('site-packages/')[-1]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return outside
