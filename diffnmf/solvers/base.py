"""What a solver is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from diffnmf.solvers.problem import Problem

BACKWARDS = ("implicit", "unrolled", "detached")


@dataclass(frozen=True)
class Solved:
    """What a solver returns.

    Attributes:
        W: (B, k, m) in the dtype of the problem, carrying the gradient.
        iterations: (B,) int64, the work that the hardest column of each problem took.
    """

    W: Tensor
    iterations: Tensor


class NNLSSolver(ABC):
    """A way to solve a batch of non-negative least-squares problems

        min_W ½‖Y − HW‖²_F + l1 ΣW + ½ ridge ‖W‖²_F  subject to W ≥ 0

    for W (k, m), given H (n, k) and Y (n, m) of any sign. A solver is a frozen dataclass: its fields are its options,
    checked when it is made, and one instance serves any number of problems. Users reach it through ``diffnmf.nnls``
    or ``NNLSLayer``, by name (see ``SOLVERS``) or as an instance.
    """

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether W is the solution (to ``tolerance``), so that the implicit gradient is right."""

    @property
    @abstractmethod
    def tolerance(self) -> float:
        """The KKT residual that this solver promises; what it does not reach is reported as not converged.

        In units of ‖y‖ and of unit columns of H (see ``kkt_residual``); 0 stands for the rounding of the dtype.
        """

    @abstractmethod
    def solve(self, problem: Problem, backward: str) -> Solved:
        """Solve every problem of the batch.

        Arguments:
            problem: B checked problems in range (finite, see ``ranges.py``), with or without a warm start.
            backward: where the gradient of W comes from.
                "implicit": from the optimality conditions at the solution, by one more small solve.
                "unrolled": from differentiating through the iterations.
                "detached": W is a constant.

        Returns:
            The weights with their gradient. A problem that could not be finished has the best feasible weights found.

        Raises:
            ValueError: this solver cannot give that kind of gradient, and a gradient is needed.
            SolverError: a third-party solver gave up; the message names the problem of the batch.
        """
