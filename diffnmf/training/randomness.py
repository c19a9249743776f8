"""Seeds for everything, and the state of every random generator."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def seeded(seed: int, *, deterministic: bool = False) -> Iterator[None]:
    """Run with every global random generator at this seed; they, and the switches, are put back at the end.

    The training itself draws nothing from them: its groups and flips come from streams of their own, by seed, epoch
    and number. What a user's own model draws (dropout, say) is repeatable all the same.

    Arguments:
        seed: of torch on every device, of NumPy and of Python.
        deterministic: let torch choose algorithms that give the same bits every time, also on a GPU; slower there, and
            an operation that has none raises an error that names it. On the CPU, runs repeat bit for bit without it as
            long as the number of threads is the same.
    """
    before = random_state()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    switches = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, os.environ.get(CUBLAS)
    try:
        # NumPy's global generator, too: it is what a user's own code may draw from.
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        if deterministic:
            os.environ.setdefault(CUBLAS, ":4096:8")  # cuBLAS demands it
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        yield
    finally:
        torch.use_deterministic_algorithms(switches[0], warn_only=only_warned)
        torch.backends.cudnn.benchmark = switches[1]
        if switches[2] is None:
            os.environ.pop(CUBLAS, None)
        set_random_state(before)


@contextmanager
def unnoticed() -> Iterator[None]:
    """Put the global random generators back to where they were: libraries draw from them while they are imported."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


def random_state() -> dict[str, Any]:
    """The state of the global generators of torch, CUDA, NumPy and Python, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Take up what ``random_state`` returned."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():  # on other hardware there is nothing to continue
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    random.setstate(state["python"])
