"""Calling the kernel of merging.c."""

import ctypes

from torch import Tensor

from diffnmf.kernels.calling import call

_MERGE = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 4


def merge_gram(G: Tensor, k: int) -> Tensor:
    """``factorization.gram_merging.merge_gram`` for G (B, m, m) on the CPU: A (B, k, m)."""
    gram = G.double().contiguous()
    batch, m, _ = gram.shape
    A = gram.new_empty(batch, k, m)
    call("diffnmf_merge_gram", _MERGE, batch, 10 * m * m, gram, A, m, k)
    return A.to(G.dtype)
