"""The generator of GAN-UNET: a group in, its factorisation out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.layers import NNLSLayer
from diffnmf.models.blocks import check_image_shape, check_positive
from diffnmf.models.mixture import ImageMixtures
from diffnmf.models.unet import UNet
from diffnmf.models.w_heads import FULLY_CONNECTED, make_w_head
from diffnmf.solvers import NNLSSolver


class Factorization(NamedTuple):
    """Y ≈ Y_hat = H @ W, with H (B, n, k) ≥ 0, W (B, k, m) ≥ 0 and Y_hat (B, n, m)."""

    H: Tensor
    W: Tensor
    Y_hat: Tensor


def _spread_columns(head: nn.Conv2d) -> None:
    """Start the columns of H far apart, and on the positive side of their ReLU.

    With PyTorch's own start the columns are nearly equal; NNLS then needs only a few of them, and one that no image
    uses gets no gradient through W: 10 to 18 of 30 stayed unused on MNIST, 0 to 5 from this start.
    """
    # The features that come in, SiLU of normalised ones, have a root mean square of about 0.6.
    nn.init.normal_(head.weight, std=3.0 / 0.6 / head.in_channels**0.5)
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
        mixture: add mixtures of the images of the group to what the U-Net makes, H = ReLU(U-Net(Y) + Y A), with A from
            the bottleneck. Not in the paper.
        normalize_maps: give every map of the U-Net mean 0 and variance 1 before its ReLU, with a learned gain and bias;
            None where "fc" needs it.

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
        width: int = 48,
        depth: int | None = None,
        unit_norm: bool = False,
        mixture: bool = False,
        normalize_maps: bool | None = None,
    ) -> None:
        super().__init__()
        check_image_shape(image_shape)
        check_positive("m", m)
        check_positive("k", k)
        self.image_shape = (image_shape[0], image_shape[1])
        self.m = m
        self.k = k
        self.unit_norm = unit_norm
        # Without NNLS nothing keeps HW bright: black is the best constant for MNIST under the L1 loss, and within a
        # hundred steps every map lies below its ReLU, for ever. A normalised map always has pixels above it.
        if normalize_maps is None:
            normalize_maps = w_solver == FULLY_CONNECTED and not mixture
        self.unet = UNet(m, k, self.image_shape, width, depth, normalize_maps=normalize_maps)
        self.w_head = make_w_head(w_solver, channels=self.unet.bottleneck_channels, k=k, m=m)
        self.mixtures = ImageMixtures(self.unet.bottleneck_channels, k, m) if mixture else None
        if mixture:  # the images are bright and different from the start: the U-Net begins with small corrections
            nn.init.normal_(self.unet.head.weight, std=0.1 / width**0.5)
            nn.init.zeros_(self.unet.head.bias)  # type: ignore[arg-type]
        elif not normalize_maps:  # where a normalisation follows, the size of the weights does not matter
            _spread_columns(self.unet.head)

    def forward(self, Y: Tensor) -> Factorization:
        """Factorise B groups: Y (B, n, m), pixels in [0, 1]."""
        self._check(Y)
        images = Y.mT.unflatten(-1, self.image_shape)  # (B, m, h, w)
        maps, bottleneck = self.unet(images)  # (B, k, h, w), (B, C, h', w')
        # Under autocast the maps are rounded to 16 bits; what is computed from them is not.
        basis = maps.flatten(2).mT.to(Y.dtype)  # (B, n, k)
        if self.mixtures is not None:
            basis = basis + self.mixtures(Y, bottleneck)
        H = torch.relu(basis)
        if self.unit_norm:
            H = F.normalize(H, dim=-2)  # a dead column stays zero
        W = self.w_head(H, Y, bottleneck).to(Y.dtype)  # (B, k, m)
        with torch.autocast(Y.device.type, enabled=False):
            return Factorization(H, W, H @ W)

    def _check(self, Y: Tensor) -> None:
        n = self.image_shape[0] * self.image_shape[1]
        if Y.ndim != 3 or Y.shape[1:] != (n, self.m):
            raise ValueError(
                f"Y: expected (B, n, m) = (B, {n}, {self.m}) for {self.m} images of {self.image_shape[0]}×"
                f"{self.image_shape[1]}; got {tuple(Y.shape)}"
            )
