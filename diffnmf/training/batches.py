"""Which groups each step of an epoch sees, and how they are dealt out to processes and to accumulated batches."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from diffnmf.data import GroupSampler, group_matrix
from diffnmf.training.config import TrainingConfig

Prepared = dict[str, Tensor]
AHEAD = 128  # groups that are prepared at a time: the device waits once for all of them


@dataclass(frozen=True, eq=False)
class Batch:
    """The groups that one process sees in one forward pass.

    Attributes:
        Y: (B, n, m), pixels in [0, 1].
        flipped: (B,) bool, whether the critic is told the wrong label of the real sample.
        share: B over the groups of the whole step, all processes and accumulated batches together: what the mean of
            this batch weighs in the mean of the step. 0 for a process that has no group left.
        prepared: what was found out about the groups ahead of their step, (B, ...) each, by name.
    """

    Y: Tensor
    flipped: Tensor
    share: float
    prepared: Prepared = field(default_factory=dict)


class EpochPlan:
    """The groups and the label flips of one epoch, dealt out.

    A step is ``batch_size · accumulate · processes`` consecutive groups; the last one has what is left. Groups and
    flips depend on the seed, the epoch and the number of the group alone, so that one process with a doubled batch and
    two processes see the same steps.

    Arguments:
        sampler: the groups of the training images.
        epoch: number of the epoch.
        config: its batch_size, accumulate, flip_probability and seed.
        process: index of this process.
        processes: how many there are.
        device: where the groups are put together.
        prepare: what is to be found out about groups Y (G, n, m) ahead of their steps: tensors (G, ...) by name.
    """

    def __init__(
        self,
        sampler: GroupSampler,
        epoch: int,
        config: TrainingConfig,
        *,
        process: int = 0,
        processes: int = 1,
        device: torch.device | str = "cpu",
        prepare: Callable[[Tensor], Prepared] | None = None,
    ) -> None:
        self.images = sampler.images
        self.groups = sampler.epoch(epoch).to(device)  # (G, m)
        self.flipped = label_flips(config.flip_probability, len(self.groups), config.seed, epoch).to(device)  # (G,)
        self.process, self.processes = process, processes
        self.across = config.batch_size * processes  # groups that the processes see at the same time
        self.step_size = self.across * config.accumulate
        self._prepare = prepare
        self._known: list[int] = []  # the numbers of the groups that are prepared
        self._prepared: Prepared = {}

    def __len__(self) -> int:
        """Steps in the epoch."""
        return -(-len(self.groups) // self.step_size)

    def size(self, step: int) -> int:
        """Groups in a step, all processes together."""
        return min(self.step_size, len(self.groups) - step * self.step_size)

    def slices(self, step: int) -> list[tuple[slice, float]]:
        """The groups of this process in each batch of a step, and what the batch weighs in the step."""
        first, size = step * self.step_size, self.size(step)
        return [
            self._own(start, min(self.across, first + size - start), size)
            for start in range(first, first + size, self.across)
        ]

    def batch(self, part: slice, share: float) -> Batch:
        """Put the groups of a slice together, on the device."""
        return Batch(group_matrix(self.images, self.groups[part]), self.flipped[part], share, self._ahead(part))

    def _ahead(self, part: slice) -> Prepared:
        """What is known about the groups of a slice; found out for many of the next steps at once where it is not."""
        if self._prepare is None:
            return {}
        wanted = list(range(part.start, part.stop))
        at = self._known.index(wanted[0]) if wanted[0] in self._known else 0
        if self._known[at : at + len(wanted)] != wanted:
            self._known, at = self._own_from(part.start)[:AHEAD], 0
            self._prepared = self._prepare(group_matrix(self.images, self.groups[torch.tensor(self._known)]))
        return {name: x[at : at + len(wanted)] for name, x in self._prepared.items()}

    def _own_from(self, first: int) -> list[int]:
        """The groups of this process from group ``first`` on, in the order in which it sees them."""
        steps = range(first // self.step_size, len(self))
        parts = (part for step in steps for part, _ in self.slices(step))
        return [number for part in parts for number in range(part.start, part.stop) if number >= first]

    def _own(self, start: int, count: int, step_size: int) -> tuple[slice, float]:
        """The part of this process of ``count`` groups from ``start`` on."""
        each = -(-count // self.processes)
        begin, end = (min(count, number * each) for number in (self.process, self.process + 1))
        if begin == end:  # none left: every process has to take part, so one group is seen twice and weighs nothing
            return slice(start, start + 1), 0.0
        return slice(start + begin, start + end), (end - begin) / step_size


def label_flips(probability: float, groups: int, seed: int, epoch: int) -> Tensor:
    """(groups,) bool: whether the real label of each group is flipped, drawn by the number of the group."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).random(groups) < probability)
