"""``NCAEClassifier``: autoencoders stacked greedily, a softmax on top, and fine-tuning of the whole."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.autoencoders.learning import check_learnable, minimize
from diffnmf.autoencoders.linear import unset_linear
from diffnmf.autoencoders.ncae import NCAE, negative_energy
from diffnmf.autoencoders.samples import labels_of, rows_of
from diffnmf.checks import check_count, check_counts, check_number
from diffnmf.factorization.sample_arrays import in_kind
from diffnmf.solvers.devices import without_autocast


class NCAEClassifier(nn.Module):
    """A deep network of non-negativity-constrained autoencoders.

    1. ``NCAE`` learns the first layer from the samples, the next from the codes of the first, and so on (greedy).
    2. A softmax learns the classes from the last codes, its negative weights penalised as those of the layers.
    3. All encoders and the softmax are fine-tuned together: mean cross-entropy + penalty/2 · Σ min(0, w)².

    All by L-BFGS on all samples at once. Source: as ``NCAE``. Ours: in step 3 the penalty acts on the encoders, too,
    and the softmax begins at zero.

    Arguments:
        in_features: n.
        ks: units of each layer, from the samples upwards, ints ≥ 1.
        classes: an int ≥ 2.
        penalty: of negative weights, ≥ 0.
        softmax_iter, tuning_iter: iterations of L-BFGS in steps 2 and 3, ints ≥ 0.
        seed: an int ≥ 0.
        **options: of ``NCAE``, for every layer.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import NCAEClassifier
        >>> X = torch.rand(60, 64)
        >>> model = NCAEClassifier(64, (12, 6), classes=2, max_iter=20).fit(X, X[:, 0] > 0.5)
        >>> model.encode(X).shape, model.predict(X).shape
        (torch.Size([60, 6]), torch.Size([60]))
    """

    def __init__(
        self,
        in_features: int,
        ks: Sequence[int],
        classes: int,
        *,
        penalty: float = 3e-3,
        softmax_iter: int = 100,
        tuning_iter: int = 100,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        ks = check_counts("ks", ks, at_least=1)
        self.penalty = check_number("penalty", penalty)
        self.softmax_iter = check_count("softmax_iter", softmax_iter)
        self.tuning_iter = check_count("tuning_iter", tuning_iter)
        self.layers = nn.ModuleList(
            NCAE(width, k, penalty=penalty, seed=seed, **options)
            for width, k in zip((in_features, *ks[:-1]), ks, strict=True)
        )
        self.seed = self._ncaes()[0].seed
        classes = check_count("classes", classes, at_least=2)
        self.softmax = unset_linear(ks[-1], classes)
        with torch.no_grad():
            generator = self._generator()
            for layer in self._ncaes():
                layer._reset(generator)
        self._clear_softmax()

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from samples (N, in_features) in [0, 1] and their classes (N,), ints from 0 to classes − 1.

        Raises:
            TypeError, ValueError: X or y is not as above, or the weights cannot learn (see ``NCAE``); the message names
                it.
            DivergenceError: a loss became NaN or infinite.
        """
        check_learnable(self)
        with torch.inference_mode(False), torch.enable_grad(), without_autocast(self.softmax.weight.device):
            rows = self._rows(X).detach()
            labels = labels_of("y", y, len(rows), self.softmax.out_features).to(rows.device)
            codes, generator = rows, self._generator()
            for layer in self._ncaes():
                codes = layer._fit(codes, generator).encode(codes).detach()
            self._clear_softmax()
            minimize(lambda: self._softmax_loss(codes, labels), self.softmax.parameters(), max_iter=self.softmax_iter)
            encoders = [weight for layer in self._ncaes() for weight in layer.encoder.parameters()]
            tuned = [*encoders, *self.softmax.parameters()]
            minimize(lambda: self._tuning_loss(rows, labels), tuned, max_iter=self.tuning_iter)
        return self

    def forward(self, X: Any) -> Any:
        """The logits (N, classes) of samples (N, in_features)."""
        return in_kind(self.softmax(self._encode(self._rows(X))), X)

    def encode(self, X: Any) -> Any:
        """The codes (N, ks[-1]) of the last layer."""
        return in_kind(self._encode(self._rows(X)), X)

    def predict(self, X: Any) -> Any:
        """The likeliest class of each sample, (N,)."""
        return self(X).argmax(-1)

    def weights_meant_non_negative(self) -> list[Tensor]:
        """Those of all encoders, (k, width) each, and of the softmax."""
        return [*(layer.encoder.weight.detach() for layer in self._ncaes()), self.softmax.weight.detach()]

    @torch.no_grad()
    def _clear_softmax(self) -> None:
        self.softmax.weight.zero_()
        self.softmax.bias.zero_()

    def _generator(self) -> torch.Generator:
        """One for all layers: with a seed each, those of equal shape would begin with equal weights."""
        return torch.Generator().manual_seed(self.seed)

    def _ncaes(self) -> list[NCAE]:
        return [layer for layer in self.layers if isinstance(layer, NCAE)]

    def _rows(self, X: Any) -> Tensor:
        first = self._ncaes()[0]
        return rows_of("X", X, first.in_features, self.softmax.weight, first.values)

    def _encode(self, X: Tensor) -> Tensor:
        for layer in self._ncaes():
            X = torch.sigmoid(layer.encoder(X))
        return X

    def _softmax_loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.softmax(codes), labels) + self.penalty * negative_energy(self.softmax.weight)

    def _tuning_loss(self, X: Tensor, labels: Tensor) -> Tensor:
        negative = torch.stack([negative_energy(layer.encoder.weight) for layer in self._ncaes()]).sum()
        return self._softmax_loss(self._encode(X), labels) + self.penalty * negative
