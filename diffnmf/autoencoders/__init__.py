"""Systems of the related work that learn non-negative parts from rows of samples, all with one face.

Example:
    >>> import torch
    >>> from diffnmf.autoencoders import AUTOENCODERS
    >>> X = torch.rand(40, 16)
    >>> for name in ("projected", "unfolded"):
    ...     AUTOENCODERS[name](16, 3, epochs=2).fit(X).components_.shape
    torch.Size([3, 16])
    torch.Size([3, 16])
"""

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.constrained import ExponentiatedGradientAutoencoder, ProjectedAutoencoder
from diffnmf.autoencoders.deep_nmf import DeepNMF
from diffnmf.autoencoders.exponentiated_gradient import ExponentiatedGradient
from diffnmf.autoencoders.ncae import NCAE, ncae_loss
from diffnmf.autoencoders.ncae_classifier import NCAEClassifier
from diffnmf.autoencoders.nnsae import NNSAE
from diffnmf.autoencoders.non_negative import NonNegativeAutoencoder
from diffnmf.autoencoders.projection import keep_non_negative
from diffnmf.autoencoders.registry import AUTOENCODERS
from diffnmf.autoencoders.separation import separate
from diffnmf.autoencoders.unfolded import UnfoldedNMF

__all__ = [
    "AUTOENCODERS",
    "NCAE",
    "NNSAE",
    "Autoencoder",
    "DeepNMF",
    "ExponentiatedGradient",
    "ExponentiatedGradientAutoencoder",
    "NCAEClassifier",
    "NonNegativeAutoencoder",
    "ProjectedAutoencoder",
    "UnfoldedNMF",
    "keep_non_negative",
    "ncae_loss",
    "separate",
]
