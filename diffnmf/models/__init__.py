"""The networks: U-Net, W-heads, generator, critic, and GANUNMF, the trained model from the outside."""

from diffnmf.models.coder import NNLSCoder
from diffnmf.models.critic import Critic
from diffnmf.models.ganunmf import GANUNMF
from diffnmf.models.generator import Factorization, Generator
from diffnmf.models.generator_config import GeneratorConfig
from diffnmf.models.unet import UNet
from diffnmf.models.w_heads import W_SOLVERS, FullyConnectedWeights, NNLSWeights, make_w_head

__all__ = [
    "GANUNMF",
    "W_SOLVERS",
    "Critic",
    "Factorization",
    "FullyConnectedWeights",
    "Generator",
    "GeneratorConfig",
    "NNLSCoder",
    "NNLSWeights",
    "UNet",
    "make_w_head",
]
