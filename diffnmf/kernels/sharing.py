"""Sharing the columns of a call among threads. A function in C runs without Python's lock."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise

import torch

WORTH_SHARING = 2.0e5  # in multiplications: some 50 µs, against 20 for waking another thread
PIECES = 4  # a thread: columns differ in what they cost

_pool: ThreadPoolExecutor | None = None


def share(work: Callable[[int, int], int], count: int, cost: float) -> int:
    """Call work(first, last) for ranges that make up range(count), on as many threads as torch has.

    Arguments:
        work: a function in C; returns a number, 0 where all is well. A range touches nothing that another one touches.
        count: how many there are.
        cost: of each, in multiplications, roughly.

    Returns:
        The largest number that a range has returned.
    """
    threads = min(torch.get_num_threads(), count)
    if threads == 1 or count * cost < WORTH_SHARING:
        return work(0, count)
    pieces = min(count, PIECES * threads)
    edges = [count * i // pieces for i in range(pieces + 1)]
    ranges = deque(pairwise(edges))  # gives every range once, in a Python without a lock, too

    def take() -> int:
        result = 0
        while True:
            try:
                first, last = ranges.popleft()
            except IndexError:
                return result
            result = max(result, work(first, last))

    others: list[Future[int]] = []
    try:
        _ask_for_help(take, others, threads - 1)
        return max([take(), *(other.result() for other in others)])  # this thread works, too
    finally:
        # Nobody may leave while another thread still writes: what is written to would be freed, after Ctrl-C say.
        ranges.clear()
        _wait_for_all(others)


def _ask_for_help(take: Callable[[], int], others: list["Future[int]"], count: int) -> None:
    """Add ``count`` threads that call ``take`` to ``others``, or fewer: when Python ends it has no more of them."""
    try:
        for _ in range(count):
            others.append(_threads().submit(take))
    except RuntimeError:
        pass  # this thread does what is left


def _wait_for_all(others: list["Future[int]"]) -> None:
    """Wait even through Ctrl-C, which counts afterwards."""
    interrupted: KeyboardInterrupt | None = None
    while not all(other.done() for other in others):
        try:
            wait(others)
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        # Idle threads cost nothing; no more of them are ever started than torch has.
        _pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="diffnmf")
    return _pool


def _forget_threads() -> None:
    """A child process has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
