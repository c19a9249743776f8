"""Method "anls": alternating non-negative least squares."""

from dataclasses import dataclass

from torch import Tensor

from diffnmf.checks import check_count, check_flag, set_fields
from diffnmf.factorization.alternating import AlternatingMethod, FactorState
from diffnmf.factorization.exact_weights import exact_weights
from diffnmf.factorization.half_step import HalfStep, Quadratic
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.factorization.revival import revive_
from diffnmf.factorization.weighted_half_step import WeightedHalfStep
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import ProjectedGradient


@dataclass(frozen=True)
class ANLS(AlternatingMethod):
    """Each factor at its exact optimum in turn, by the library's own non-negative least squares from a warm start.

    Choose it where every iteration should count: fewer of them than any other method needs, each at a higher price.
    The error never increases, and every limit point is stationary.

    Options:
        steps: gradient steps before the exact finish, an int ≥ 0. From the last iterate a few find the support.
        revive: as in ``HALS``. A component that no column of Y uses once would otherwise never be used again: from some
            random starts one or two of 30 on MNIST.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Source: Kim and Park (2008), Nonnegative matrix factorization based on alternating nonnegativity constrained least
    squares and active set method.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import ANLS, factorize
        >>> Y = torch.rand(30, 20).double()
        >>> errors = factorize(Y, 3, method=ANLS(steps=5), init="random", max_iter=5, tol=0.0).errors
        >>> bool((errors.diff() < 0).all())
        True
    """

    steps: int = 10
    revive: bool = True

    def __post_init__(self) -> None:
        set_fields(self, steps=check_count("steps", self.steps), revive=check_flag("revive", self.revive))

    def update(self, half: Quadratic | WeightedHalfStep, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        solver = ProjectedGradient(max_iter=self.steps)
        penalties = half.penalties.arguments
        if isinstance(half, HalfStep | WeightedHalfStep):
            H, Y, V = half.other.mT, half.target, half.weights if isinstance(half, WeightedHalfStep) else None
            X.copy_(exact_weights(H, Y, weights=V, W0=X, solver=solver, **penalties))
        else:
            layer = NNLSLayer(solver, backward="detached", **penalties)
            X.copy_(layer.solve_gram(half.A, half.C, W0=X))

    @property
    def takes(self) -> frozenset[str]:
        return frozenset({"weights", "sparse", "fixed", "parts"})

    @property
    def balances(self) -> bool:
        return True

    @property
    def revives(self) -> bool:
        return self.revive

    def revive_dead(self, problem: NMFProblem, iterate: FactorState) -> None:
        if self.revive and not problem.penalized:
            revive_(problem, iterate.W, iterate.Ht)
