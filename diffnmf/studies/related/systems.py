"""The rows of the table: every system that learns a dictionary, and NMF, PCA and k-means beside them.

A row more is a function here and a line in ``SYSTEMS``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffnmf.autoencoders import AUTOENCODERS, Autoencoder
from diffnmf.factorization import factorize
from diffnmf.layers import NNLSLayer

Rows = Callable[[Tensor], Tensor]  # (N, a) to (N, b)


@dataclass(frozen=True, eq=False)
class Learnt:
    """A system that has learnt.

    Attributes:
        encode: samples (N, n) to codes (N, k).
        decode: codes (N, k) to samples (N, n).
        components: (k, n).
        weights: those that should be non-negative, each of any shape.
    """

    encode: Rows
    decode: Rows
    components: Tensor
    weights: list[Tensor]


@dataclass(frozen=True)
class System:
    """A row.

    Attributes:
        label: what it is called in the table.
        options: what makes it what it is; results of other options are not taken for its own.
        learn: X (N, n), k, seed and the options to the system that has learnt.
    """

    label: str
    options: dict[str, Any]
    learn: Callable[..., Learnt]

    def fit(self, X: Tensor, k: int, seed: int) -> Learnt:
        """Learn k components from samples X (N, n) in [0, 1]."""
        return self.learn(X, k, seed, **self.options)


def learnt(model: Autoencoder) -> Learnt:
    """What an autoencoder that has been fitted looks like from here."""
    return Learnt(model.encode, model.decode, model.components_, model.weights_meant_non_negative())


def _nmf(X: Tensor, k: int, seed: int, *, max_iter: int) -> Learnt:
    """HALS; unit components, and codes by exact NNLS."""
    H = F.normalize(factorize(X.mT, k, seed=seed, max_iter=max_iter, tol=0.0).H, dim=0)  # (n, k)
    layer = NNLSLayer(backward="detached")
    return Learnt(lambda rows: layer(H, rows.mT).mT, lambda codes: codes @ H.mT, H.mT, [H])


def _pca(X: Tensor, k: int, seed: int) -> Learnt:
    mean = X.mean(dim=0)
    centred = (X - mean).double()
    vectors = torch.linalg.eigh(centred.mT @ centred).eigenvectors.to(X)[:, -k:].flip(1)  # (n, k), largest first
    return Learnt(lambda rows: (rows - mean) @ vectors, lambda codes: codes @ vectors.mT + mean, vectors.mT, [vectors])


def _k_means(X: Tensor, k: int, seed: int) -> Learnt:
    """A sample becomes the centre next to it: its code is 1 there and 0 elsewhere."""
    from sklearn.cluster import KMeans  # takes a second to import

    found = KMeans(k, n_init=1, random_state=seed).fit(X.cpu().numpy())
    # Means of samples ≥ 0, which rounding may leave a little below zero.
    centres = torch.from_numpy(found.cluster_centers_).clamp(min=0).to(X)  # (k, n)

    def encode(rows: Tensor) -> Tensor:
        return F.one_hot(torch.cdist(rows, centres).argmin(dim=1), k).to(rows)

    return Learnt(encode, lambda codes: codes @ centres, centres, [centres])


def _autoencoder(name: str) -> Callable[..., Learnt]:
    def learn(X: Tensor, k: int, seed: int, **options: Any) -> Learnt:
        return learnt(AUTOENCODERS[name](X.shape[1], k, seed=seed, **options).to(X).fit(X))

    return learn


SYSTEMS: dict[str, System] = {
    "nmf": System("NMF, NNLS codes", {"max_iter": 50}, _nmf),
    "ncae": System("NCAE", {"max_iter": 400}, _autoencoder("ncae")),
    "nnsae": System("NNSAE", {"epochs": 10}, _autoencoder("nnsae")),
    "projected": System("projected weights", {"epochs": 60}, _autoencoder("projected")),
    "exponentiated_gradient": System("exponentiated gradient", {"epochs": 60}, _autoencoder("exponentiated_gradient")),
    "non_negative": System("non-negative autoencoder", {"epochs": 60}, _autoencoder("non_negative")),
    "unfolded": System("unfolded updates", {"epochs": 5}, _autoencoder("unfolded")),
    "deep_nmf": System("deep NMF", {"epochs": 10}, _autoencoder("deep_nmf")),
    "pca": System("PCA", {}, _pca),
    "k_means": System("k-means", {}, _k_means),
}
