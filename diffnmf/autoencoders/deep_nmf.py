"""``DeepNMF``: a stack of exact NNLS layers, learnt end to end; parts that are made of parts."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.learning import minimize, train_in_batches
from diffnmf.autoencoders.linear import unset_linear
from diffnmf.autoencoders.samples import labels_of
from diffnmf.checks import check_count, check_counts, check_number, check_optional_count
from diffnmf.factorization.sample_arrays import in_kind
from diffnmf.layers import NNLSLayer
from diffnmf.models import NNLSCoder
from diffnmf.solvers.norms import one_where_zero, safe_norm

CODES = NNLSLayer(rows=True)
HEAD_STEPS = 100  # of L-BFGS: the head alone is a convex problem


def level_errors(X: Tensor, dictionaries: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """‖X − S_l A_l ⋯ A₀‖² on every level, with exact codes S_l: the work of a step, differentiable in everything.

    X is met once, in C = XA₀ᵀ; all that follows has the size of the codes, because
    ‖X − SP‖² = ‖X‖² − 2⟨XPᵀ, S⟩ + ⟨SPPᵀ, S⟩, and XPᵀ comes from C. The sums are formed in float64; where the codes say
    X but for rounding, what they leave is zero, not less.

    Arguments:
        X: (N, n).
        dictionaries: A₀ (k₀, n) ≥ 0, A₁ (k₁, k₀) ≥ 0, ..., their rows the parts of a level.

    Returns:
        The errors (levels,), float64, and the codes of the last level, (N, k).
    """
    first, *others = dictionaries
    G, C = (first @ first.mT).double(), X @ first.mT  # (k₀, k₀), (N, k₀)
    codes = CODES.solve_gram(G.to(C), C)
    size, C = safe_norm(X, dim=(0, 1)).square(), C.double()
    errors = [_error(size, G, C, codes)]
    for A in others:
        codes = CODES(A.mT, codes)
        A = A.double()
        G, C = A @ G @ A.mT, C @ A.mT
        errors.append(_error(size, G, C, codes))
    return torch.stack(errors), codes


def _error(size: Tensor, G: Tensor, C: Tensor, codes: Tensor) -> Tensor:
    S = codes.double()
    return (size + ((S @ G - 2 * C) * S).sum()).clamp(min=0)


class DeepNMF(Autoencoder):
    """X ≈ S₀A₀, S₀ ≈ S₁A₁, ...: the codes of each level are the samples of the next, all of them exact.

    S₀ = argmin ‖X − SA₀‖, S₁ = argmin ‖S₀ − SA₁‖, ..., each over S ≥ 0. Reduced is the mean over the levels of

        ‖X − S_l A_l ⋯ A₁A₀‖² / ‖X‖²   (+ label_weight · cross-entropy of a linear head on the last codes)

    over all A ≥ 0 together: the gradient passes through every NNLS problem, by its optimality conditions. So the fine
    parts know what the coarse ones are made of them for. Learning begins at NMF level by level, and at the head that is
    best for its codes.

    Arguments:
        in_features: n, the length of a sample.
        k: components of the coarsest level, whose codes ``encode`` gives.
        hidden: those of the levels before it, from fine to coarse; None for one level of 2k.
        classes: labels are 0, ..., classes − 1; None for no head.
        label_weight: > 0, of the cross-entropy.
        epochs: passes over the samples, an int ≥ 0; 0 leaves NMF level by level.
        batch_size: samples a step, an int ≥ 1.
        learning_rate: of Adam, > 0. The rows of each A have length one.
        seed: of the random starts and of the order of the samples.

    Attributes:
        losses_: the loss in each epoch.
        coders: an ``NNLSCoder`` for each level.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Sources: Flenner, Hunter (2017), A deep non-negative matrix factorization neural network. Gao, Haddock, Molitor,
    Needell, Sadovnik, Will, Zhang (2019), Neural nonnegative matrix factorization for hierarchical multilayer topic
    modeling. Theirs are the stack, the gradient through the NNLS problems and the linear head. Ours are the loss on
    every level (that of the last alone says nothing about A₀ and A₁ but their product), the cross-entropy, Adam on the
    positive parts, rows of length one, and the exact solver in the place of a loop over columns.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import DeepNMF
        >>> X = torch.rand(50, 12)
        >>> model = DeepNMF(12, 3, hidden=(6,), epochs=2).fit(X)
        >>> model.encode(X).shape, model.level_components(0).shape, model.components_.shape
        (torch.Size([50, 3]), torch.Size([6, 12]), torch.Size([3, 12]))
    """

    def __init__(
        self,
        in_features: int,
        k: int,
        *,
        hidden: Sequence[int] | None = None,
        classes: int | None = None,
        label_weight: float = 1.0,
        epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(in_features, k, seed=seed)
        finer = (2 * self.k,) if hidden is None else check_counts("hidden", hidden, at_least=1)
        self.sizes = (*finer, self.k)
        self.classes = check_optional_count("classes", classes, at_least=2)
        self.label_weight = check_number("label_weight", label_weight, "(0, inf)")
        self.epochs = check_count("epochs", epochs)
        self.batch_size = check_count("batch_size", batch_size, at_least=1)
        self.learning_rate = check_number("learning_rate", learning_rate, "(0, inf)")
        lengths = (self.in_features, *self.sizes)
        pairs = zip(lengths, self.sizes, strict=False)
        self.coders = nn.ModuleList(NNLSCoder(*pair, seed=self.seed) for pair in pairs)
        self.head = None if self.classes is None else unset_linear(self.k, self.classes)
        self._labels: Tensor | None = None
        with torch.no_grad():
            self._reset(torch.Generator().manual_seed(self.seed))

    def fit(self, X: Any, labels: Any = None) -> Self:
        """As ``Autoencoder.fit``, from as many samples at least as a level has components.

        Arguments:
            X: (N, in_features) ≥ 0, N ≥ k and every number of ``hidden``: NMF level by level needs them.
            labels: with ``classes``, those of all samples (N,), integers.
        """
        with torch.inference_mode(False):
            count = len(self._rows(X))
            self._labels = self._checked_labels(labels, count)
        if 0 < count < max(self.sizes):
            raise ValueError(
                f"X: expected at least {max(self.sizes)} samples, as many as the largest level has components; got "
                f"{count} (lower hidden, now {self.sizes[:-1]}, or k)"
            )
        try:
            return super().fit(X)
        finally:
            self._labels = None

    def encode_levels(self, X: Any) -> list[Any]:
        """The codes of every level, (N, k₀), (N, k₁), ..., of samples (N, in_features)."""
        return [in_kind(codes, X) for codes in self._levels(self._rows(X))]

    def level_components(self, level: int) -> Tensor:
        """The parts of a level, (k_l, in_features), 0 being the finest: A_l ⋯ A₁A₀; a tensor without gradient."""
        return self._composed(self._check_level(level)).detach()

    def level_weights(self, level: int) -> Tensor:
        """A_l, (k_l, k_{l−1}): what the parts of a level ≥ 1 are made of; of level 0, in pixels, (k₀, in_features)."""
        return self._dictionaries()[self._check_level(level)].detach()

    def predict(self, X: Any) -> Any:
        """The labels (N,) of samples (N, in_features), int64.

        Raises:
            ValueError: there is no head.
        """
        if self.head is None:
            raise ValueError("classes: expected how many there are, to predict labels; got None (DeepNMF(classes=10))")
        return in_kind(self.head(self._encode(self._rows(X))).argmax(-1), X)

    def weights_meant_non_negative(self) -> list[Tensor]:
        return [A.detach() for A in self._dictionaries()]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, sizes={self.sizes}, classes={self.classes}"

    def _reset(self, generator: torch.Generator) -> None:
        for coder in self._each():
            coder.weight.copy_(torch.rand(coder.weight.shape, generator=generator, device="cpu"))
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def _learn(self, X: Tensor, generator: torch.Generator) -> None:
        samples = X
        with torch.no_grad():
            for coder in self._each():
                coder.initialize(samples, seed=self.seed)
                samples = coder(samples)
        labels = None if self._labels is None else self._labels.to(X.device)
        if self.head is not None and labels is not None:
            minimize(lambda: self._label_loss(samples, labels), self.head.parameters(), max_iter=HEAD_STEPS)
        size = one_where_zero(safe_norm(X, dim=(0, 1)).square() / len(X))
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)

        def loss_of(chosen: Tensor) -> Tensor:
            return self._loss(X[chosen], None if labels is None else labels[chosen], size)

        # Batches of places, not of rows: a label in the dtype of a sample would be rounded.
        places = torch.arange(len(X), device=X.device)
        options = {"epochs": self.epochs, "batch_size": self.batch_size}
        self.losses_ = train_in_batches(loss_of, places, [optimizer], generator, **options)

    def _loss(self, X: Tensor, labels: Tensor | None, size: Tensor) -> Tensor:
        """Of samples (B, n) and their labels (B,), if any; ``size`` is the mean of ‖x‖² over all samples."""
        errors, codes = level_errors(X, self._dictionaries())
        loss = errors.mean() / (len(X) * size)
        if labels is None:
            return loss
        return loss + self.label_weight * self._label_loss(codes, labels)

    def _label_loss(self, codes: Tensor, labels: Tensor) -> Tensor:
        assert self.head is not None
        return cross_entropy(self.head(codes), labels)

    def _levels(self, X: Tensor) -> list[Tensor]:
        levels = []
        for coder in self.coders:
            X = coder(X)
            levels.append(X)
        return levels

    def _encode(self, X: Tensor) -> Tensor:
        return self._levels(X)[-1]

    def _decode(self, codes: Tensor) -> Tensor:
        return codes @ self._components()

    def _components(self) -> Tensor:
        return self._composed(len(self.sizes) - 1)

    def _composed(self, level: int) -> Tensor:
        """A_l ⋯ A₁A₀, (k_l, n)."""
        product, *others = self._dictionaries()[: level + 1]
        for A in others:
            product = A @ product
        return product

    def _dictionaries(self) -> list[Tensor]:
        """Every A, (k_l, k_{l−1}), differentiable."""
        return [coder.dictionary.mT for coder in self._each()]

    def _each(self) -> list[NNLSCoder]:
        return [coder for coder in self.coders if isinstance(coder, NNLSCoder)]

    def _check_level(self, level: int) -> int:
        level = check_count("level", level)
        if level >= len(self.sizes):
            raise ValueError(
                f"level: expected less than {len(self.sizes)}, the number of levels; got {level} (0 is the finest)"
            )
        return level

    def _checked_labels(self, labels: Any, count: int) -> Tensor | None:
        if (labels is None) != (self.classes is None):
            needed = "labels with classes, and none without"
            raise ValueError(
                f"labels: expected {needed}; got labels {type(labels).__name__}, classes {self.classes} (give both)"
            )
        if labels is None or self.classes is None:
            return None
        return labels_of("labels", labels, count, self.classes)
