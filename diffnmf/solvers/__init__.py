"""Non-negative least squares on batches of tensors: the solvers, their registry and the front door ``nnls``.

Example:
    >>> import torch
    >>> from diffnmf.solvers import SOLVERS, nnls
    >>> list(SOLVERS)
    ['unrolled', 'bpp', 'hals', 'ls_hals', 'cvxpylayer']
    >>> H, Y = torch.rand(20, 5), torch.rand(20, 8)
    >>> torch.allclose(nnls(H, Y, solver="bpp").W, nnls(H, Y, solver="hals").W, atol=1e-4)
    True
"""

from diffnmf.kernels import kernel
from diffnmf.solvers import registry
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.iterative import FirstOrderSolver
from diffnmf.solvers.largest_l1 import largest_useful_l1
from diffnmf.solvers.nnls import nnls, nnls_gram
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.registry import *  # noqa: F403 (a new solver is named in its file and in the registry alone)
from diffnmf.solvers.solution import NNLSSolution

__all__ = [
    "FirstOrderSolver",
    "GramForm",
    "NNLSSolution",
    "NNLSSolver",
    "Problem",
    "Solved",
    "kernel",
    "largest_useful_l1",
    "nnls",
    "nnls_gram",
]
__all__ += registry.__all__
