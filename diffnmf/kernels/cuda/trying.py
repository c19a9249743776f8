"""Whether programs in Triton run on a device: seen by trying them, before anybody's numbers go through them.

A Triton may fail to compile a program, on one kind of card or for one number of components alone.
"""

import importlib.util
import warnings
from collections.abc import Callable
from functools import cache

import torch

from diffnmf.errors import DeviceWarning
from diffnmf.kernels.library import kernel_is_asked_for

Attempt = Callable[[torch.device, int], bool]
_seen: dict[tuple[Attempt, torch.device, int], bool] = {}


def runs(attempt: Attempt, device: torch.device, k: int) -> bool:
    """Whether an attempt with k components gives what it should on a device; tried once, and remembered.

    While a CUDA graph is recorded nothing can be tried: False then, and not remembered.
    """
    if device.type != "cuda":
        return _is_wanted()  # Triton's interpreter, in tests
    if not (_is_wanted() and _is_new_enough(device)):
        return False
    key = (attempt, device, k)
    if key not in _seen:
        if torch.cuda.is_current_stream_capturing():
            return False
        _seen[key] = _outcome(attempt, device, k)
    return _seen[key]


def _outcome(attempt: Attempt, device: torch.device, k: int) -> bool:
    try:
        good = attempt(device, k)
        problem = "they give wrong numbers"
    except Exception as error:  # of a compiler that is missing, say: whatever it is, torch goes on without
        good, problem = False, (str(error).splitlines() or [type(error).__name__])[0]
    if not good:
        message = f"kernels in Triton for k = {k} cannot be run on {device}, operations of torch are used: {problem}"
        warnings.warn(message, DeviceWarning, stacklevel=2)
    return good


@cache
def _is_wanted() -> bool:
    return not kernel_is_asked_for("torch") and importlib.util.find_spec("triton") is not None


@cache
def _is_new_enough(device: torch.device) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
