"""The networks: U-Net, W-heads, generator and critic."""

from diffnmf.models.critic import Critic
from diffnmf.models.generator import Factorization, Generator
from diffnmf.models.unet import UNet
from diffnmf.models.w_heads import W_SOLVERS, FullyConnectedWeights, NNLSWeights, make_w_head

__all__ = [
    "W_SOLVERS",
    "Critic",
    "Factorization",
    "FullyConnectedWeights",
    "Generator",
    "NNLSWeights",
    "UNet",
    "make_w_head",
]
