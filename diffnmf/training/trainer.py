"""The training loop of GAN-UNET."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnmf.data import GroupSampler, group_matrix
from diffnmf.models import Critic, Factorization, Generator
from diffnmf.training.config import TrainingConfig
from diffnmf.training.disturbance import pca_disturbance
from diffnmf.training.losses import accuracy, adversarial_loss, critic_loss, reconstruction_loss

Row = dict[str, float]


class Trainer:
    """Trains a generator, against a critic unless ``config.adversarial`` is off.

    An epoch depends on the seed and its own number only, never on what was drawn before it, so that a run continued at
    an epoch goes on as one that never stopped.

    Arguments:
        generator: the model.
        critic: its opponent, or None without the adversarial loss.
        sampler: the groups of the training images.
        config: see ``TrainingConfig``.
        device: where the models are, and where the groups are put together.
    """

    def __init__(
        self,
        generator: Generator,
        critic: Critic | None,
        sampler: GroupSampler,
        config: TrainingConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        if config.adversarial and critic is None:
            raise ValueError("critic: expected a Critic with adversarial=True; got None")
        self.generator = generator.to(device)
        self.critic = critic.to(device) if critic is not None and config.adversarial else None
        self.sampler = sampler
        self.config = config
        self.device = torch.device(device)
        self.pca_rank = config.pca_rank or generator.k
        self.generator_optimizer = self._adam(self.generator, config.learning_rate)
        self.critic_optimizer = (
            self._adam(self.critic, config.critic_learning_rate) if self.critic is not None else None
        )

    def train_epoch(self, epoch: int, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> Row:
        """One pass over the groups of this epoch.

        Arguments:
            epoch: its number, from 1.
            progress: wraps the iterable of steps, as ``tqdm`` does.

        Returns:
            The mean over the steps of every loss and of the accuracies of the critic.
        """
        self.generator.train()
        self._set_learning_rates(epoch)
        groups = self.sampler.epoch(epoch).to(self.device)  # (groups, m)
        flipped = self._flips(epoch, len(groups))
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        for start in progress(range(0, len(groups), self.config.batch_size)):
            batch = slice(start, start + self.config.batch_size)
            Y = group_matrix(self.sampler.images, groups[batch])  # (B, n, m)
            for name, value in self.step(Y, flipped[batch]).items():
                totals[name] += value * len(Y)  # summed on the device: reading each would make the host wait
        return {name: (total / len(groups)).item() for name, total in totals.items()}

    def step(self, Y: Tensor, flipped: Tensor) -> dict[str, Tensor]:
        """One step of the critic, then one of the generator, on groups Y (B, n, m) and flips (B,) bool."""
        result = self.generator(Y)
        log: dict[str, Tensor] = {}
        if self.critic is not None:
            log |= self._critic_step(Y, result, flipped)
        log |= self._generator_step(Y, result)
        return log

    def _critic_step(self, Y: Tensor, result: Factorization, flipped: Tensor) -> dict[str, Tensor]:
        assert self.critic is not None and self.critic_optimizer is not None
        real_logits = self.critic(pca_disturbance(Y, self.pca_rank), Y)
        fake_logits = self.critic(result.Y_hat.detach(), Y)
        loss = critic_loss(real_logits, fake_logits, flipped)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return {
            "critic_loss": loss.detach(),
            "critic_accuracy_real": accuracy(real_logits, real=True),
            "critic_accuracy_fake": accuracy(fake_logits, real=False),
        }

    def _generator_step(self, Y: Tensor, result: Factorization) -> dict[str, Tensor]:
        reconstruction = reconstruction_loss(result.Y_hat, Y)
        log = {"reconstruction_loss": reconstruction.detach()}
        loss = self.config.reconstruction_weight * reconstruction
        if self.critic is not None:
            # The critic judges but does not learn here; its gradients would be computed for nothing.
            self.critic.requires_grad_(False)
            adversarial = adversarial_loss(self.critic(result.Y_hat, Y), self.config.adversarial_form)
            self.critic.requires_grad_(True)
            log["adversarial_loss"] = adversarial.detach()
            loss = loss + adversarial
        self.generator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.generator_optimizer.step()
        return log

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors and numbers."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state; KeyError or RuntimeError where it belongs to other models."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {
            "generator": self.generator,
            "critic": self.critic,
            "generator_optimizer": self.generator_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _set_learning_rates(self, epoch: int) -> None:
        """Constant, then linear decay, by the number of the epoch alone."""
        constant = self.config.constant_share * self.config.epochs
        # The last epoch of n decaying ones still has 1/(n + 1) of the full rate.
        left = (self.config.epochs + 1 - epoch) / (self.config.epochs + 1 - constant)
        factor = max(0.0, min(1.0, left))
        _set_learning_rate(self.generator_optimizer, factor * self.config.learning_rate)
        if self.critic_optimizer is not None:
            _set_learning_rate(self.critic_optimizer, factor * self.config.critic_learning_rate)

    def _flips(self, epoch: int, groups: int) -> Tensor:
        """(groups,) bool: drawn per group of the epoch, so that how groups are spread over steps changes nothing."""
        draws = np.random.default_rng([self.config.seed, epoch]).random(groups)
        return torch.from_numpy(draws < self.config.flip_probability).to(self.device)

    def _adam(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Adam:
        return torch.optim.Adam(model.parameters(), lr=learning_rate, betas=self.config.betas)


def _set_learning_rate(optimizer: torch.optim.Adam, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
