"""The generator of GAN-UNET: a group in, its factorisation out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.layers import NNLSLayer
from diffnmf.models.blocks import check_image_shape, check_positive
from diffnmf.models.unet import UNet
from diffnmf.models.w_heads import FullyConnectedWeights, make_w_head
from diffnmf.solvers import NNLSSolver


class Factorization(NamedTuple):
    """Y ≈ Y_hat = H @ W, with H (B, n, k) ≥ 0, W (B, k, m) ≥ 0 and Y_hat (B, n, m)."""

    H: Tensor
    W: Tensor
    Y_hat: Tensor


# Size of H before its ReLU at the start. NNLS takes any scale; HW of the fully connected head must not start so bright
# that the L1 loss drives H to zero, which black is the best constant for.
SPREAD_NNLS = 3.0
SPREAD_FULLY_CONNECTED = 0.6


def _spread_columns(head: nn.Conv2d, spread: float) -> None:
    """Start the columns of H far apart, and on the positive side of their ReLU.

    With PyTorch's own start the columns are nearly equal; NNLS then needs only a few of them, and one that no image
    uses gets no gradient through W: 10 to 18 of 30 stayed unused on MNIST, 0 to 5 from this start.
    """
    # The features that come in, SiLU of normalised ones, have a root mean square of about 0.6.
    nn.init.normal_(head.weight, std=spread / 0.6 / head.in_channels**0.5)
    nn.init.constant_(head.bias, 0.2)  # type: ignore[arg-type]


class Generator(nn.Module):
    """A U-Net predicts the basis H of a group of images; a W-solver gives the weights W; the reconstruction is H W.

    Arguments:
        image_shape: (h, w) of every image; n = h·w.
        m: images in a group.
        k: components.
        w_solver: "fc", a name of ``diffnmf.solvers.SOLVERS``, a solver, or an ``NNLSLayer`` with its own options.
        width: channels of the U-Net at full resolution.
        depth: halvings in the U-Net; by default as many as the images allow.
        unit_norm: scale the columns of H to unit norm (needed with l1 or ridge, or H escapes the penalty by growing).

    Raises:
        ValueError, TypeError: an argument is out of range or unknown; the message names it.
    """

    def __init__(
        self,
        image_shape: tuple[int, int],
        m: int,
        k: int,
        w_solver: str | NNLSSolver | NNLSLayer = "unrolled",
        *,
        width: int = 96,
        depth: int | None = None,
        unit_norm: bool = False,
    ) -> None:
        super().__init__()
        check_image_shape(image_shape)
        check_positive("m", m)
        check_positive("k", k)
        self.image_shape = (image_shape[0], image_shape[1])
        self.m = m
        self.k = k
        self.unit_norm = unit_norm
        self.unet = UNet(m, k, self.image_shape, width, depth)
        self.w_head = make_w_head(w_solver, channels=self.unet.bottleneck_channels, k=k, m=m)
        fully_connected = isinstance(self.w_head, FullyConnectedWeights)
        _spread_columns(self.unet.head, SPREAD_FULLY_CONNECTED if fully_connected else SPREAD_NNLS)

    def forward(self, Y: Tensor) -> Factorization:
        """Factorise B groups: Y (B, n, m), pixels in [0, 1]."""
        self._check(Y)
        images = Y.mT.unflatten(-1, self.image_shape)  # (B, m, h, w)
        maps, bottleneck = self.unet(images)  # (B, k, h, w), (B, C, h', w')
        H = torch.relu(maps).flatten(2).mT  # (B, n, k)
        if self.unit_norm:
            H = F.normalize(H, dim=-2)  # a dead column stays zero
        W = self.w_head(H, Y, bottleneck)  # (B, k, m)
        return Factorization(H, W, H @ W)

    def _check(self, Y: Tensor) -> None:
        n = self.image_shape[0] * self.image_shape[1]
        if Y.ndim != 3 or Y.shape[1:] != (n, self.m):
            raise ValueError(
                f"Y: expected (B, n, m) = (B, {n}, {self.m}) for {self.m} images of {self.image_shape[0]}×"
                f"{self.image_shape[1]}; got {tuple(Y.shape)}"
            )
