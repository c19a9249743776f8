"""The systems that learn a dictionary, by their names on the command line and in tables."""

from diffnmf.autoencoders.base import Autoencoder
from diffnmf.autoencoders.constrained import ExponentiatedGradientAutoencoder, ProjectedAutoencoder
from diffnmf.autoencoders.deep_nmf import DeepNMF
from diffnmf.autoencoders.ncae import NCAE
from diffnmf.autoencoders.nnsae import NNSAE
from diffnmf.autoencoders.non_negative import NonNegativeAutoencoder
from diffnmf.autoencoders.unfolded import UnfoldedNMF

AUTOENCODERS: dict[str, type[Autoencoder]] = {
    "ncae": NCAE,
    "nnsae": NNSAE,
    "projected": ProjectedAutoencoder,
    "exponentiated_gradient": ExponentiatedGradientAutoencoder,
    "non_negative": NonNegativeAutoencoder,
    "unfolded": UnfoldedNMF,
    "deep_nmf": DeepNMF,
}
