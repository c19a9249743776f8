"""A trained model from the outside: load it, factorise groups of images, save it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from diffnmf.checks import check_tensor
from diffnmf.errors import RunFolderError, unknown_name
from diffnmf.files import replacing
from diffnmf.layers import NNLSLayer
from diffnmf.models.blocks import check_image_shape, check_positive
from diffnmf.models.generator import Factorization, Generator
from diffnmf.models.w_heads import FULLY_CONNECTED, check_w_options, nnls_layer

CONFIG_FILE = "model.yaml"
WEIGHTS = ("best", "generator", "ema")  # in the order in which ``load`` looks for them
BATCH = 32
PIXEL_ROUNDING = 1e-2  # above 1, of pixels that were scaled in half precision


@dataclass(frozen=True)
class GeneratorConfig:
    """What makes a ``Generator``, in plain values; see ``GANUNMF`` for each."""

    image_shape: tuple[int, int]
    m: int
    k: int
    w_solver: str = "unrolled"
    width: int = 48
    depth: int | None = None
    unit_norm: bool = False
    mixture: bool = False
    w_steps: int | None = None
    w_backward: str | None = None
    l1: float = 0.0
    normalize_maps: bool | None = None

    def __post_init__(self) -> None:
        check_image_shape(self.image_shape)
        for name in ("m", "k", "width"):
            check_positive(name, getattr(self, name))
        check_w_options(self.w_solver, self.w_steps, self.w_backward, self.l1, unit_norm=self.unit_norm)

    def generator(self) -> Generator:
        """A generator with weights drawn from torch's global random numbers."""
        names = ("width", "depth", "unit_norm", "mixture", "normalize_maps")
        options = {name: getattr(self, name) for name in names}
        w_solver: str | NNLSLayer = self.w_solver
        if w_solver != FULLY_CONNECTED:
            w_solver = nnls_layer(self.w_solver, steps=self.w_steps, backward=self.w_backward, l1=self.l1)
        return Generator(self.image_shape, self.m, self.k, w_solver, **options)


