"""Where the weights W come from, given the basis H: an NNLS solver, or a fully connected head."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.errors import unknown_name
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS, NNLSSolver, get_solver

FULLY_CONNECTED = "fc"
W_SOLVERS = (*SOLVERS, FULLY_CONNECTED)


class NNLSWeights(nn.Module):
    """W = argmin ‖Y − HW‖, W ≥ 0: the weights that fit this H best."""

    def __init__(self, layer: NNLSLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, H: Tensor, Y: Tensor, bottleneck: Tensor) -> Tensor:
        """H (B, n, k), Y (B, n, m), the bottleneck (B, C, h', w') is not used; returns W (B, k, m)."""
        return self.layer(H, Y)


class FullyConnectedWeights(nn.Module):
    """The paper's head: bottleneck features through fully connected layers and a ReLU, without looking at H.

    The k·m values of a group are normalised together before the ReLU, with a learned gain and bias per component:
    without it the L1 loss drives all of them below zero, where no gradient brings them back.

    Arguments:
        channels: C of the bottleneck.
        k: components.
        m: columns of a group.
        hidden: width of the hidden layer.
    """

    POOLED = 4  # the bottleneck enters as 4×4 pixels at the most, so that large images do not make a huge layer

    def __init__(self, channels: int, k: int, m: int, hidden: int = 512) -> None:
        super().__init__()
        self.k = k
        self.m = m
        self.layers = nn.Sequential(
            nn.Linear(channels * self.POOLED**2, hidden), nn.SiLU(inplace=True), nn.Linear(hidden, k * m)
        )
        self.norm = nn.GroupNorm(1, k) if k * m > 1 else nn.Identity()

    def forward(self, H: Tensor, Y: Tensor, bottleneck: Tensor) -> Tensor:
        """The bottleneck (B, C, h', w') alone decides; returns W (B, k, m)."""
        features = F.adaptive_avg_pool2d(bottleneck, self.POOLED).flatten(1)  # (B, C·16)
        weights = self.norm(self.layers(features).unflatten(1, (self.k, self.m)))  # (B, k, m)
        # Normalised values are about 1: this brings HW, a sum over k components, into the range of pixels.
        return torch.relu(weights) * (3.0 / self.k)


def make_w_head(w_solver: str | NNLSSolver | NNLSLayer, *, channels: int, k: int, m: int) -> nn.Module:
    """The W-head of that name, or around that solver or layer; called on (H, Y, bottleneck) it returns W (B, k, m).

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: neither a name nor a solver nor a layer.
    """
    if isinstance(w_solver, NNLSLayer):
        return NNLSWeights(w_solver)
    if not isinstance(w_solver, (str, NNLSSolver)):
        raise TypeError(f"w_solver: expected a name, a solver or an NNLSLayer; got {type(w_solver).__name__}")
    if w_solver == FULLY_CONNECTED:
        return FullyConnectedWeights(channels, k, m)
    if isinstance(w_solver, str) and w_solver not in SOLVERS:
        raise unknown_name("w_solver", w_solver, W_SOLVERS)
    solver = get_solver(w_solver)
    # A solver that stops before the solution has no implicit gradient, only that of its own steps.
    return NNLSWeights(NNLSLayer(solver, backward="implicit" if solver.exact else "unrolled"))
