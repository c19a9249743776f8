"""The training loop that the systems share: mini-batches in random order, one step of an optimiser each."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffnmf.errors import DivergenceError


def train_in_batches(
    loss_of: Callable[[Tensor], Tensor],
    X: Tensor,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    epochs: int,
    batch_size: int,
) -> list[float]:
    """Reduce a loss over epochs: every sample once in each, in an order that is drawn anew.

    Arguments:
        loss_of: a batch (B, n) to a number, the mean over its samples.
        X: (N, n).
        optimizer: of the weights that the loss depends on.
        generator: of the order, on the CPU.
        epochs: int ≥ 0.
        batch_size: samples a step; the last batch of an epoch may be smaller.

    Returns:
        The mean loss over the samples of each epoch, as it was before each step.

    Raises:
        DivergenceError: the loss became NaN or infinite; the weights are those before that step.
    """
    means = []
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(X), generator=generator).split(batch_size):
            loss = loss_of(X[chosen.to(X.device)])
            optimizer.zero_grad()
            loss.backward()
            total += len(chosen) * finite(loss.item(), f"epoch {epoch}")
            optimizer.step()
        means.append(total / len(X))
    return means


def finite(loss: float, when: str) -> float:
    """The loss itself.

    Raises:
        DivergenceError: it is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise DivergenceError(f"loss: became {loss} in {when} (use a lower learning_rate, or scale X down)")
    return loss
