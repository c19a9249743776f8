"""The generator of GAN-UNET: a group in, its factorisation out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from diffnmf.checks import check_same_device, check_tensor
from diffnmf.layers import NNLSLayer
from diffnmf.models.basis_start import BasisStart, Factors
from diffnmf.models.generator_config import GeneratorConfig
from diffnmf.models.mixture import ImageMixtures
from diffnmf.models.slot_head import HINTS, SlotHead
from diffnmf.models.unet import UNet
from diffnmf.models.w_heads import FULLY_CONNECTED, make_w_head, nnls_layer
from diffnmf.solvers import NNLSSolver
from diffnmf.solvers.devices import without_autocast
from diffnmf.solvers.norms import with_unit_columns


class Factorization(NamedTuple):
    """Y ≈ Y_hat = H @ W, with H (B, n, k) ≥ 0, W (B, k, m) ≥ 0 and Y_hat (B, n, m).

    Example:
        >>> import torch
        >>> from diffnmf.models import GANUNMF
        >>> result = GANUNMF(image_shape=(8, 8), m=6, k=3, width=8)(torch.rand(2, 64, 6))
        >>> H, W, Y_hat = result
        >>> torch.equal(result.Y_hat, H @ W)
        True
    """

    H: Tensor
    W: Tensor
    Y_hat: Tensor


# For torch.export.save: a result has to have a name in the file.
_register_namedtuple(Factorization, serialized_type_name="diffnmf.models.Factorization")


def _spread_columns(head: nn.Conv2d) -> None:
    """Start the columns of H far apart, and on the positive side of their ReLU.

    With PyTorch's own start the columns are nearly equal; NNLS then needs only a few of them, and one that no image
    uses gets no gradient through W: 10 to 18 of 30 stayed unused on MNIST, 0 to 5 from this start.
    """
    # The features that come in, SiLU of normalised ones, have a root mean square of about 0.6.
    nn.init.normal_(head.weight, std=3.0 / 0.6 / head.in_channels**0.5)
    nn.init.constant_(head.bias, 0.2)  # type: ignore[arg-type]


def _w_solver_of(config: GeneratorConfig) -> str | NNLSLayer:
    """The name of the head that solves nothing, or the layer of the NNLS solver with its options."""
    if config.w_solver == FULLY_CONNECTED:
        return FULLY_CONNECTED
    return nnls_layer(
        config.w_solver, steps=config.w_steps, backward=config.w_backward, l1=config.l1, upper=config.upper
    )


class Generator(nn.Module):
    """A U-Net predicts the basis H of a group of images; a W-solver gives the weights W; the reconstruction is H W.

    With ``basis_init`` it corrects a classical factorisation, H = ReLU(H₀ + U-Net(Y, H₀)). The last layer is zero at
    the start, so that training begins at the error of that.

    Arguments:
        config: its options.
        w_solver: your own solver, or an ``NNLSLayer`` with options of its own, in the place of the W-solver that
            ``config`` describes.

    Raises:
        TypeError: ``w_solver`` is neither a solver nor a layer.

    Source: the GAN-UNET paper; ``basis_init`` is ours.

    Example:
        >>> import torch
        >>> from diffnmf.models import Generator, GeneratorConfig
        >>> generator = Generator(GeneratorConfig((8, 8), m=6, k=3, width=8))
        >>> Y = torch.rand(2, 64, 6)
        >>> H, W, Y_hat = generator(Y)
        >>> (Y - Y_hat).abs().mean().backward()  # the gradient reaches the U-Net through H and W
        >>> H.shape, W.shape
        (torch.Size([2, 64, 3]), torch.Size([2, 3, 6]))
    """

    def __init__(self, config: GeneratorConfig, w_solver: NNLSSolver | NNLSLayer | None = None) -> None:
        super().__init__()
        self.image_shape = config.image_shape
        self.m = config.m
        self.k = config.k
        self.unit_norm = config.unit_norm
        self.upper = config.upper
        chosen = _w_solver_of(config) if w_solver is None else w_solver
        # Without NNLS nothing keeps HW bright: black is the best constant for MNIST under the L1 loss, and within a
        # hundred steps every map lies below its ReLU, for ever. A normalised map always has pixels above it.
        normalize_maps = config.normalize_maps
        if normalize_maps is None:
            normalize_maps = chosen == FULLY_CONNECTED and not config.mixture and config.basis_init is None
        self.start, self.slot_head = None, None
        sees, says = config.m, config.k  # channels of the U-Net
        if config.basis_init is not None:
            self.start = BasisStart(config.basis_init, config.image_shape[0] * config.image_shape[1], config.k)
            self.slot_head = SlotHead()
            sees, says = config.m + 2 * config.k, HINTS * config.k
        self.unet = UNet(sees, says, config.image_shape, config.width, config.depth, normalize_maps=normalize_maps)
        channels = self.unet.bottleneck_channels
        self.w_head = make_w_head(chosen, channels=channels, k=config.k, m=config.m, corrects=self.start is not None)
        self.mixtures = ImageMixtures(channels, config.k, config.m) if config.mixture else None
        if config.mixture:
            # The images are bright and different from the start: the U-Net begins with small corrections.
            nn.init.normal_(self.unet.head.weight, std=0.1 / config.width**0.5)
            nn.init.zeros_(self.unet.head.bias)  # type: ignore[arg-type]
        elif not normalize_maps and self.start is None:  # a normalisation would take their size away again
            _spread_columns(self.unet.head)

    def forward(self, Y: Tensor, start: Factors | None = None) -> Factorization:
        """Factorise B groups: Y (B, n, m), pixels in [0, 1].

        Arguments:
            Y: the groups.
            start: with ``basis_init``, what ``BasisStart.factors`` has found for them, where it is known already.
        """
        self._check(Y)
        images, W0 = self._images(Y), None  # (B, m, h, w)
        if self.start is None or self.slot_head is None:
            maps, bottleneck = self.unet(images)  # (B, k, h, w), (B, C, h', w')
        else:
            H0, W0, lacks = self.start(Y, start)
            parts = self._images(H0), self._images(lacks)  # (B, k, h, w) each
            hints, bottleneck = self.unet(torch.cat((images, *parts), dim=1))  # (B, HINTS · k, h, w), (B, C, h', w')
            maps = parts[0] + self.slot_head(hints, *parts)  # (B, k, h, w)
        # Under autocast the maps are rounded to 16 bits; what is computed from them is not.
        basis = maps.flatten(2).mT.to(Y.dtype)  # (B, n, k)
        if self.mixtures is not None:
            basis = basis + self.mixtures(Y, bottleneck)
        H = torch.relu(basis)
        if self.upper is not None:
            H = H.clamp(max=self.upper)
        if self.unit_norm:
            if W0 is not None:
                W0 = W0 * torch.linalg.vector_norm(H.detach(), dim=-2).unsqueeze(-1)
            H = with_unit_columns(H)  # a dead column stays zero
        W = self.w_head(H, Y, bottleneck, W0).to(Y.dtype)  # (B, k, m)
        with without_autocast(Y.device):
            return Factorization(H, W, H @ W)

    def set_slots(self, Y: Tensor) -> None:
        """Fix which part each slot of H is for, by training groups Y (G, n, m); nothing without ``basis_init``.

        To be called once, before the first step of the training.
        """
        if self.start is not None:
            self._check(Y)
            self.start.set_prototypes(Y)

    def _images(self, X: Tensor) -> Tensor:
        """Columns as images: (B, n, c) to (B, c, h, w)."""
        return X.mT.contiguous().unflatten(-1, self.image_shape)  # where a view of it is asked for, too

    def _check(self, Y: Tensor) -> None:
        n = self.image_shape[0] * self.image_shape[1]
        check_tensor("Y", Y, f"(B, {n}, {self.m})")
        if Y.ndim != 3 or Y.shape[1:] != (n, self.m):
            raise ValueError(
                f"Y: expected (B, n, m) = (B, {n}, {self.m}) for {self.m} images of {self.image_shape[0]}×"
                f"{self.image_shape[1]}; got {tuple(Y.shape)}"
            )
        if not Y.is_floating_point():
            raise TypeError(f"Y: expected floating pixels in [0, 1]; got {Y.dtype} (divide by the largest value)")
        weight = next(self.parameters())
        check_same_device("Y", Y, "the model", weight.device)
        if Y.dtype != weight.dtype and not torch.is_autocast_enabled(Y.device.type):
            raise TypeError(
                f"Y: expected {weight.dtype}, as the model; got {Y.dtype} (use Y.to({weight.dtype}), or"
                f" model.to({Y.dtype}))"
            )
