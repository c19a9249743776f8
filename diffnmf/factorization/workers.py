"""Independent pieces of work side by side on the CPU's cores."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")


def for_each(work: Callable[[T], None], pieces: Sequence[T], *, parallel: bool) -> None:
    """Call work(piece) for every piece, without gradient.

    In parallel, every one of torch's threads takes pieces of its own and works on them alone: operations on small
    matrices are too short to be shared. Python's lock is free while an operation computes.

    Arguments:
        work: touches nothing that the work on another piece touches.
        pieces: what is to be done.
        parallel: whether to use several threads, where torch has them and there are pieces for all of them.
    """
    threads = torch.get_num_threads()
    if not parallel or threads == 1 or len(pieces) < threads:
        for piece in pieces:
            work(piece)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
            futures = [pool.submit(torch.no_grad()(work), piece) for piece in pieces]
            try:
                for future in futures:
                    future.result()
            except BaseException:  # Ctrl-C, too: what has begun comes to its end, and nothing else begins
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(threads)  # the setting of the mathematics library is the whole program's
