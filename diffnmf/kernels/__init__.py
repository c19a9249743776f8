"""The kernels in C: loading their library, choosing between it and torch, and calling it."""

from diffnmf.kernels.library import Kernel, kernel

__all__ = ["Kernel", "kernel"]
