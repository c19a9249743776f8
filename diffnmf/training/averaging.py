"""The exponential moving average (EMA) of the weights of the generator."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """A copy of a model whose ``update_parameters`` moves it towards the model by 1 − decay.

    The decay rises to its value, as min(decay, (1 + t)/(10 + t)) after t updates: a full one from the start would leave
    the average of a short run near its random start.

    All weights move in one call, and the number of updates stays where Python can read it: nothing waits for a GPU.

    Arguments:
        model: stays as it is.
        decay: in [0, 1); 0.999 averages over about the last 1000 steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay
        self.eval()

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move towards the weights that the model has now; the first time, take them."""
        averages, weights = ([p.detach() for p in part.parameters()] for part in (self.module, model))
        if self.n_averaged == 0:
            torch._foreach_copy_(averages, weights)
        else:
            step = 1 - torch.clamp((1 + self.n_averaged) / (10 + self.n_averaged), max=self.decay)
            torch._foreach_lerp_(averages, weights, step.item())
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.n_averaged += 1
