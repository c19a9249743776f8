"""The training loop of GAN-UNET."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from diffnmf.data import GroupSampler
from diffnmf.models import Critic, Factorization, Generator
from diffnmf.solvers.devices import looking_is_free
from diffnmf.training.averaging import MovingAverage
from diffnmf.training.batches import Batch, EpochPlan, Prepared
from diffnmf.training.clock import Clock
from diffnmf.training.config import TrainingConfig
from diffnmf.training.disturbance import leading_components, pca_disturbance
from diffnmf.training.engine import Learner, make_accelerator
from diffnmf.training.generator_loss import GeneratorLoss
from diffnmf.training.losses import accuracy, adversarial_loss, critic_loss
from diffnmf.training.randomness import random_state, set_random_state
from diffnmf.training.schedule import set_learning_rate
from diffnmf.training.step_log import Row, StepLog

if TYPE_CHECKING:
    from accelerate import Accelerator

Log = dict[str, Tensor]


class Trainer:
    """Trains a generator, against a critic unless ``config.adversarial`` is off.

    An epoch depends on the seed and its own number only, never on what was drawn before it, so that a run continued at
    an epoch, or inside one, goes on as one that never stopped.

    Arguments:
        generator: the model.
        critic: its opponent, or None without the adversarial loss.
        sampler: the groups of the training images.
        config: see ``TrainingConfig``.
        accelerator: what runs it (see ``make_accelerator``); one process on the CPU unless given.

    Raises:
        ValueError: ``config`` asks for a critic or for a start that is not there; the message says which.

    Example:
        >>> from diffnmf.data import GroupSampler, load_dataset
        >>> from diffnmf.models import Critic, Generator, GeneratorConfig
        >>> from diffnmf.training import Trainer, TrainingConfig
        >>> sampler = GroupSampler(load_dataset("digits").train, group_size=10, limit=8)
        >>> generator, critic = Generator(GeneratorConfig((8, 8), m=10, k=4, width=8)), Critic((8, 8), m=10, width=8)
        >>> trainer = Trainer(generator, critic, sampler, TrainingConfig(epochs=5))
        >>> losses = [trainer.train_epoch(epoch)["reconstruction_loss"] for epoch in range(1, 6)]
        >>> losses[-1] < losses[0]
        True
    """

    def __init__(
        self,
        generator: Generator,
        critic: Critic | None,
        sampler: GroupSampler,
        config: TrainingConfig,
        accelerator: "Accelerator | None" = None,
    ) -> None:
        if config.adversarial and critic is None:
            raise ValueError(
                "critic: expected a Critic with adversarial=True; got None (give one, or adversarial=False)"
            )
        self.loss = GeneratorLoss(config, generator, sampler)
        self.accelerator = accelerator or make_accelerator()
        self.device = self.accelerator.device
        self.sampler, self.config = sampler, config
        self.pca_rank = config.pca_rank or generator.k
        self.generator = generator.to(self.device)
        self.critic = critic.to(self.device) if critic is not None and config.adversarial else None
        self.ema = MovingAverage(self.generator, config.ema_decay) if config.ema_decay > 0 else None
        self.averaged = None if self.ema is None else cast(Generator, self.ema.module)
        self._generator = Learner(self.generator, self.accelerator, config.learning_rate, config.betas)
        self.generator_optimizer, self.critic_optimizer = self._generator.optimizer, None
        if self.critic is not None:
            self._critic = Learner(self.critic, self.accelerator, config.critic_learning_rate, config.betas)
            self.critic_optimizer = self._critic.optimizer
        self.log = StepLog(self.accelerator)
        self.clock = Clock(self.device)
        self.epoch, self.steps_done = 1, 0  # where the next step is

    def train_epoch(
        self,
        epoch: int,
        progress: Callable[[Iterable[int]], Iterable[int]] = iter,
        after_step: Callable[[], None] = lambda: None,
    ) -> Row:
        """One pass over the groups of this epoch, or the rest of it where a loaded state is inside of it.

        Arguments:
            epoch: its number, from 1 to ``config.epochs``, at whose end the learning rate is down.
            progress: wraps the range of steps, as ``tqdm`` does.
            after_step: called after every step; may save ``state_dict()``.

        Returns:
            The mean over the groups of every loss, of the accuracies of the critic and of the norms of the gradients.

        Raises:
            ValueError: there is no such epoch, or closeness is asked for and the slots have no prototypes.
            DivergenceError: one of them is NaN or infinite.
        """
        if not 1 <= epoch <= self.config.epochs:
            expected = f"expected 1 to {self.config.epochs}, the epochs of the configuration"
            raise ValueError(f"epoch: {expected}; got {epoch}; for more, make a Trainer with more epochs")
        self.loss.check_prototypes()  # which may come after the trainer was made
        if epoch != self.epoch:
            self._go_to(epoch)
        self.generator.train()
        set_learning_rate(self.generator_optimizer, self.config.learning_rate, epoch, self.config)
        if self.critic is not None:
            set_learning_rate(self.critic_optimizer, self.config.critic_learning_rate, epoch, self.config)
        plan = self._plan(epoch)
        with self.clock.watching("w_solver", self.generator.w_head):
            for step in progress(range(self.steps_done, len(plan))):
                with self.clock.part("data"):
                    batches = [plan.batch(*part) for part in plan.slices(step)]
                values = self.step(batches)
                self.steps_done = step + 1
                self.log.add(epoch, self.steps_done, plan.size(step), values)
                after_step()
        self.log.flush(epoch)
        means = self.log.means()
        self._go_to(epoch + 1)
        return means

    def step(self, batches: list[Batch]) -> Log:
        """One step of the critic, then one of the generator, each on the gradients of all the batches together."""
        # One forward pass serves both; of several batches every graph would have to be kept until the critic is done.
        result = self._factorize(batches[0]) if len(batches) == 1 else None
        log: Log = {}
        if self.critic is not None:
            with self.clock.part("critic"):
                self._critic_step(batches, result, log)
        self._generator_step(batches, result, log)
        if self.ema is not None:
            self.ema.update_parameters(self.generator)
        return log

    def _critic_step(self, batches: list[Batch], result: Factorization | None, log: Log) -> None:
        for batch in batches:
            with self._critic.accumulating(last=batch is batches[-1]):
                with torch.no_grad():
                    fakes = (result or self._factorize(batch)).Y_hat.detach()
                reals = pca_disturbance(batch.Y, self.pca_rank, batch.prepared.get("leading"))
                candidates = torch.cat((reals, fakes))  # (2B, n, m)
                real_logits, fake_logits = self._critic(candidates, batch.Y.repeat(2, 1, 1)).chunk(2)
                loss = critic_loss(real_logits, fake_logits, batch.flipped)
                self._critic.backward(loss, batch.share)
            _report(log, batch, "critic_loss", loss)
            _report(log, batch, "critic_accuracy_real", accuracy(real_logits, real=True))
            _report(log, batch, "critic_accuracy_fake", accuracy(fake_logits, real=False))
        log["critic_gradient_norm"] = self._critic.step()

    def _generator_step(self, batches: list[Batch], result: Factorization | None, log: Log) -> None:
        for batch in batches:
            with self._generator.accumulating(last=batch is batches[-1]), self._judging():
                H, _, Y_hat = result or self._factorize(batch)
                reconstruction = self.loss.reconstruction(Y_hat, batch)
                _report(log, batch, "reconstruction_loss", reconstruction)
                penalised = reconstruction
                for name, (weight, penalty) in self.loss.penalties(H, batch).items():
                    _report(log, batch, name, penalty)
                    penalised = penalised + weight * penalty
                loss = self.config.reconstruction_weight * penalised
                if self.critic is not None:
                    adversarial = adversarial_loss(self._critic.alone(Y_hat, batch.Y), self.config.adversarial_form)
                    loss = loss + adversarial
                    _report(log, batch, "adversarial_loss", adversarial)
                self._generator.backward(loss, batch.share)
        log["generator_gradient_norm"] = self._generator.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values; every process has to call it.

        Raises:
            DivergenceError: a loss or a gradient was not finite: such a state is not worth keeping.
        """
        from accelerate.utils import gather_object

        self.log.flush(self.epoch)
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        position = {"epoch": self.epoch - 1, "step": self.steps_done, "groups_per_step": self.groups_per_step}
        return {**position, **parts, "random": gather_object([random_state()])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state; KeyError, RuntimeError or ValueError where it belongs to other models or other steps."""
        if state["groups_per_step"] != self.groups_per_step:
            raise ValueError(
                f"batch_size: expected {state['groups_per_step']} groups a step, as before: batch_size × accumulate × "
                f"processes; got {self.config.batch_size} × {self.config.accumulate} × {self.accelerator.num_processes}"
                " (change --batch-size, --accumulate or the number of processes)"
            )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.epoch, self.steps_done = state["epoch"] + 1, state["step"]
        if self.accelerator.process_index < len(state["random"]):
            set_random_state(state["random"][self.accelerator.process_index])

    def _parts(self) -> dict[str, Any]:
        """Whatever has a state, under its name in a checkpoint."""
        parts = {
            "generator": self.generator,
            "critic": self.critic,
            "generator_optimizer": self.generator_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "ema": self.ema,
            "scaler": self.accelerator.scaler,
            "log": self.log,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(
            self.sampler,
            epoch,
            self.config,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            device=self.device,
            prepare=None if looking_is_free(self.device) else self._ahead,
        )

    @torch.no_grad()
    def _ahead(self, Y: Tensor) -> Prepared:
        """What the CPU finds out about groups Y (G, n, m) better than an accelerator, ahead of their steps."""
        prepared = self.loss.prepare(Y)
        if self.critic is not None:
            prepared["leading"] = leading_components(Y, self.pca_rank)
        if self.generator.start is not None:
            prepared["H0"], prepared["W0"] = self.generator.start.factors(Y)
        return prepared

    def _factorize(self, batch: Batch) -> Factorization:
        if self.generator.start is None:
            return self._generator(batch.Y)
        known = batch.prepared
        if "H0" not in known:  # the loss may ask for it, too
            known["H0"], known["W0"] = self.generator.start.factors(batch.Y)
        return self._generator(batch.Y, (known["H0"], known["W0"]))

    @property
    def groups_per_step(self) -> int:
        """Groups in a whole step, all processes and accumulated batches together."""
        return self.config.batch_size * self.config.accumulate * self.accelerator.num_processes

    def _go_to(self, epoch: int) -> None:
        self.epoch, self.steps_done = epoch, 0
        self.log = StepLog(self.accelerator)

    @contextmanager
    def _judging(self) -> Iterator[None]:
        """The critic judges but does not learn: gradients for it would be computed for nothing."""
        if self.critic is None:
            yield
            return
        with self.clock.watching("critic", self.critic):
            self.critic.requires_grad_(False)
            try:
                yield
            finally:
                self.critic.requires_grad_(True)


def _report(log: Log, batch: Batch, name: str, value: Tensor) -> None:
    """Add what this batch contributes to the mean of a value over the step."""
    log[name] = log.get(name, 0.0) + batch.share * value.detach()
