"""The pieces that the U-Net and the critic are made of."""

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.checks import check_count


def group_norm(channels: int) -> nn.Module:
    """Group normalisation with up to 8 groups of at least 4 channels, or fewer groups where channels are few.

    A single value has nothing to be normalised with: several channels a group keep 1×1 images working, and a single
    channel is left as it is.

    Never batch normalisation: its statistics fail on a 1×1 bottleneck, drift between training and evaluation, and
    make a result depend on how many processes share the batch.
    """
    return nn.GroupNorm(math.gcd(8, channels // 4 or 1, channels), channels) if channels > 1 else nn.Identity()


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3×3 convolutions that keep height and width: (B, in_channels, h, w) to (B, out_channels, h, w)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        group_norm(out_channels),
        nn.SiLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        group_norm(out_channels),
        nn.SiLU(inplace=True),
    )


def bottleneck_mlp(channels: int, outputs: int, hidden: int = 512) -> nn.Sequential:
    """Two fully connected layers on the bottleneck of the U-Net: (B, channels, h', w') to (B, outputs).

    The bottleneck enters as 4×4 pixels whatever its size, so that large images do not make a huge layer.
    """
    pooled = 4
    return nn.Sequential(
        AveragePool(pooled),
        nn.Flatten(),
        nn.Linear(channels * pooled**2, hidden),
        nn.SiLU(inplace=True),
        nn.Linear(hidden, outputs),
    )


class AveragePool(nn.Module):
    """``nn.AdaptiveAvgPool2d``, elsewhere than on the CPU as two products, whose gradient is the same every time.

    The gradient of the former adds up in any order on a GPU, and is an error there where ``--deterministic`` asks for
    the same bits.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, size, size)."""
        if x.device.type == "cpu":
            return F.adaptive_avg_pool2d(x, self.size)
        rows, columns = (_averages(length, self.size, x.dtype, x.device) for length in x.shape[-2:])
        return rows @ x @ columns.mT


@cache
@torch.inference_mode(False)  # what is kept may be asked for a gradient later
def _averages(length: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, length): row i takes the mean of the entries ⌊i·length/size⌋ to ⌈(i + 1)·length/size⌉ − 1."""
    first = torch.arange(size, device="cpu") * length // size
    last = -((torch.arange(size, device="cpu") + 1) * -length // size)
    at = torch.arange(length, device="cpu")
    inside = ((at >= first[:, None]) & (at < last[:, None])).to(dtype)
    return (inside / inside.sum(1, keepdim=True)).to(device)


def halvings(image_shape: tuple[int, int]) -> int:
    """How often an image can be halved before its shorter side falls below 4: 8×8 once, 28×28 twice, 64×64 4 times."""
    return max(0, (min(image_shape) // 4).bit_length() - 1)


def check_depth(depth: object, image_shape: tuple[int, int]) -> int:
    """A number of halvings after which the image is a pixel at the least: deeper there is padding alone to halve."""
    count = check_count("depth", depth)
    most = (max(image_shape) - 1).bit_length()
    if count > most:
        height, width = image_shape
        raise ValueError(
            f"depth: expected an int from 0 to {most} for images of {height} × {width}, which are a pixel then; got"
            f" {count} (leave it out: {halvings(image_shape)} is what suits them)"
        )
    return count
