"""Systems of the related work that learn non-negative parts from rows of samples, all with one face."""

from diffnmf.autoencoders.base import Autoencoder

__all__ = ["Autoencoder"]
