"""A training loss reduced group by group, without a network: what any network could reach."""

import torch
from torch import Tensor

from diffnmf.layers import NNLSLayer
from diffnmf.training.losses import reconstruction_loss
from diffnmf.training.penalties import sparsity_penalty

Factors = tuple[Tensor, Tensor]
LEARNING_RATE = 0.01  # of pixels in [0, 1]; falls to zero


def reduce_directly(
    Y: Tensor, H0: Tensor, *, reconstruction: str = "relative", sparsity: float = 0.0, steps: int = 200
) -> Factors:
    """H = ReLU(X) and W = argmin ‖Y − HW‖, W ≥ 0, after steps of Adam on X from H₀.

    The loss is that of the generator, without critic: reconstruction + sparsity (1 − Hoyer sparsity), its gradient
    through the exact W. Every group has its own X, and Adam scales each entry by itself: groups do not see each other.

    Arguments:
        Y: (B, n, m), pixels in [0, 1].
        H0: (B, n, k); its columns are scaled to a maximum of 1.
        reconstruction: as in ``TrainingConfig``.
        sparsity: as in ``TrainingConfig``.
        steps: of Adam, an int ≥ 1.

    Returns:
        H (B, n, k) and W (B, k, m).
    """
    layer = NNLSLayer()
    X = (H0 / H0.amax(dim=-2, keepdim=True).clamp_min(1e-12)).clone().requires_grad_()
    optimizer = torch.optim.Adam([X], LEARNING_RATE, betas=(0.9, 0.99), eps=1e-12)  # losses are means over B groups
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    Y_start = X.detach() @ layer(X.detach(), Y)
    with torch.enable_grad():
        for _ in range(steps):
            H = torch.relu(X)
            loss = reconstruction_loss(H @ layer(H, Y), Y, reconstruction, Y_start) + sparsity * sparsity_penalty(H)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    H = torch.relu(X.detach())
    return H, layer(H, Y)
