"""The sparse autoencoder of sigmoid units that three systems share; they differ in what makes weights non-negative."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.linear import unset_linear
from diffnmf.checks import check_number


class SigmoidAutoencoder(Autoencoder):
    """codes = σ(X W₁ᵀ + b₁), samples = σ(codes W₂ᵀ + b₂), with few units active at a time.

    The loss is that of the sparse autoencoder of which Hosseini-Asl, Zurada and Nasraoui 2016 start:

        1/(2N) ‖X̂ − X‖² + sparsity_weight · Σ_j KL(sparsity ‖ mean activity of unit j)

    Arguments:
        in_features, k, seed: as for ``Autoencoder``. Samples are in [0, 1].
        sparsity: the mean activity that each unit should have, in (0, 1).
        sparsity_weight: ≥ 0.
    """

    values = "[0, 1]"

    def __init__(
        self, in_features: int, k: int, *, sparsity: float = 0.05, sparsity_weight: float = 3.0, seed: int = 0
    ) -> None:
        super().__init__(in_features, k, seed=seed)
        self.sparsity = check_number("sparsity", sparsity, "(0, 1)")
        self.sparsity_weight = check_number("sparsity_weight", sparsity_weight)
        self.encoder = unset_linear(self.in_features, self.k)
        self.decoder = unset_linear(self.k, self.in_features)
        with torch.no_grad():
            self._reset(torch.Generator().manual_seed(self.seed))

    def weights_meant_non_negative(self) -> list[Tensor]:
        """Those of both layers: (k, in_features) and (in_features, k)."""
        return [self.encoder.weight.detach(), self.decoder.weight.detach()]

    def _loss(self, X: Tensor) -> Tensor:
        """The loss above for samples (N, in_features)."""
        return sparse_loss(X, *self._weights(), sparsity=self.sparsity, sparsity_weight=self.sparsity_weight)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W₁, b₁, W₂ and b₂."""
        return self.encoder.weight, self.encoder.bias, self.decoder.weight, self.decoder.bias

    def _reset(self, generator: torch.Generator) -> None:
        # Glorot and Bengio's range, as usual for sparse autoencoders; biases begin at zero.
        width = math.sqrt(6 / (self.in_features + self.k + 1))
        for layer in (self.encoder, self.decoder):
            layer.weight.copy_(width * self._draw(layer.weight, generator))
            layer.bias.zero_()

    @abstractmethod
    def _draw(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Random numbers in [−1, 1) of the shape of a weight, as the system begins with them."""

    def _encode(self, X: Tensor) -> Tensor:
        return torch.sigmoid(self.encoder(X))

    def _decode(self, codes: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(codes))

    def _components(self) -> Tensor:
        """What a unit adds before the sigmoid of the output."""
        return self.decoder.weight.mT


def sparse_loss(
    X: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, *, sparsity: float, sparsity_weight: float
) -> Tensor:
    """The loss of ``SigmoidAutoencoder`` as a function of its weights.

    Arguments:
        X: (N, n).
        W1, b1: (k, n) and (k,).
        W2, b2: (n, k) and (n,).
        sparsity, sparsity_weight: as there.
    """
    codes = torch.sigmoid(nn.functional.linear(X, W1, b1))  # (N, k)
    difference = torch.sigmoid(nn.functional.linear(codes, W2, b2)) - X  # (N, n)
    error = difference.square().sum() / (2 * len(X))
    # A unit that is never or always active in float32 must not make the loss infinite.
    tiny = torch.finfo(X.dtype).eps
    active = codes.mean(dim=0).clamp(tiny, 1 - tiny)  # (k,)
    divergence = sparsity * torch.log(sparsity / active) + (1 - sparsity) * torch.log((1 - sparsity) / (1 - active))
    return error + sparsity_weight * divergence.sum()
