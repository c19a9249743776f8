"""Columns in runs whose k×k systems may be in memory at once."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from diffnmf.solvers.devices import looking_is_free

# Matrices beyond this many entries are neither made nor kept at once (32 MiB in float64): all the k×k systems of 60,000
# columns at k = 50 would take 1.2 GB. An accelerator needs more of them to be busy, and has the memory.
MAX_ENTRIES = 1 << 22
MAX_ENTRIES_ACCELERATOR = 1 << 26

CACHED_ENTRIES = 1 << 19  # what is copied to be used once, run by run, should not leave the cache in between


def columns_in_cache(H: Tensor) -> int:
    """How many columns of the height of H (B, n, k), of every problem, a cache holds in float64.

    On an accelerator, what it has room for.
    """
    return max(1, entries_in_cache(H.device) // max(1, H.shape[0] * H.shape[1]))


def entries_in_cache(device: torch.device) -> int:
    """How many entries in float64 a cache holds; of an accelerator, what it has room for."""
    return CACHED_ENTRIES if looking_is_free(device) else MAX_ENTRIES_ACCELERATOR


def columns_in_memory(H: Tensor) -> int:
    """How many columns of the height of H (B, n, k), of every problem, may be in memory once more."""
    return max(1, max_entries(H.device) // max(1, H.shape[0] * H.shape[1]))


def max_entries(device: torch.device) -> int:
    """Of what is made at once."""
    return MAX_ENTRIES if looking_is_free(device) else MAX_ENTRIES_ACCELERATOR


def tiles(A: Tensor, m: int) -> Iterator[tuple[Tensor, slice]]:
    """Walk over the B·m columns of a batch in runs whose k×k systems may be in memory at once.

    Arguments:
        A: (B, k, k), one matrix a problem.
        m: columns a problem.

    Yields:
        The matrices (P, k, k) of several whole problems, or of the one problem that a run is part of, and the slice of
        their columns, P·c of them.
    """
    size = _columns_at_once(A.shape[-1], A.device)
    if size >= m:
        step = size // max(1, m)
        for first in range(0, len(A), step):
            matrices = A[first : first + step]
            yield matrices, slice(first * m, (first + len(matrices)) * m)
    else:
        for problem, start in product(range(len(A)), range(0, m, size)):
            yield A[problem : problem + 1], slice(problem * m + start, problem * m + min(start + size, m))


def index_chunks(numbers: Tensor, k: int) -> tuple[Tensor, ...]:
    """Cut a list of column numbers (N,) in the same way; no chunks where there are none."""
    return numbers.split(_columns_at_once(k, numbers.device)) if len(numbers) else ()


def _columns_at_once(k: int, device: torch.device) -> int:
    return max(1, max_entries(device) // max(1, k * k))
