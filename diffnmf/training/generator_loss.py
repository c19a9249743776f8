"""What the generator is trained for, but for the judgement of the critic."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffnmf.data import GroupSampler
from diffnmf.models import Generator
from diffnmf.training.batches import Batch, Prepared
from diffnmf.training.canonical_targets import CanonicalTargets
from diffnmf.training.config import TrainingConfig
from diffnmf.training.losses import TO_START, reconstruction_loss
from diffnmf.training.penalties import closeness_penalty, overlap_penalty, sparsity_penalty


class GeneratorLoss:
    """The reconstruction loss and the penalties of H, with what they need to know of a group.

    Arguments:
        config: its reconstruction, sparsity, overlap, closeness and canonical.
        generator: whose start and prototypes they may compare with.
        sampler: the groups of the training images.

    Raises:
        ValueError: the generator has not got what a term needs, or merging no components for such groups.
    """

    def __init__(self, config: TrainingConfig, generator: Generator, sampler: GroupSampler) -> None:
        if config.closeness > 0 and generator.start is None:
            raise ValueError(
                "closeness: expected a generator with prototypes for its slots; got one without (give basis_init)"
            )
        if config.reconstruction == TO_START and generator.start is None:
            raise ValueError(
                f"reconstruction: expected a generator with a start for {TO_START!r}; got one without (give basis_init,"
                " or another loss)"
            )
        self.config, self.generator = config, generator
        self.targets = CanonicalTargets(sampler, generator.k) if config.canonical > 0 else None

    def check_prototypes(self) -> None:
        """Raise ValueError where closeness is to none: it would be 1 throughout, without a gradient."""
        start = self.generator.start
        if self.config.closeness > 0 and start is not None and not bool(start.prototypes.any()):
            raise ValueError(
                "closeness: expected prototypes of the slots; got zeros (call generator.set_slots(Y) with training"
                " groups Y (G, n, m) before the first step)"
            )

    @torch.no_grad()
    def prepare(self, Y: Tensor) -> Prepared:
        """What is worth knowing of groups Y (G, n, m) ahead of their steps."""
        return {} if self.targets is None else {"canonical": self.targets.of(Y)}

    def reconstruction(self, Y_hat: Tensor, batch: Batch) -> Tensor:
        """The loss of the reconstruction Y_hat (B, n, m)."""
        kind = self.config.reconstruction
        Y_start = batch.prepared["H0"] @ batch.prepared["W0"] if kind == TO_START else None
        return reconstruction_loss(Y_hat, batch.Y, kind, Y_start)

    def penalties(self, H: Tensor, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Those of H (B, n, k) that have a weight: name in the log -> weight and value."""
        penalties: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
            "sparsity_penalty": (self.config.sparsity, sparsity_penalty),
            "overlap_penalty": (self.config.overlap, overlap_penalty),
            "closeness_penalty": (self.config.closeness, self._closeness),
            "canonical_penalty": (self.config.canonical, partial(self._canonical, batch)),
        }
        return {name: (weight, penalty(H)) for name, (weight, penalty) in penalties.items() if weight > 0}

    def _closeness(self, H: Tensor) -> Tensor:
        assert self.generator.start is not None  # seen to when this was made
        return closeness_penalty(H, self.generator.start.prototypes)

    def _canonical(self, batch: Batch, H: Tensor) -> Tensor:
        assert self.targets is not None
        known = batch.prepared.get("canonical")
        return closeness_penalty(H, self.targets.of(batch.Y) if known is None else known)
