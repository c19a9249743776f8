"""The solvers by name. What is listed here is public: ``diffnmf.solvers`` exports it."""

from diffnmf.checks import check_instance
from diffnmf.solvers.base import NNLSSolver
from diffnmf.solvers.block_pivoting import BlockPivoting
from diffnmf.solvers.cone_program import ConeProgram
from diffnmf.solvers.coordinate_descent import CoordinateDescent
from diffnmf.solvers.least_squares_hals import LeastSquaresHALS
from diffnmf.solvers.projected_gradient import ProjectedGradient

__all__ = [
    "SOLVERS",
    "BlockPivoting",
    "ConeProgram",
    "CoordinateDescent",
    "LeastSquaresHALS",
    "ProjectedGradient",
    "get_solver",
]

SOLVERS: dict[str, type[NNLSSolver]] = {
    "unrolled": ProjectedGradient,
    "bpp": BlockPivoting,
    "hals": CoordinateDescent,
    "ls_hals": LeastSquaresHALS,
    "cvxpylayer": ConeProgram,
}

_DEFAULTS = {name: cls() for name, cls in SOLVERS.items()}  # frozen: one of each serves everybody


def get_solver(solver: str | NNLSSolver) -> NNLSSolver:
    """The solver of that name with its default options, or the instance itself.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: neither a name nor an instance.

    Example:
        >>> from diffnmf.solvers import BlockPivoting, get_solver
        >>> get_solver("hals")
        CoordinateDescent(max_iter=10, tol=0.0, finish=True)
        >>> get_solver(BlockPivoting(max_iter=5))
        BlockPivoting(max_iter=5)
    """
    default = _DEFAULTS.get(solver) if isinstance(solver, str) else None
    if default is not None and type(default) is SOLVERS[solver]:  # type: ignore[index]
        return default
    return check_instance("solver", solver, NNLSSolver, SOLVERS)  # type: ignore[type-abstract]


def name_of_solver(solver: NNLSSolver) -> str:
    """The name of its class in ``SOLVERS``, or of the class itself where it is not there."""
    return next((name for name, cls in SOLVERS.items() if cls is type(solver)), type(solver).__name__)
