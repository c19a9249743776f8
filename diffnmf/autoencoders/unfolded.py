"""``UnfoldedNMF``: a fixed number of multiplicative updates as the layers of a network."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.learning import train_in_batches
from diffnmf.autoencoders.projection import keep_non_negative
from diffnmf.autoencoders.samples import rows_of
from diffnmf.autoencoders.units import register_size, size_of
from diffnmf.checks import check_count, check_number
from diffnmf.factorization import factorize
from diffnmf.factorization.sample_arrays import in_kind
from diffnmf.solvers.norms import with_unit_columns

EPSILON = 1e-7  # of a denominator, as Nasser et al. have it


class UnfoldedNMF(Autoencoder):
    """Codes after T multiplicative updates whose matrices are learnt, layer by layer:

        h ← h ⊙ (W₂ x) / (W₁ h + λ₂ h + λ₁)

    Each layer has its own W₁ (k, k), W₂ (k, n), λ₁ and λ₂, all ≥ 0. They begin as W₁ = HᵀH and W₂ = Hᵀ, H being the
    components of an NMF of the samples: then a layer is one step of Lee and Seung, and the error falls from layer to
    layer. Learning (Adam, projected) makes the same number of layers say more. The codes that the first layer is given
    are the constant that fits the sample best. ``fit`` keeps the largest entry of its samples as ``size``, the unit in
    which layers see samples and λ₁ is given, so that no scale of the samples matters.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Sources: Le Roux, Hershey, Weninger, "Deep NMF for speech separation", ICASSP 2015, who unfold the updates and untie
    their matrices; Nasser, Eldar, Sharan, "Deep unfolding for non-negative matrix factorization with application to
    mutational signature analysis", Journal of Computational Biology 29 (2022), whose layer this is. Ours: the start,
    the loss ½‖x − H h‖² with an H that learns too (theirs is trained on known codes, or with H found by NNLS), and
    the matrices for layers of their own in both cases.

    Arguments:
        in_features, k, seed: as for ``Autoencoder``. Samples are ≥ 0.
        layers: T, an int ≥ 1.
        l1, l2: what λ₁ and λ₂ begin with, ≥ 0; λ₁ in units of ``size``.
        learning_rate: of Adam, > 0. The components that learning begins with have length one.
        epochs, batch_size: int ≥ 0, int ≥ 1.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import UnfoldedNMF
        >>> X = torch.rand(50, 64)
        >>> model = UnfoldedNMF(64, 5, layers=4, epochs=2).fit(X)
        >>> model.encode(X).shape, len(model.codes_by_layer(X))
        (torch.Size([50, 5]), 5)
        >>> H = model.components_
        >>> lee_and_seung = UnfoldedNMF(64, 5, layers=4).begin_with(H)  # the same depth, unlearnt
    """

    def __init__(
        self,
        in_features: int,
        k: int,
        *,
        layers: int = 5,
        l1: float = 0.0,
        l2: float = 0.0,
        learning_rate: float = 1e-3,
        epochs: int = 10,
        batch_size: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(in_features, k, seed=seed)
        self.layers = check_count("layers", layers, at_least=1)
        self.l1, self.l2 = check_number("l1", l1), check_number("l2", l2)
        self.learning_rate = check_number("learning_rate", learning_rate, "(0, inf)")
        self.epochs = check_count("epochs", epochs)
        self.batch_size = check_count("batch_size", batch_size, at_least=1)
        self.dictionary = nn.Parameter(torch.empty(self.k, self.in_features))  # Hᵀ
        self.W1 = nn.Parameter(torch.empty(self.layers, self.k, self.k))
        self.W2 = nn.Parameter(torch.empty(self.layers, self.k, self.in_features))
        self.penalties = nn.Parameter(torch.empty(self.layers, 2))  # λ₁ and λ₂
        self.size: Tensor
        register_size(self)
        with torch.no_grad():
            self._reset(torch.Generator().manual_seed(self.seed))

    @torch.no_grad()
    def begin_with(self, components: Tensor) -> Self:
        """Take components (k, in_features) ≥ 0, and make every layer a step of Lee and Seung for them.

        Raises:
            TypeError, ValueError: they are no such matrix.
        """
        rows = rows_of("components", components, self.in_features, self._like, "[0, inf)")
        if len(rows) != self.k:
            raise ValueError(f"components: expected {self.k} rows; got {len(rows)} (choose or add some)")
        self.dictionary.copy_(rows)
        self.W1.copy_(rows @ rows.mT)  # the same in every layer
        self.W2.copy_(rows)
        self.penalties.copy_(torch.tensor([self.l1, self.l2], device="cpu"))
        return self

    def codes_by_layer(self, X: Any) -> list[Any]:
        """The codes (N, k) before the first layer and after each, for samples (N, in_features): layers + 1 of them."""
        return [in_kind(codes, X) for codes in self._all_codes(self._rows(X))]

    def weights_meant_non_negative(self) -> list[Tensor]:
        """The components and the matrices of all layers."""
        return [self.dictionary.detach(), self.W1.detach(), self.W2.detach()]

    def _reset(self, generator: torch.Generator) -> None:
        self.begin_with(torch.rand(self.dictionary.shape, generator=generator, device="cpu"))

    def _learn(self, X: Tensor, generator: torch.Generator) -> None:
        self.size.copy_(size_of(X))
        # With samples in this unit and unit columns of H one learning rate serves all scales of X.
        H = factorize((X / self.size).mT, self.k, seed=self.seed, max_iter=100, tol=0.0).H  # (n, k)
        self.begin_with(with_unit_columns(H).mT)
        optimizer = torch.optim.Adam(self.parameters(), self.learning_rate)
        keep_non_negative(optimizer, self.parameters())
        losses = train_in_batches(
            self._loss, X / self.size, [optimizer], generator, epochs=self.epochs, batch_size=self.batch_size
        )
        size = self.size.item()
        self.losses_ = [loss * size * size for loss in losses]  # in the units of X; Python's power raises beyond them

    def _loss(self, X: Tensor) -> Tensor:
        return (X - self._decode(self._codes_in_units(X)[-1])).square().sum(dim=1).mean() / 2

    def _all_codes(self, X: Tensor) -> list[Tensor]:
        return [codes * self.size for codes in self._codes_in_units(X / self.size)]

    def _codes_in_units(self, X: Tensor) -> list[Tensor]:
        """The codes of samples that are given in units of ``size``, in these units."""
        sums = self.dictionary.sum(dim=0)  # (n,): what codes of 1 say
        scale = (X @ sums) / (sums.square().sum() + EPSILON)
        codes = [scale.unsqueeze(1).expand(-1, self.k)]
        for W1, W2, (l1, l2) in zip(self.W1, self.W2, self.penalties, strict=True):
            h = codes[-1]
            codes.append(h * (X @ W2.mT) / (h @ W1.mT + l2 * h + l1 + EPSILON))
        return codes

    def _encode(self, X: Tensor) -> Tensor:
        return self._all_codes(X)[-1]

    def _decode(self, codes: Tensor) -> Tensor:
        return codes @ self.dictionary

    def _components(self) -> Tensor:
        return self.dictionary
