"""The conditional critic: is this a disturbed source, or a reconstruction?"""

import torch
from torch import Tensor, nn

from diffnmf.checks import check_count, check_image_shape
from diffnmf.models.blocks import group_norm, halvings


class Critic(nn.Module):
    """A PatchGAN critic on a group beside its source: 2m channels in, a map of real/fake logits out.

    Arguments:
        image_shape: (h, w) of every image.
        m: images in a group, an int ≥ 1.
        width: channels of the first layer, an int ≥ 1; they double with every halving, up to four times the width.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.

    Source: Isola et al. (2017), Image-to-image translation with conditional adversarial networks; with group
    normalisation in the place of batch normalisation.

    Example:
        >>> import torch
        >>> from diffnmf.models import Critic
        >>> critic = Critic((8, 8), m=6, width=8)
        >>> Y, Y_hat = torch.rand(2, 64, 6), torch.rand(2, 64, 6)
        >>> critic(Y_hat, Y).shape  # (B, 1, h', w')
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, image_shape: tuple[int, int], m: int, width: int) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        m = check_count("m", m, at_least=1)
        width = check_count("width", width, at_least=1)
        layers: list[nn.Module] = [nn.Conv2d(2 * m, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        channels = width
        for level in range(halvings(self.image_shape)):
            wider = width * min(2 ** (level + 1), 4)
            layers += [
                nn.Conv2d(channels, wider, 4, stride=2, padding=1, bias=False),
                group_norm(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, candidate: Tensor, Y: Tensor) -> Tensor:
        """Logits (B, 1, h', w'), positive for real: candidate and source Y, both (B, n, m)."""
        pair = torch.cat((candidate, Y), dim=-1)  # (B, n, 2m)
        return self.layers(pair.mT.unflatten(-1, self.image_shape))  # from (B, 2m, h, w)
