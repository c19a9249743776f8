"""Non-negative least squares on batches of tensors: the solvers, their registry and the front door ``nnls``."""

from diffnmf.solvers.base import NNLSSolver
from diffnmf.solvers.block_pivoting import BlockPivoting
from diffnmf.solvers.cone_program import ConeProgram
from diffnmf.solvers.coordinate_descent import CoordinateDescent
from diffnmf.solvers.largest_l1 import largest_useful_l1
from diffnmf.solvers.least_squares_hals import LeastSquaresHALS
from diffnmf.solvers.nnls import NNLSSolution, nnls
from diffnmf.solvers.projected_gradient import ProjectedGradient
from diffnmf.solvers.registry import SOLVERS, get_solver

__all__ = [
    "SOLVERS",
    "BlockPivoting",
    "ConeProgram",
    "CoordinateDescent",
    "LeastSquaresHALS",
    "NNLSSolution",
    "NNLSSolver",
    "ProjectedGradient",
    "get_solver",
    "largest_useful_l1",
    "nnls",
]
