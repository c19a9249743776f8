"""The networks: U-Net, W-heads, generator, critic, and GANUNMF, the trained model from the outside.

Example:
    >>> import torch
    >>> from diffnmf.models import GANUNMF, W_SOLVERS
    >>> "unrolled" in W_SOLVERS, "fc" in W_SOLVERS
    (True, True)
    >>> Y = torch.rand(2, 64, 6)
    >>> for w_solver in ("unrolled", "fc"):
    ...     GANUNMF((8, 8), m=6, k=3, width=8, w_solver=w_solver)(Y).W.shape
    torch.Size([2, 3, 6])
    torch.Size([2, 3, 6])
"""

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
