"""A trained model from the outside: load it, factorise groups of images, save it."""

from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from diffnmf.checks import check_count, check_tensor
from diffnmf.factorization import factorize
from diffnmf.files import explained_errors, replacing_together
from diffnmf.layers import NNLSLayer
from diffnmf.models.evaluation_mode import evaluation_mode
from diffnmf.models.generator import Factorization, Generator
from diffnmf.models.generator_config import GeneratorConfig
from diffnmf.models.pretrained import pretrained_config, pretrained_state
from diffnmf.models.saved_model import check_no_run, load_config, load_weights, save_config, save_weights
from diffnmf.solvers.norms import safe_norm, with_unit_columns

BATCH = 32  # groups that go through the network at once on the CPU
# Elsewhere as many as have about so many pixels an image together: an accelerator needs more of them to be busy.
BATCH_PIXELS = 2**19
PIXEL_ROUNDING = 1e-2  # above 1, of pixels that were scaled in half precision


class GANUNMF(nn.Module):
    """GAN-UNET as a factoriser: Y ≈ H W in one forward pass, without iterations over H.

    It is made by a ``GeneratorConfig``, ``GANUNMF(config)``, or by what makes one, as in the example: ``image_shape``,
    ``m``, ``k``, ... in the order of its fields or by their names.

    Raises:
        TypeError, ValueError: as ``GeneratorConfig``.

    Source: the GAN-UNET paper (docs/architecture.md has its citation).

    Example:
        >>> import torch
        >>> from diffnmf.models import GANUNMF
        >>> model = GANUNMF(image_shape=(8, 8), m=6, k=3, width=8)
        >>> H, W, Y_hat = model.factorize(torch.rand(64, 6))
        >>> H.shape, W.shape
        (torch.Size([64, 3]), torch.Size([3, 6]))
    """

    @overload
    def __init__(self, config: GeneratorConfig, /) -> None: ...

    @overload
    def __init__(self, image_shape: tuple[int, int], m: int, *options: Any, **more_options: Any) -> None: ...

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        self.config = _config_of(*args, **options)
        self.generator = Generator(self.config)

    def forward(self, Y: Tensor) -> Factorization:
        """Y (B, n, m), pixels in [0, 1], to H (B, n, k), W (B, k, m) and Y_hat (B, n, m), with gradients."""
        return self.generator(Y)

    @torch.no_grad()
    def factorize(self, Y: Tensor, *, refine: int = 0) -> Factorization:
        """Factorise groups of images, in evaluation mode and without gradients; from any number of threads.

        Arguments:
            Y: (n, m) or (*batch, n, m), floating, pixels in [0, 1]: the columns are images flattened row by row.
            refine: rounds of HALS on top of the prediction, an int ≥ 0, under a bound (``upper``) of exact half-steps:
                they lower the error, and lead away from what the model has learnt beside it. They see the squared error
                alone.

        Returns:
            H (*batch, n, k), W (*batch, k, m) and Y_hat (*batch, n, m), of the device and dtype of the model.

        Raises:
            TypeError, ValueError: Y is not a dense floating tensor, not of the shape that the model was made for, or
                not of finite pixels in [0, 1].
        """
        refine = check_count("refine", refine)
        of_model, groups = next(self.parameters()), self._checked(Y)
        groups = groups.flatten(0, -3) if groups.ndim > 2 else groups[None]  # (B, n, m)
        with evaluation_mode(self):
            results = [
                self._factorized(part.to(of_model), refine) for part in groups.split(self._batch_size(of_model.device))
            ]
        parts = (torch.cat(part) for part in zip(*results, strict=True))
        return Factorization(*(part.reshape(*Y.shape[:-2], *part.shape[-2:]) for part in parts))

    def _batch_size(self, device: torch.device) -> int:
        height, width = self.config.image_shape
        return BATCH if device.type == "cpu" else max(BATCH, BATCH_PIXELS // (height * width))

    def _factorized(self, Y: Tensor, refine: int) -> Factorization:
        result = self.generator(Y)
        if refine == 0:
            return result
        if self.config.upper is not None:
            return self._refined_within(self.config.upper, Y, result, refine)
        H, W, *_ = factorize(Y, self.config.k, H0=result.H, W0=result.W, max_iter=refine, tol=0.0)
        if self.config.unit_norm:
            length = safe_norm(H, dim=-2).to(W.dtype)
            H, W = with_unit_columns(H), W * length.unsqueeze(-1)
        return Factorization(H, W, H @ W)

    def _refined_within(self, upper: float, Y: Tensor, best: Factorization, rounds: int) -> Factorization:
        """H and W in turn at the minimum with entries up to ``upper``; of each group the best of all rounds.

        Columns of H at unit norm may ask for more of W than it may have: then a round can raise the error.
        """
        solve, W, least = NNLSLayer(upper=upper), best.W, torch.linalg.vector_norm(Y - best.Y_hat, dim=(1, 2))
        for _ in range(rounds):
            H = solve(W.mT, Y.mT).mT
            H = with_unit_columns(H) if self.config.unit_norm else H
            W = solve(H, Y)
            found = Factorization(H, W, H @ W)
            error = torch.linalg.vector_norm(Y - found.Y_hat, dim=(1, 2))
            better, least = (error < least)[:, None, None], torch.minimum(error, least)
            best = Factorization(*(torch.where(better, new, old) for new, old in zip(found, best, strict=True)))
        return best

    def save(self, path: str | Path) -> None:
        """Write the folder ``path``: model.yaml in plain text, and generator.safetensors.

        Raises:
            RunFolderError: ``path`` holds a training run, or cannot be written to; what is there stays as it is.
        """
        path = Path(path)
        check_no_run(path)
        with explained_errors(path), replacing_together(path) as unfinished:
            save_config(self.config, unfinished)
            save_weights(self.generator.state_dict(), unfinished / "generator.safetensors")

    @classmethod
    def load(cls, path: str | Path, *, weights: str | None = None, device: torch.device | str = "cpu") -> "GANUNMF":
        """Read a folder that ``save`` or a training run has written, in the dtype that it was in.

        Arguments:
            path: the folder.
            weights: of a training run: "best" (lowest test error), "generator" (after the last epoch) or "ema" (their
                moving average); by default the first of these that is there.
            device: where the model is put.

        Raises:
            RunFolderError: something is missing, damaged, or does not fit the rest; names the file.
            ValueError: ``weights`` is unknown.
        """
        model = cls(load_config(Path(path)))
        load_weights(model.generator, Path(path), weights)
        return model.to(device).eval()

    @classmethod
    def pretrained(cls, name: str, *, device: torch.device | str = "cpu") -> "GANUNMF":
        """A trained model that comes with the library; ``diffnmf.models.pretrained.registry()`` says what they are.

        Arguments:
            name: "digits-k16", "mnist-k10", "mnist-k30" or "fashion-k30".
            device: where the model is put.

        Raises:
            TypeError, ValueError: no model has that name, or it comes without weights; the message lists those that
                have some.
            RunFolderError: its file is missing or damaged.

        Example:
            >>> import torch
            >>> from diffnmf.models import GANUNMF
            >>> model = GANUNMF.pretrained("digits-k16")
            >>> model.factorize(torch.rand(64, 40)).H.shape  # 40 images of 8×8
            torch.Size([64, 16])
        """
        model = cls(pretrained_config(name))
        model.generator.load_state_dict(pretrained_state(name))
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


def _config_of(*args: Any, **options: Any) -> GeneratorConfig:
    """The configuration that the arguments are, or make."""
    if not (args and isinstance(args[0], GeneratorConfig)):
        return GeneratorConfig(*args, **options)
    config, *others = args
    if others or options:
        raise TypeError(
            f"config: expected it alone; got {', '.join([*map(repr, others), *options])} beside it "
            "(use dataclasses.replace to change it)"
        )
    return config
