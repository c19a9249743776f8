"""The learning rate over the epochs: constant, then a linear decay."""

from typing import Any

from diffnmf.training.config import TrainingConfig


def learning_rate_factor(epoch: int, config: TrainingConfig) -> float:
    """1 for the constant share of the epochs, then a linear decay; by the number of the epoch, from 1, alone.

    The last epoch of n decaying ones still has 1/(n + 1) of the full rate.
    """
    left = (config.epochs + 1 - epoch) / (config.epochs + 1 - config.constant_share * config.epochs)
    return max(0.0, min(1.0, left))


def set_learning_rate(optimizer: Any, full_rate: float, epoch: int, config: TrainingConfig) -> None:
    """Give every parameter of an optimiser the learning rate of an epoch."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_factor(epoch, config) * full_rate
