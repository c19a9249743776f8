"""Which groups each step of an epoch sees, and how they are dealt out to processes and to accumulated batches."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffnmf.data import GroupSampler, group_matrix
from diffnmf.training.config import TrainingConfig


@dataclass(frozen=True, eq=False)
class Batch:
    """The groups that one process sees in one forward pass.

    Attributes:
        Y: (B, n, m), pixels in [0, 1].
        flipped: (B,) bool, whether the critic is told the wrong label of the real sample.
        share: B over the groups of the whole step, all processes and accumulated batches together: what the mean of
            this batch weighs in the mean of the step. 0 for a process that has no group left.
    """

    Y: Tensor
    flipped: Tensor
    share: float


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
    ) -> None:
        self.images = sampler.images
        self.groups = sampler.epoch(epoch).to(device)  # (G, m)
        self.flipped = label_flips(config.flip_probability, len(self.groups), config.seed, epoch).to(device)  # (G,)
        self.process, self.processes = process, processes
        self.across = config.batch_size * processes  # groups that the processes see at the same time
        self.step_size = self.across * config.accumulate

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
        return Batch(group_matrix(self.images, self.groups[part]), self.flipped[part], share)

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
