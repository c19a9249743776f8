"""What the steps of an epoch report: added up without making the device wait, and watched for NaN."""

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffnmf.errors import DivergenceError

if TYPE_CHECKING:
    from accelerate import Accelerator

Row = dict[str, float]


class StepLog:
    """The means over the groups of an epoch.

    The values stay on the device until ``flush``, which is called every ``FLUSH_EVERY`` steps and before anything is
    saved: reading each would make the host wait for the device.

    Arguments:
        accelerator: adds the values of the processes up.
    """

    FLUSH_EVERY = 32

    def __init__(self, accelerator: "Accelerator") -> None:
        self._accelerator = accelerator
        self._pending: list[tuple[int, int, dict[str, Tensor]]] = []
        self.totals: dict[str, float] = defaultdict(float)
        self.groups = 0

    def add(self, epoch: int, step: int, groups: int, values: dict[str, Tensor]) -> None:
        """Take the values of a step, each the part of this process of the mean over all ``groups`` of the step."""
        self._pending.append((step, groups, values))
        if len(self._pending) >= self.FLUSH_EVERY:
            self.flush(epoch)

    def flush(self, epoch: int) -> None:
        """Read what is pending.

        Raises:
            DivergenceError: a value is NaN or infinite; names the first one and its step.
        """
        if not self._pending:
            return
        names = list(self._pending[0][2])
        parts = torch.stack([torch.stack([values[name].float() for name in names]) for _, _, values in self._pending])
        means = self._accelerator.reduce(parts, reduction="sum").tolist()  # (steps, names)
        for (step, groups, _), values in zip(self._pending, means, strict=True):
            for name, value in zip(names, values, strict=True):
                if not math.isfinite(value):
                    raise DivergenceError(
                        f"{name}: expected a finite number; got {value} in epoch {epoch}, step {step}"
                    )
                self.totals[name] += value * groups
            self.groups += groups
        self._pending.clear()

    def means(self) -> Row:
        """The mean of every value over the groups so far."""
        return {name: total / self.groups for name, total in self.totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """What a continued epoch goes on from; flush first."""
        return {"totals": dict(self.totals), "groups": self.groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._pending.clear()
        self.totals = defaultdict(float, state["totals"])
        self.groups = state["groups"]
