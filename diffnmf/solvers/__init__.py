"""Non-negative least squares on batches of tensors: the solvers, their registry and the front door ``nnls``."""

from diffnmf.solvers.base import NNLSSolver
from diffnmf.solvers.cone_program import ConeProgram
from diffnmf.solvers.front_door import NNLSSolution, nnls
from diffnmf.solvers.projected_gradient import ProjectedGradient
from diffnmf.solvers.registry import SOLVERS

__all__ = ["SOLVERS", "ConeProgram", "NNLSSolution", "NNLSSolver", "ProjectedGradient", "nnls"]
