"""What the processes that share a matrix say to each other: sums, and little else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from diffnmf.errors import ProcessLostError


class Processes:
    """The processes of a group, or this one alone.

    Attributes:
        rank: the number of this process, 0 for one alone.
        size: how many there are.
    """

    def __init__(self, group: Any = None, device: torch.device | None = None) -> None:
        self.group, self.device = group, device
        self.rank, self.size = 0, 1
        if group is not None:
            self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)
            if self.rank < 0:
                raise ValueError(
                    "group: expected a group that this process belongs to; got another (make it with this rank in it)"
                )

    @property
    def alone(self) -> bool:
        return self.size == 1

    def sums(self, *parts: Tensor) -> list[Tensor]:
        """Of each part over all processes, in float64: one message."""
        parts = tuple(x.double() for x in parts)
        if self.alone:
            return list(parts)
        packed = torch.cat([x.reshape(-1) for x in parts])
        self._reduce(packed, "SUM")
        return [x.reshape(part.shape) for x, part in zip(packed.split([x.numel() for x in parts]), parts, strict=True)]

    def largest(self, x: Tensor) -> Tensor:
        """Entry by entry over all processes."""
        if self.alone:
            return x
        x = x.clone()
        self._reduce(x, "MAX")
        return x

    def gather(self, x: Tensor) -> Tensor:
        """The rows (n_p, ...) of all processes, in their order."""
        if self.alone:
            return x
        counts = torch.zeros(self.size, dtype=torch.int64, device=x.device)
        counts[self.rank] = len(x)
        self._reduce(counts, "SUM")
        sizes = counts.tolist()
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        found = [torch.empty_like(padded) for _ in sizes]
        with _explained():
            distributed.all_gather(found, padded, group=self.group)
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    def wait(self) -> None:
        """Until all processes are here."""
        if not self.alone:
            here = torch.zeros(1, device=self.device)
            self._reduce(here, "SUM")
            here.item()  # NCCL sums on the device, and the host goes on until it reads

    def _reduce(self, x: Tensor, operation: str) -> None:
        with _explained():
            distributed.all_reduce(x, op=getattr(distributed.ReduceOp, operation), group=self.group)


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do when another process is lost."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(
            "another process of the group has ended or cannot be reached; what the last checkpoint holds is intact:"
            " begin again with the same checkpoint, with any number of processes"
        ) from error


def share(total: int, processes: Processes) -> tuple[int, int]:
    """The rows [start, stop) of this process, where all have as many as they can be alike."""
    return total * processes.rank // processes.size, total * (processes.rank + 1) // processes.size