class GANUNMF(nn.Module):
    """GAN-UNET as a factoriser: Y ≈ H W in one forward pass, without iterations over H.

    Arguments:
        image_shape: (h, w) of every image; n = h·w.
        m: images in a group.
        k: components.
        w_solver: "fc" or the name of an NNLS solver.
        width: channels of the U-Net at full resolution.
        depth: halvings in the U-Net; by default as many as the images allow.
        unit_norm: scale the columns of H to unit norm.
        mixture: let H begin as mixtures of the images of the group; see ``Generator``.
        w_steps: stop an iterative W-solver after so many steps, without its exact finish.
        w_backward: "implicit", "unrolled" or "detached", of ``NNLSLayer``; by default what fits the solver.
        l1: penalty on the entries of W, ≥ 0; needs ``unit_norm``.
        normalize_maps: as in ``Generator``.

    Example:
        >>> import torch
        >>> from diffnmf.models import GANUNMF
        >>> model = GANUNMF(image_shape=(8, 8), m=6, k=3, width=8)
        >>> H, W, Y_hat = model.factorize(torch.rand(64, 6))
        >>> H.shape, W.shape
        (torch.Size([64, 3]), torch.Size([3, 6]))
    """

    def __init__(
        self,
        image_shape: tuple[int, int],
        m: int,
        k: int,
        w_solver: str = "unrolled",
        *,
        width: int = 48,
        depth: int | None = None,
        unit_norm: bool = False,
        mixture: bool = False,
        w_steps: int | None = None,
        w_backward: str | None = None,
        l1: float = 0.0,
        normalize_maps: bool | None = None,
    ) -> None:
        super().__init__()
        check_image_shape(image_shape)  # before it is made a tuple: lists are welcome
        shape = (image_shape[0], image_shape[1])
        self.config = GeneratorConfig(
            shape, m, k, w_solver, width, depth, unit_norm, mixture, w_steps, w_backward, l1, normalize_maps
        )
        self.generator = self.config.generator()

    def forward(self, Y: Tensor) -> Factorization:
        """Y (B, n, m), pixels in [0, 1], to H (B, n, k), W (B, k, m) and Y_hat (B, n, m), with gradients."""
        return self.generator(Y)

    @torch.no_grad()
    def factorize(self, Y: Tensor) -> Factorization:
        """Factorise groups of images, in evaluation mode and without gradients.

        Arguments:
            Y: (n, m) or (*batch, n, m), floating, pixels in [0, 1]: the columns are images flattened row by row.

        Returns:
            H (*batch, n, k), W (*batch, k, m) and Y_hat (*batch, n, m), on the device of the model.

        Raises:
            TypeError, ValueError: Y is not a dense floating tensor, not of the shape that the model was made for, or
                not of finite pixels in [0, 1].
        """
        device, groups = next(self.parameters()).device, self._checked(Y)
        groups = groups.flatten(0, -3) if groups.ndim > 2 else groups[None]  # (B, n, m)
        was_training = self.training
        self.eval()
        try:
            results = [self.generator(part.to(device, torch.float32)) for part in groups.split(BATCH)]
        finally:
            self.train(was_training)
        parts = (torch.cat(part) for part in zip(*results, strict=True))
        return Factorization(*(part.reshape(*Y.shape[:-2], *part.shape[-2:]) for part in parts))

    def save(self, path: str | Path) -> None:
        """Write the folder ``path``: model.yaml in plain text, and generator.safetensors."""
        save_config(self.config, Path(path))
        save_weights(self.generator.state_dict(), Path(path) / "generator.safetensors")

    @classmethod
    def load(cls, path: str | Path, *, weights: str | None = None, device: torch.device | str = "cpu") -> "GANUNMF":
        """Read a folder that ``save`` or a training run has written.

        Arguments:
            path: the folder.
            weights: of a training run: "best" (lowest test error), "generator" (after the last epoch) or "ema" (their
                moving average); by default the first of these that is there.
            device: where the model is put.

        Raises:
            RunFolderError: something is missing, damaged, or does not fit the rest; names the file.
        """
        folder = Path(path)
        weights = weights or default_weights(folder)
        if weights not in WEIGHTS:
            raise unknown_name("weights", weights, WEIGHTS)
        model = cls(**asdict(load_config(folder)))
        file = folder / f"{weights}.safetensors"
        try:
            model.generator.load_state_dict(safetensors.load_file(file))
        except FileNotFoundError as error:
            raise RunFolderError(f"{file}: expected the weights of a model; there is no such file") from error
        except (OSError, SafetensorError) as error:
            raise RunFolderError(f"{file}: not the weights of a model, or damaged: {error}") from error
        except RuntimeError as error:
            raise RunFolderError(f"{file}: does not fit {folder / CONFIG_FILE}: {error}") from error
        return model.to(device).eval()

    def _checked(self, Y: Tensor) -> Tensor:
        n, m = self.config.image_shape[0] * self.config.image_shape[1], self.config.m
        check_tensor("Y", Y)
        if not Y.is_floating_point():
            raise TypeError(f"Y: expected floating pixels in [0, 1]; got {Y.dtype} (divide by the largest value)")
        if Y.ndim < 2 or Y.shape[-2:] != (n, m):
            raise ValueError(
                f"Y: expected (*batch, n, m) = (*batch, {n}, {m}), columns of {m} images of "
                f"{self.config.image_shape[0]}×{self.config.image_shape[1]}; got {tuple(Y.shape)}"
            )
        if not Y.isfinite().all():
            raise ValueError("Y: expected finite pixels in [0, 1]; got NaN or infinity (remove or replace them)")
        outside = Y[(Y < 0) | (Y > 1 + PIXEL_ROUNDING)]
        if len(outside) > 0:
            raise ValueError(
                f"Y: expected pixels in [0, 1]; got {outside[0]:.3g} (shift and scale them, or clip with Y.clamp(0, 1))"
            )
        return Y


def default_weights(folder: Path) -> str:
    """The best weights that a folder has."""
    return next((name for name in WEIGHTS if (folder / f"{name}.safetensors").exists()), "generator")


def save_config(config: GeneratorConfig, folder: Path) -> None:
    """Write model.yaml."""
    content = {**asdict(config), "image_shape": list(config.image_shape)}  # YAML has no tuples
    with replacing(folder / CONFIG_FILE) as file:
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def load_config(folder: Path) -> GeneratorConfig:
    """Read model.yaml; RunFolderError where it is missing or holds something else."""
    file = folder / CONFIG_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"path: expected the folder of a model; {folder} has no {CONFIG_FILE}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunFolderError(f"{file}: expected the configuration of a model in YAML; {error}") from error
    known = [entry.name for entry in fields(GeneratorConfig)]
    if not isinstance(content, Mapping) or not {"image_shape", "m", "k"} <= content.keys() <= set(known):
        raise RunFolderError(f"{file}: expected the entries {', '.join(known)}; got {content!r}")
    try:
        return GeneratorConfig(**{**content, "image_shape": tuple(content["image_shape"])})
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{file}: {error}") from error


def save_weights(state: dict[str, Tensor], file: Path, metadata: dict[str, Any] | None = None) -> None:
    """Write a state dict as safetensors, as a whole or not at all.

    Arguments:
        state: tensors by name.
        file: its name ends in .safetensors.
        metadata: plain values kept in the header, as text.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    content = safetensors.save(tensors, {name: str(value) for name, value in (metadata or {}).items()} or None)
    with replacing(file) as unfinished:
        unfinished.write_bytes(content)
