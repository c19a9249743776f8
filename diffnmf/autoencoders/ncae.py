"""``NCAE``: a sparse autoencoder whose negative weights are penalised."""

from typing import Any

import torch
from torch import Tensor

from diffnmf.autoencoders.learning import minimize
from diffnmf.autoencoders.sigmoid import SigmoidAutoencoder, sparse_loss
from diffnmf.checks import check_count, check_number


class NCAE(SigmoidAutoencoder):
    """The non-negativity-constrained autoencoder: sigmoid units, and a quadratic penalty on negative weights.

        1/(2N) ‖X̂ − X‖² + sparsity_weight · Σ_j KL(sparsity ‖ activity of unit j) + penalty/2 · Σ min(0, w)²

    over the weights w of both layers; biases are free. All samples are used at once, by L-BFGS. The penalty pulls a
    negative weight back and leaves positive ones alone, so that weights end up *nearly* non-negative: count what is
    below zero (``weights_meant_non_negative``) before relying on it.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Source: Hosseini-Asl, Zurada, Nasraoui, "Deep learning of part-based representation of data using sparse
    autoencoders with nonnegativity constraints", IEEE Transactions on Neural Networks and Learning Systems 27 (2016),
    whose values for MNIST the defaults are. Ours: the start, and the line search of L-BFGS.

    Arguments:
        in_features, k, seed: as for ``Autoencoder``. Samples are in [0, 1].
        sparsity: the mean activity that each unit should have, in (0, 1).
        sparsity_weight: ≥ 0.
        penalty: of negative weights, ≥ 0.
        max_iter: iterations of L-BFGS, an int ≥ 0.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import NCAE
        >>> X = torch.rand(50, 64)
        >>> model = NCAE(64, 5, penalty=0.1, max_iter=50).fit(X)
        >>> model.encode(X).shape, model.components_.shape
        (torch.Size([50, 5]), torch.Size([5, 64]))
    """

    in_half = True

    def __init__(self, in_features: int, k: int, *, penalty: float = 3e-3, max_iter: int = 400, **options: Any) -> None:
        super().__init__(in_features, k, **options)
        self.penalty = check_number("penalty", penalty)
        self.max_iter = check_count("max_iter", max_iter)

    def _draw(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        return 2 * torch.rand(weight.shape, generator=generator, device="cpu") - 1

    def _learn(self, X: Tensor, generator: torch.Generator) -> None:
        self.losses_ = minimize(lambda: self._loss(X), self._weights(), max_iter=self.max_iter)

    def _loss(self, X: Tensor) -> Tensor:
        W1, b1, W2, b2 = self._weights()
        sparsity, weight = self.sparsity, self.sparsity_weight
        return ncae_loss(X, W1, b1, W2, b2, penalty=self.penalty, sparsity=sparsity, sparsity_weight=weight)


def ncae_loss(
    X: Tensor,
    W1: Tensor,
    b1: Tensor,
    W2: Tensor,
    b2: Tensor,
    *,
    penalty: float = 3e-3,
    sparsity: float = 0.05,
    sparsity_weight: float = 3.0,
) -> Tensor:
    """The loss of ``NCAE`` as a function of its weights: X (N, n), W₁ (k, n), b₁ (k,), W₂ (n, k), b₂ (n,).

    Arguments:
        X: samples in [0, 1].
        W1, b1, W2, b2: of the encoder and the decoder.
        penalty, sparsity, sparsity_weight: as for ``NCAE``.

    Returns:
        A scalar, differentiable.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import ncae_loss
        >>> X, W = torch.rand(50, 16), torch.full((3, 16), -1.0)
        >>> weights = W, torch.zeros(3), W.T, torch.zeros(16)
        >>> ncae_loss(X, *weights, penalty=1.0) - ncae_loss(X, *weights, penalty=0.0)  # half of 96 weights of -1
        tensor(48.)
    """
    loss = sparse_loss(X, W1, b1, W2, b2, sparsity=sparsity, sparsity_weight=sparsity_weight)
    return loss + penalty * (negative_energy(W1) + negative_energy(W2))


def negative_energy(weight: Tensor) -> Tensor:
    """½ Σ min(0, w)², whose gradient is w where w is negative and zero elsewhere."""
    return weight.clamp(max=0).square().sum() / 2
