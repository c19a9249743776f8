"""Loading the compiled library, and choosing between it and torch: both once in a process, at the first use."""

import ctypes
import os
import sys
import threading
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from diffnmf.errors import unknown_name

VARIABLE = "DIFFNMF_KERNEL"
VERSION = 10  # what version.c returns
PATH = Path(__file__).with_name("_kernels" + {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so"))
# By what torch says of the processor.
VARIANTS = {"AVX512": ("avx512", "avx2", "plain"), "AVX2": ("avx2", "plain")}


class Kernel(NamedTuple):
    """What computes on the CPU.

    Attributes:
        name: "c" for the compiled library, "torch" for torch alone.
        reason: where the library was loaded from and for which instructions, why there is none, or that the environment
            says so.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Library:
    """The compiled library and the set of instructions that fits the processor: avx512, avx2 or plain."""

    functions: ctypes.CDLL
    variant: str

    def has(self, variant: str) -> bool:
        """Whether the compiler that made the library knew these instructions."""
        return hasattr(self.functions, f"diffnmf_kernel_version_{variant}")

    def function(self, name: str) -> Any:
        """The function of that name for those instructions."""
        return getattr(self.functions, f"{name}_{self.variant}")


def kernel() -> Kernel:
    """Tell what computes on the CPU: the compiled library or torch.

    The environment variable ``DIFFNMF_KERNEL`` chooses, ``c`` or ``torch``. Where it is not set, the library is used if
    there is one. It is read at the first use in a process.

    Raises:
        ValueError: ``DIFFNMF_KERNEL`` is another word.
        RuntimeError: ``DIFFNMF_KERNEL`` is ``c`` and there is no library.

    Example:
        >>> from diffnmf.solvers import kernel
        >>> kernel().name in ("c", "torch")
        True
    """
    if _chosen is None:
        with _lock:
            _remember(_choose())
    assert _chosen is not None
    return _chosen


def kernel_is_asked_for(name: str) -> bool:
    """Whether the environment asks for that kernel."""
    return os.environ.get(VARIABLE) == name


def variants() -> tuple[str, ...]:
    """The sets of instructions that this processor has, as hatch_build.py names them, the fastest first.

    ``ATEN_CPU_CAPABILITY``, which torch reads, chooses a lower one: ``default`` or ``avx2``.
    """
    return VARIANTS.get(torch.backends.cpu.get_cpu_capability(), ("plain",))


def library() -> Library | None:
    """The compiled library, loaded at the first call; None where there is none that fits."""
    with _lock:
        return _load()[0]


def reason() -> str:
    """Where the library was loaded from, or why there is none."""
    with _lock:
        return _load()[1]


def forget() -> None:
    """Load and choose anew at the next use: for tests that change the environment."""
    with _lock:
        _load.cache_clear()
        _remember(None)


_lock = threading.Lock()  # a cache alone may compute its value once in every thread
_chosen: Kernel | None = None  # read without the lock: a process may be forked while another thread holds that


def _remember(choice: Kernel | None) -> None:
    global _chosen
    _chosen = choice


def _unlock() -> None:
    """A child process has none of its parent's threads, one of which may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _choose() -> Kernel:
    asked = os.environ.get(VARIABLE)
    if asked and asked not in ("c", "torch"):
        raise unknown_name(f"the environment variable {VARIABLE}", asked, ("c", "torch"))
    if asked == "torch":
        return Kernel("torch", f"{VARIABLE} is torch")
    loaded, why = _load()
    if loaded is not None:
        return Kernel("c", why)
    if asked == "c":
        raise RuntimeError(
            f"the environment variable {VARIABLE}: c needs the compiled library, but {why}. "
            f"Install a C compiler (gcc or clang) and install diffnmf again, or unset {VARIABLE}."
        )
    return Kernel("torch", why)


@cache
def _load() -> tuple[Library | None, str]:
    if not PATH.exists():
        return None, f"{PATH} does not exist (it is compiled when diffnmf is installed, given a C compiler)"
    try:
        loaded = Library(ctypes.CDLL(str(PATH)), "plain")
        loaded = replace(loaded, variant=next(filter(loaded.has, variants()), "plain"))
        found = loaded.function("diffnmf_kernel_version")()
    except (OSError, AttributeError) as error:  # not a library for this machine, or one without a version
        return None, f"{PATH} cannot be used: {error}"
    if found != VERSION:
        return None, f"{PATH} has version {found}, this diffnmf needs {VERSION}"
    return loaded, f"loaded from {PATH}, instructions: {loaded.variant}"
