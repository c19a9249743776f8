"""``NonNegativeAutoencoder``: NMF as a network, for the Kullback-Leibler divergence."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.learning import train_in_batches
from diffnmf.autoencoders.units import register_size, size_of
from diffnmf.checks import check_count, check_number


class NonNegativeAutoencoder(Autoencoder):
    """codes = softplus(X E), samples = codes D with D = softplus(V): non-negative without a constraint on E and V.

    The loss is the mean over the samples of KL(x ‖ x̂) + l1 Σ codes, with KL(x ‖ x̂) = Σ x log(x/x̂) − x + x̂. The
    encoder may subtract, so that a code is small where another part says the same. Components sum to 1: without that,
    a model escapes l1 by scaling them up. ``fit`` keeps the largest entry of its samples as ``size``, the unit in which
    E sees samples and gives codes, so that no scale of the samples matters. ``separate`` takes mixtures apart with
    several of them.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Source: Smaragdis and Venkataramani, "A neural network alternative to non-negative audio models", ICASSP 2017, for
    magnitude spectra. Theirs: softplus after both layers, a dictionary of any sign. Ours: the dictionary itself goes
    through softplus and the output does not, so that x̂ is a sum of parts, as NMF has it; the sums; Adam.

    Arguments:
        in_features, k, seed: as for ``Autoencoder``. Samples are ≥ 0.
        l1: of the codes, ≥ 0, in units of the mass of a sample.
        learning_rate: of Adam for V, > 0. Large: an entry of V has far to go until softplus is nearly zero.
        encoder_learning_rate: of Adam for E, > 0. A faster encoder settles before there are parts.
        epochs, batch_size: int ≥ 0, int ≥ 1.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import NonNegativeAutoencoder
        >>> X = torch.rand(50, 64)
        >>> model = NonNegativeAutoencoder(64, 5, l1=0.1, epochs=2).fit(X)
        >>> bool((model.encode(X) >= 0).all()), bool((model.components_ >= 0).all())
        (True, True)
    """

    def __init__(
        self,
        in_features: int,
        k: int,
        *,
        l1: float = 0.0,
        learning_rate: float = 0.1,
        encoder_learning_rate: float = 3e-3,
        epochs: int = 20,
        batch_size: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(in_features, k, seed=seed)
        self.l1 = check_number("l1", l1)
        self.learning_rate = check_number("learning_rate", learning_rate, "(0, inf)")
        self.encoder_learning_rate = check_number("encoder_learning_rate", encoder_learning_rate, "(0, inf)")
        self.epochs = check_count("epochs", epochs)
        self.batch_size = check_count("batch_size", batch_size, at_least=1)
        self.encoder = nn.Parameter(torch.empty(self.in_features, self.k))
        self.dictionary = nn.Parameter(torch.empty(self.k, self.in_features))  # V
        self.size: Tensor
        register_size(self)
        with torch.no_grad():
            self._reset(torch.Generator().manual_seed(self.seed))

    def _reset(self, generator: torch.Generator) -> None:
        self.encoder.copy_(torch.randn(self.encoder.shape, generator=generator, device="cpu") / self.in_features**0.5)
        self.dictionary.copy_(torch.randn(self.dictionary.shape, generator=generator, device="cpu"))

    def _learn(self, X: Tensor, generator: torch.Generator) -> None:
        self.size.copy_(size_of(X))
        optimizer = torch.optim.Adam(
            [
                {"params": [self.dictionary], "lr": self.learning_rate},
                {"params": [self.encoder], "lr": self.encoder_learning_rate},
            ]
        )
        losses = train_in_batches(
            self._loss, X / self.size, [optimizer], generator, epochs=self.epochs, batch_size=self.batch_size
        )
        self.losses_ = [loss * self.size.item() for loss in losses]  # in the units of X

    def _loss(self, X: Tensor) -> Tensor:
        codes = F.softplus(X @ self.encoder)
        return (kl_divergence(X, self._decode(codes)) + self.l1 * codes.sum(dim=1)).mean()

    def _encode(self, X: Tensor) -> Tensor:
        return self.size * F.softplus((X / self.size) @ self.encoder)

    def _decode(self, codes: Tensor) -> Tensor:
        return codes @ self._components()

    def _components(self) -> Tensor:
        return F.normalize(F.softplus(self.dictionary), p=1, dim=1)


def kl_divergence(X: Tensor, X_hat: Tensor) -> Tensor:
    """Σ x log(x/x̂) − x + x̂ for each row: (N, n) and (N, n) ≥ 0 to (N,) ≥ 0.

    x̂ counts as at least the rounding of 1, so that a zero of it costs much and not infinitely much.
    """
    X_hat = X_hat.clamp(min=torch.finfo(X_hat.dtype).eps)
    return (torch.xlogy(X, X) - X * X_hat.log() - X + X_hat).sum(dim=1)
