"""Sigmoid autoencoders whose weights are never negative: by projection, or by exponentiated gradients."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from diffnmf.autoencoders.exponentiated_gradient import ExponentiatedGradient
from diffnmf.autoencoders.learning import train_in_batches
from diffnmf.autoencoders.projection import keep_non_negative, weight_matrices
from diffnmf.autoencoders.sigmoid import SigmoidAutoencoder
from diffnmf.checks import check_count, check_number


class ConstrainedAutoencoder(SigmoidAutoencoder):
    """The autoencoder of ``NCAE``, its loss without the penalty, with weights that no step makes negative.

    Biases are free, and learn by Adam. They begin where the mean sample activates every unit as much as it should be:
    with weights ≥ 0 and samples ≥ 0 all units would be saturated otherwise.

    Arguments:
        in_features, k, sparsity, sparsity_weight, seed: as for ``SigmoidAutoencoder``. Samples are in [0, 1].
        learning_rate: > 0.
        epochs, batch_size: int ≥ 0, int ≥ 1.
    """

    def __init__(
        self,
        in_features: int,
        k: int,
        *,
        learning_rate: float,
        epochs: int = 20,
        batch_size: int = 100,
        **options: Any,
    ) -> None:
        super().__init__(in_features, k, **options)
        self.learning_rate = check_number("learning_rate", learning_rate, "(0, inf)")
        self.epochs = check_count("epochs", epochs)
        self.batch_size = check_count("batch_size", batch_size, at_least=1)

    def _draw(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(weight.shape, generator=generator, device="cpu")

    def _learn(self, X: Tensor, generator: torch.Generator) -> None:
        with torch.no_grad():
            reached = self.encoder.weight @ X.mean(dim=0)
            self.encoder.bias.copy_(math.log(self.sparsity / (1 - self.sparsity)) - reached)
        self.losses_ = train_in_batches(
            self._loss, X, self._optimizers(), generator, epochs=self.epochs, batch_size=self.batch_size
        )

    @abstractmethod
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Those that keep the weights of both layers ≥ 0, and learn the biases."""


class ProjectedAutoencoder(ConstrainedAutoencoder):
    """A sigmoid autoencoder that learns by Adam, its weights set to max(0, w) after every step.

    Zeros are exact, and no weight is negative: what ``NCAE`` reaches nearly. The projection is that of Chorowski and
    Zurada 2015 (see ``keep_non_negative``), who project the weights of a classifier; the autoencoder around it, Adam
    and the start are ours.

    Arguments:
        in_features, k, sparsity, sparsity_weight, seed: as for ``NCAE``. Samples are in [0, 1].
        learning_rate: of Adam, > 0.
        epochs, batch_size: int ≥ 0, int ≥ 1.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import ProjectedAutoencoder
        >>> model = ProjectedAutoencoder(64, 5, epochs=2).fit(torch.rand(50, 64))
        >>> bool((model.components_ >= 0).all())
        True
    """

    def __init__(self, in_features: int, k: int, *, learning_rate: float = 0.03, **options: Any) -> None:
        super().__init__(in_features, k, learning_rate=learning_rate, **options)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        optimizer = torch.optim.Adam(self.parameters(), self.learning_rate)
        keep_non_negative(optimizer, self)
        return [optimizer]


class ExponentiatedGradientAutoencoder(ConstrainedAutoencoder):
    """A sigmoid autoencoder whose weights learn by exponentiated gradients, and its biases by Adam.

    Weights stay positive, and those that are not needed fall geometrically without reaching zero. The rule is that of
    El Khatib et al. 2018 (see ``ExponentiatedGradient``), who train autoencoders with it; the units, the loss and the
    start, which are those of ``ProjectedAutoencoder``, are ours.

    Arguments:
        learning_rate: of the exponentiated gradients, > 0.
        bias_learning_rate: of Adam, > 0.
        in_features, k, sparsity, sparsity_weight, seed: as for ``NCAE``. Samples are in [0, 1].
        epochs, batch_size: int ≥ 0, int ≥ 1.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import ExponentiatedGradientAutoencoder
        >>> model = ExponentiatedGradientAutoencoder(64, 5, epochs=2).fit(torch.rand(50, 64))
        >>> bool((model.components_ > 0).all())
        True
    """

    def __init__(
        self,
        in_features: int,
        k: int,
        *,
        learning_rate: float = 3.0,
        bias_learning_rate: float = 0.03,
        **options: Any,
    ) -> None:
        super().__init__(in_features, k, learning_rate=learning_rate, **options)
        self.bias_learning_rate = check_number("bias_learning_rate", bias_learning_rate, "(0, inf)")

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        weights, biases = weight_matrices(self), [self.encoder.bias, self.decoder.bias]
        return [
            ExponentiatedGradient(weights, self.learning_rate),
            torch.optim.Adam(biases, self.bias_learning_rate),
        ]
