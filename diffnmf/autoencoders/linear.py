"""Linear layers that begin as their owner says."""

import torch
from torch import nn


def unset_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer whose weights are still to be set: torch's own start would draw from the global generator."""
    device = torch.get_default_device()  # skip_init takes the CPU otherwise
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, in_features, out_features, device=device)
    return layer
