"""``NNSAE``: an autoencoder with one matrix of weights, learnt online, sample by sample."""

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.learning import finite
from diffnmf.checks import check_count, check_number
from diffnmf.factorization.sample_arrays import array_of


class NNSAE(Autoencoder):
    """The non-negative sparse autoencoder: tied weights, a delta rule with asymmetric decay, and intrinsic plasticity.

    A sample x becomes codes h = 1/(1 + exp(−a ⊙ g − b)) with g = Wᵀx, and these W h. After each sample

        W ← W + η (x − W h) hᵀ / (ε + ‖h‖²),   w ← (1 − α) w where w < 0,   w ← (1 − β) w where w > 0
        Δb = η_ip (1 − (2 + 1/μ) h + h²/μ),    Δa = η_ip / a + g ⊙ Δb

    The decay takes negative weights back: at once for α = 1, which is a projection, and partly for α < 1, the soft
    case, which leaves small negative ones. Intrinsic plasticity makes the codes of each unit nearly exponentially
    distributed with mean μ: seldom active, and strongly then.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Sources: Lemme, Reinhart, Steil, "Efficient online learning of a non-negative sparse autoencoder", ESANN 2010, and
    "Online learning and generalization of parts-based image representations by non-negative sparse autoencoders",
    Neural Networks 33 (2012); the plasticity of Triesch 2005. Ours: the order of samples, which is drawn anew in every
    epoch, and that the slopes a do not fall below √η_ip, where their own step would throw them about.

    The steps follow each other in NumPy on the CPU, some 20 to 60 µs each. Codes are in (0, 1), so that a sample
    should not be larger than what a few units can say: the authors scale bars of height 1 by 1/4.

    Arguments:
        in_features, k, seed: as for ``Autoencoder``. Samples are ≥ 0.
        learning_rate: η, > 0.
        regularisation: ε, > 0.
        negative_decay: α in (0, 1].
        positive_decay: β in [0, 1).
        mean_activity: μ in (0, 1).
        plasticity_rate: η_ip, > 0.
        epochs: int ≥ 0.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import NNSAE
        >>> X = torch.rand(50, 64)
        >>> model = NNSAE(64, 5, epochs=3).fit(X).partial_fit(X)  # one pass more, over samples as they come
        >>> model.components_.shape, bool((model.components_ >= 0).all())
        (torch.Size([5, 64]), True)
    """

    by_gradient = False
    in_half = True

    def __init__(
        self,
        in_features: int,
        k: int,
        *,
        learning_rate: float = 0.01,
        regularisation: float = 2e-4,
        negative_decay: float = 1.0,
        positive_decay: float = 0.0,
        mean_activity: float = 0.2,
        plasticity_rate: float = 1e-3,
        epochs: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__(in_features, k, seed=seed)
        self.learning_rate = check_number("learning_rate", learning_rate, "(0, inf)")
        self.regularisation = check_number("regularisation", regularisation, "(0, inf)")
        self.negative_decay = check_number("negative_decay", negative_decay, "(0, 1]")
        self.positive_decay = check_number("positive_decay", positive_decay, "[0, 1)")
        self.mean_activity = check_number("mean_activity", mean_activity, "(0, 1)")
        self.plasticity_rate = check_number("plasticity_rate", plasticity_rate, "(0, inf)")
        self.epochs = check_count("epochs", epochs)
        # No gradient reaches them: the rules above are no descent of one loss.
        self.weight = nn.Parameter(torch.empty(self.in_features, self.k), requires_grad=False)
        self.slope = nn.Parameter(torch.empty(self.k), requires_grad=False)
        self.offset = nn.Parameter(torch.empty(self.k), requires_grad=False)
        self._reset(torch.Generator().manual_seed(self.seed))

    def partial_fit(self, X: Any) -> Self:
        """Go on learning from samples (N, in_features), one after the other in the order in which they come.

        Raises:
            TypeError, ValueError: as ``fit``.
            DivergenceError: the loss became NaN or infinite; the weights are those before.
        """
        rows = self._rows(X).detach()
        self.losses_.append(self._pass(array_of(rows), np.arange(len(rows)), "this pass"))
        return self

    def _reset(self, generator: torch.Generator) -> None:
        self.weight.copy_(0.0125 + 0.05 * torch.rand(self.weight.shape, generator=generator, device="cpu"))
        self.slope.fill_(1.0)
        self.offset.fill_(-3.0)

    def _learn(self, X: Tensor, generator: torch.Generator) -> None:
        samples = array_of(X)
        for epoch in range(self.epochs):
            order = torch.randperm(len(X), generator=generator, device="cpu").numpy()
            self.losses_.append(self._pass(samples, order, f"epoch {epoch}"))

    @np.errstate(over="ignore", invalid="ignore")  # what comes of it is an error
    def _pass(self, samples: np.ndarray, order: np.ndarray, when: str) -> float:
        """Learn from each of the samples (N, n) in this order; the mean of ½‖x − Wh‖² as it was before each step."""
        from scipy.linalg import get_blas_funcs  # scipy takes a moment to import
        from scipy.special import expit

        state = (self.weight, self.slope, self.offset)
        W, a, b = (array_of(parameter).copy(order="F") for parameter in state)
        add_outer = get_blas_funcs("ger", (W,))  # W + c x yᵀ in the memory of W: half the time of a step is this sum
        rate, floor = self.plasticity_rate, math.sqrt(self.plasticity_rate)
        linear, square = rate * (2 + 1 / self.mean_activity), rate / self.mean_activity
        total = 0.0
        for i in order:
            x = samples[i]
            g = x @ W  # (k,)
            h = expit(a * g + b)
            difference = x - W @ h  # (n,)
            total += float(difference @ difference) / 2
            W = add_outer(self.learning_rate / (self.regularisation + h @ h), difference, h, a=W, overwrite_a=1)
            self._decay(W)
            db = rate - h * (linear - square * h)
            b += db
            a += rate / a + g * db
            np.maximum(a, floor, out=a)
        mean = finite(total / max(len(order), 1), when)
        for parameter, value in zip(state, (W, a, b), strict=True):
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        return mean

    def _decay(self, W: np.ndarray) -> None:
        if self.positive_decay > 0:
            W -= self.positive_decay * np.maximum(W, 0)
        if self.negative_decay == 1:
            np.maximum(W, 0, out=W)
        else:
            W -= self.negative_decay * np.minimum(W, 0)

    def _encode(self, X: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * (X @ self.weight) + self.offset)

    def _decode(self, codes: Tensor) -> Tensor:
        return codes @ self.weight.mT

    def _components(self) -> Tensor:
        return self.weight.mT
