"""``Autoencoder``: the face that all systems of the related work share, and what is done once for all of them."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diffnmf.autoencoders.learning import check_learnable
from diffnmf.autoencoders.samples import rows_of
from diffnmf.checks import check_count, check_seed
from diffnmf.factorization.sample_arrays import in_kind
from diffnmf.solvers.devices import without_autocast


class Autoencoder(nn.Module, ABC):
    """A dictionary of k components learnt from rows of samples, with a way to codes and a way back.

    ``fit`` learns, ``encode`` and ``decode`` use what was learnt, ``components_`` shows it. A system says how it begins
    (``_reset``), learns (``_learn``), encodes (``_encode``), decodes (``_decode``) and what its components are
    (``_components``); everything else is here.

    Arrays and tensors go in: arrays come back for arrays, tensors for tensors. All work is done in the dtype and on the
    device of the weights, float32 on the CPU unless ``.double()`` or ``.to(device)`` says otherwise, and results have
    that dtype. Inside of ``torch.autocast`` this holds for ``fit`` and ``components_``; ``encode``, ``decode`` and
    ``forward`` are lowered as other layers are. Tensors carry their gradient through ``encode`` and ``decode``.

    Arguments:
        in_features: n, the length of a sample, an int ≥ 1.
        k: components, an int ≥ 1.
        seed: of all that is random in ``fit``, an int ≥ 0 and < 2^64: the same seed and X give the same weights.

    Attributes:
        losses_: what the system reduces, as it was in each epoch or iteration of the last ``fit``; empty before.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Example:
        >>> import numpy as np
        >>> from diffnmf.autoencoders import AUTOENCODERS
        >>> X = np.random.default_rng(0).random((40, 16), dtype=np.float32)
        >>> model = AUTOENCODERS["projected"](16, 3).fit(X)
        >>> codes = model.encode(X)
        >>> type(codes).__name__, codes.shape, model.decode(codes).shape, model.components_.shape
        ('ndarray', (40, 3), (40, 16), torch.Size([3, 16]))
    """

    values: ClassVar[str] = "[0, inf)"  # what a sample may hold, as an interval
    by_gradient: ClassVar[bool] = True  # whether ``fit`` needs the gradients of the weights
    in_half: ClassVar[bool] = False  # whether ``fit`` can be done in float16

    def __init__(self, in_features: int, k: int, *, seed: int = 0) -> None:
        super().__init__()
        self.in_features = check_count("in_features", in_features, at_least=1)
        self.k = check_count("k", k, at_least=1)
        self.seed = check_seed("seed", seed)
        self.losses_: list[float] = []

    def fit(self, X: Any) -> Self:
        """Learn from samples, from new random weights: what an earlier ``fit`` has learnt is forgotten.

        Arguments:
            X: (N, in_features), array or tensor, N ≥ 1; its values as the system says.

        Returns:
            The system itself.

        Raises:
            TypeError, ValueError: X is no such matrix, or the weights cannot learn, being frozen, of float16 or made
                inside of ``torch.inference_mode``; the message says what it is.
            DivergenceError: the loss became NaN or infinite.
        """
        return self._fit(X, torch.Generator().manual_seed(self.seed))

    def _fit(self, X: Any, generator: torch.Generator) -> Self:
        """``fit``, with all that is random drawn from this generator, on the CPU."""
        check_learnable(self, by_gradient=self.by_gradient, in_half=self.in_half)
        with torch.inference_mode(torch.is_inference_mode_enabled() and not self.by_gradient):
            rows = self._rows(X).detach()
            if len(rows) == 0:
                raise ValueError(f"X: expected at least one sample (N, {self.in_features}); got {tuple(rows.shape)}")
            self.losses_ = []
            with torch.no_grad():
                self._reset(generator)
            # Line searches and small steps get lost in the rounding of 16 bits.
            with torch.enable_grad(), without_autocast(rows.device):
                self._learn(rows, generator)
        return self

    def encode(self, X: Any) -> Any:
        """The codes (N, k) of samples (N, in_features).

        Raises:
            TypeError, ValueError: as ``fit``.
        """
        return in_kind(self._encode(self._rows(X)), X)

    def decode(self, codes: Any) -> Any:
        """Samples (N, in_features) from codes (N, k).

        Raises:
            TypeError, ValueError: ``codes`` is no such matrix of finite numbers.
        """
        return in_kind(self._decode(rows_of("codes", codes, self.k, self._like)), codes)

    def forward(self, X: Any) -> Any:
        """The samples (N, in_features) as the system can say them: ``decode(encode(X))``."""
        return in_kind(self._decode(self._encode(self._rows(X))), X)

    @property
    def components_(self) -> Tensor:
        """The parts, (k, in_features): what a code of 1 adds to a sample; a tensor without gradient."""
        with without_autocast(self._like.device):
            return self._components().detach()

    def weights_meant_non_negative(self) -> list[Tensor]:
        """The weights that the system wants non-negative, without gradient; how far it got is for others to count."""
        return [self.components_]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, k={self.k}"

    @property
    def _like(self) -> Tensor:
        """A weight: all have its dtype and device."""
        return next(self.parameters())

    def _rows(self, X: Any) -> Tensor:
        return rows_of("X", X, self.in_features, self._like, self.values)

    @abstractmethod
    def _reset(self, generator: torch.Generator) -> None:
        """Give all weights the random values that learning starts from, in place, drawn on the CPU."""

    @abstractmethod
    def _learn(self, X: Tensor, generator: torch.Generator) -> None:
        """Learn from X (N, in_features), checked, in dtype and on device of the weights; fills ``losses_``."""

    @abstractmethod
    def _encode(self, X: Tensor) -> Tensor:
        """(N, in_features) to (N, k), differentiable."""

    @abstractmethod
    def _decode(self, codes: Tensor) -> Tensor:
        """(N, k) to (N, in_features), differentiable."""

    @abstractmethod
    def _components(self) -> Tensor:
        """(k, in_features)."""
