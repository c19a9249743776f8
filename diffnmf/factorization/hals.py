"""Method "hals": hierarchical alternating least squares, accelerated."""

from dataclasses import dataclass

from torch import Tensor

import diffnmf.factorization.momentum as momentum
from diffnmf.factorization.alternating import AlternatingMethod, Iterate
from diffnmf.factorization.half_step import HalfStep
from diffnmf.factorization.problem import Problem
from diffnmf.factorization.revival import revive_
from diffnmf.factorization.sweeps import sweep_
from diffnmf.solvers.options import check_count, check_flag


@dataclass(frozen=True)
class HALS(AlternatingMethod):
    """Coordinate descent over the rows of W and the columns of H, each at its optimum in turn.

    Choose it as the default: the most progress a second. Without extrapolation the error never increases.

    Options:
        sweeps: passes over a factor at the most, an int ≥ 1, while its Gram matrix and its cross product are fresh:
            more than one where they are cheaper than forming those two.
        extrapolate: move each factor a little further in the direction of its last step; how far is chosen for every
            problem by itself (see ``momentum.py``).
        revive: give components that have died another start, from the columns of Y that are fitted worst. Not done
            under penalties, where a dead component may be what is asked for.

    Sources: Cichocki and Phan (2009), see ``sweeps.py``; Gillis and Glineur (2012), Accelerated multiplicative updates
    and hierarchical ALS algorithms for nonnegative matrix factorization, Neural Computation 24(4), for the sweeps.
    """

    sweeps: int = 3
    extrapolate: bool = True
    revive: bool = True

    def __post_init__(self) -> None:
        check_count("sweeps", self.sweeps, at_least=1)
        check_flag("extrapolate", self.extrapolate)
        check_flag("revive", self.revive)

    def begin(self, W: Tensor, Ht: Tensor) -> dict[str, Tensor]:
        return momentum.begin(W, Ht) if self.extrapolate else {}

    def observe(self, objective: Tensor, memory: dict[str, Tensor]) -> None:
        if self.extrapolate:
            momentum.adapt(memory, objective)

    def update(self, half: HalfStep, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        k, p = half.fixed.shape[1:]
        A, C = half.penalized()
        sweep_(A, C, X, max(1, min(self.sweeps, p // k)))  # a sweep costs k / p of forming C
        if self.extrapolate:
            momentum.extrapolate_(X, memory[factor], memory["used"])

    def revive_dead(self, problem: Problem, iterate: Iterate) -> None:
        if self.revive and not problem.penalized:
            revived = revive_(problem, iterate.W, iterate.Ht)
            if self.extrapolate:
                momentum.forget(iterate.memory, iterate.W, iterate.Ht, revived)
