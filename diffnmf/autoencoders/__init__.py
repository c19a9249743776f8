"""Systems of the related work that learn non-negative parts from rows of samples, all with one face."""

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.deep_nmf import DeepNMF

__all__ = ["Autoencoder", "DeepNMF"]
