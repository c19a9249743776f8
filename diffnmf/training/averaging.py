"""The exponential moving average (EMA) of the weights of the generator."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model whose ``update_parameters`` moves it towards the model by 1 − decay.

    The decay rises to its value, as min(decay, (1 + t)/(10 + t)) after t updates: a full one from the start would leave
    the average of a short run near its random start.

    Arguments:
        model: stays as it is.
        decay: in [0, 1); 0.999 averages over about the last 1000 steps.
    """

    def move(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Any) -> None:
        step = 1 - torch.clamp((1 + updates) / (10 + updates), max=decay)
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, step.to(average))

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(move)).eval()
