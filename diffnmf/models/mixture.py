"""A skip that offers the U-Net mixtures of the input images."""

import torch
from torch import Tensor, nn

from diffnmf.models.blocks import bottleneck_mlp
from diffnmf.solvers.devices import without_autocast


class ImageMixtures(nn.Module):
    """Y A: every column of H begins as a mixture of the images of its group, with weights from the bottleneck.

    A (m, k) has non-negative columns that sum to 1, so that a mixture keeps the range of a pixel. Column j leans
    towards image j mod m at first: from equal mixtures all columns would be the mean image, which NNLS needs only once.

    Arguments:
        channels: C of the bottleneck.
        k: components.
        m: columns of a group.
    """

    LEAN = 4.0  # the logit of a column's own image at the start: 0.58 of the mixture for 40 images

    def __init__(self, channels: int, k: int, m: int) -> None:
        super().__init__()
        self.k = k
        self.m = m
        self.layers = bottleneck_mlp(channels, m * k)
        own = self.LEAN * (torch.arange(m)[:, None] == torch.arange(k) % m)  # (m, k)
        last = self.layers[-1]
        with torch.no_grad():
            last.bias.copy_(own.flatten())  # type: ignore[operator]

    def forward(self, Y: Tensor, bottleneck: Tensor) -> Tensor:
        """Y (B, n, m) and the bottleneck (B, C, h', w') to mixtures (B, n, k)."""
        logits = self.layers(bottleneck).to(Y.dtype).unflatten(1, (self.m, self.k))  # (B, m, k)
        with without_autocast(Y.device):  # it would round the images to 16 bits
            return Y @ logits.softmax(dim=1)
