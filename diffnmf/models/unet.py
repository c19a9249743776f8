"""The U-Net that looks at a whole group of images at once."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.checks import check_count, check_image_shape
from diffnmf.models.blocks import check_depth, double_conv, halvings

MAX_WIDENING = 4  # channels double with every halving of the image, up to this factor


class UNet(nn.Module):
    """A U-Net for images of any size: they are padded to a size that can be halved often enough, and cropped again.

    Arguments:
        in_channels: m, the images of a group, an int ≥ 1.
        out_channels: k, an int ≥ 1.
        image_shape: (h, w) in pixels; decides the depth where none is given.
        width: channels at full resolution, an int ≥ 1. The first layers have to carry m images: a width well below m
            loses some.
        depth: how often the image is halved, an int ≥ 0, at most until its longer side is a pixel; by default until its
            shorter side would fall below 4.
        normalize_maps: give every map mean 0 and variance 1 over its pixels, then a learned gain and bias.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.

    Source: Ronneberger, Fischer and Brox (2015), U-Net: convolutional networks for biomedical image segmentation.

    Shapes:
        (B, in_channels, h, w) to maps (B, out_channels, h, w) and the bottleneck (B, C, h', w').

    Example:
        >>> import torch
        >>> from diffnmf.models import UNet
        >>> maps, bottleneck = UNet(6, 3, (9, 12), width=8)(torch.rand(2, 6, 9, 12))
        >>> maps.shape
        torch.Size([2, 3, 9, 12])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_shape: tuple[int, int],
        width: int,
        depth: int | None = None,
        *,
        normalize_maps: bool = False,
    ) -> None:
        super().__init__()
        in_channels = check_count("in_channels", in_channels, at_least=1)
        out_channels = check_count("out_channels", out_channels, at_least=1)
        image_shape = check_image_shape(image_shape)
        width = check_count("width", width, at_least=1)
        depth = halvings(image_shape) if depth is None else check_depth(depth, image_shape)
        self.depth = depth
        channels = [width * min(2**level, MAX_WIDENING) for level in range(depth + 1)]
        self.bottleneck_channels = channels[-1]
        self.encoder = nn.ModuleList(double_conv(*pair) for pair in pairwise([in_channels, *channels]))
        self.upsample = nn.ModuleList(
            # Not a transposed convolution: that leaves a checkerboard in H, most visible on faces.
            nn.Sequential(nn.Conv2d(deep, shallow, 1), nn.Upsample(scale_factor=2, mode="bilinear"))
            for shallow, deep in pairwise(channels)
        )
        self.decoder = nn.ModuleList(double_conv(2 * shallow, shallow) for shallow in channels[:-1])
        self.head = nn.Conv2d(channels[0], out_channels, 1)
        # A single pixel has nothing to be normalised with.
        normalized = normalize_maps and image_shape[0] * image_shape[1] > 1
        self.map_norm = nn.GroupNorm(out_channels, out_channels) if normalized else nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, in_channels, h, w) to maps (B, out_channels, h, w) and the bottleneck (B, C, h', w')."""
        height, width = images.shape[-2:]
        multiple = 2**self.depth
        # (B, m, h, w) to (B, m, H, W), both multiples of 2^depth
        x = F.pad(images, (0, -width % multiple, 0, -height % multiple))
        skips = []
        for level, block in enumerate(self.encoder):
            if level > 0:
                x = F.max_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        bottleneck = skips.pop()
        for level in reversed(range(self.depth)):
            x = self.decoder[level](torch.cat((skips.pop(), self.upsample[level](x)), dim=1))
        maps = self.head(x)[..., :height, :width]
        return self.map_norm(maps), bottleneck
