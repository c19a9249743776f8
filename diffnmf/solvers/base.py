"""What a solver is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from diffnmf.solvers.problem import Problem

BACKWARDS = ("implicit", "unrolled", "detached")


@dataclass(frozen=True)
class Solved:
    """What ``NNLSSolver.solve`` returns.

    Attributes:
        W: (B, k, m) ≥ 0 but for ``signed`` entries, in the dtype of the problem, carrying the gradient.
        iterations: (B,) int64, the work that the hardest column of each problem took.

    Example:
        >>> import torch
        >>> from diffnmf.solvers import Problem, ProjectedGradient
        >>> H, Y, none = torch.rand(2, 6, 3), torch.rand(2, 6, 4), torch.zeros(2, 1, 1)
        >>> problem = Problem(H, Y, ridge=none, l1=none, W0=None, batch_shape=torch.Size([2]), dtype=H.dtype)
        >>> solved = ProjectedGradient().solve(problem, "detached")
        >>> solved.W.shape, solved.iterations.shape
        (torch.Size([2, 3, 4]), torch.Size([2]))
    """

    W: Tensor
    iterations: Tensor


class NNLSSolver(ABC):
    """A way to solve a batch of non-negative least-squares problems

        min_W ½‖Y − HW‖²_F + l1 ΣW + ½ ridge ‖W‖²_F  subject to W ≥ 0

    for W (k, m), given H (n, k) and Y (n, m) of any sign. A solver is a frozen dataclass: its fields are its options,
    checked when it is made, and one instance serves any number of problems. Users reach it through ``diffnmf.nnls``
    or ``NNLSLayer``, by name (see ``SOLVERS``) or as an instance.

    A solver of your own needs ``exact``, ``tolerance``, ``backwards`` and ``solve``, and works wherever the others do,
    under ``torch.func`` and ``torch.compile`` too. For a new first-order method see ``FirstOrderSolver``.

    Example:
        >>> from dataclasses import dataclass
        >>> from itertools import product
        >>> import torch
        >>> from diffnmf.layers import NNLSLayer
        >>> from diffnmf.solvers import NNLSSolver, Problem, Solved
        >>> @dataclass(frozen=True)
        ... class EverySupport(NNLSSolver):
        ...     '''Least squares on each of the 2^k supports: the best feasible one is the solution. For tiny k.'''
        ...
        ...     exact, tolerance, backwards = True, 0.0, ("detached",)  # the library adds the implicit gradient
        ...
        ...     def solve(self, problem: Problem, backward: str) -> Solved:
        ...         H, Y = problem.H.detach(), problem.Y.detach()  # (B, n, k), (B, n, m)
        ...         ridge, l1 = problem.ridge.detach(), problem.l1.detach()  # they broadcast to (B, k, 1) and W
        ...         G, C = H.mT @ H + ridge * torch.eye(H.shape[-1]), H.mT @ Y - l1  # (B, k, k), (B, k, m)
        ...         best, least = torch.zeros_like(C), torch.zeros_like(C[:, :1])
        ...         for support in product((0.0, 1.0), repeat=H.shape[-1]):
        ...             D = torch.diag(torch.tensor(support))
        ...             W = torch.linalg.pinv(D @ G @ D) @ D @ C
        ...             value = (W * (0.5 * G @ W - C)).sum(-2, keepdim=True)  # (B, 1, m)
        ...             better = (W >= 0).all(-2, keepdim=True) & (value < least)
        ...             best, least = torch.where(better, W, best), torch.where(better, value, least)
        ...         return Solved(best, torch.full((len(H),), 2 ** H.shape[-1]))
        >>> H, Y = torch.rand(2, 6, 3, requires_grad=True), torch.rand(2, 6, 4)
        >>> W = NNLSLayer(EverySupport(), ridge=0.1)(H, Y)
        >>> torch.allclose(W, NNLSLayer(ridge=0.1)(H, Y), atol=1e-4)
        True
        >>> W.sum().backward()  # the gradient reaches H
        >>> torch.func.vmap(NNLSLayer(EverySupport()))(H, Y).shape
        torch.Size([2, 3, 4])
    """

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether W is the solution (to ``tolerance``), so that the implicit gradient is right."""

    @property
    @abstractmethod
    def tolerance(self) -> float:
        """The KKT residual that this solver promises; what it does not reach is reported as not converged.

        In units of ‖y‖ and of unit columns of H (see ``Optimality``); 0 stands for the rounding of the dtype.
        """

    @property
    @abstractmethod
    def backwards(self) -> tuple[str, ...]:
        """The kinds of gradient that ``solve`` gives, the most accurate one first; "detached" is always among them.

        An exact solver without "implicit" gets it from the library, by one more solve on the support of W.
        """

    @property
    def transformable(self) -> bool:
        """Whether the solver may be used under ``torch.func``, forward mode and ``torch.compile``.

        There the library calls ``solve`` for W alone and adds the implicit gradient. False stands for a solver whose
        own gradient is the point of it.
        """
        return True

    @property
    def takes_constraints(self) -> bool:
        """Whether ``solve`` looks at ``problem.constraints``: weights, sums, upper bounds, entries of any sign.

        Where it is False no such problem comes; a mask of allowed entries is an l1 to every solver.
        """
        return False

    @property
    def takes_bounds(self) -> bool:
        """Whether ``solve`` looks at ``upper`` and ``signed``, where ``problem.constraints`` has nothing else.

        Then it has a gradient of its own: the one that the library adds to W knows no bound but zero.
        """
        return self.takes_constraints

    @abstractmethod
    def solve(self, problem: Problem, backward: str) -> Solved:
        """Solve every problem of the batch.

        Arguments:
            problem: B checked problems in range (finite, see ``ranges.py``), none of them empty, with or without a warm
                start.
            backward: where the gradient of W comes from, one of ``backwards``; nothing else is ever asked for.
                "implicit": from the optimality conditions at the solution, by one more small solve.
                "unrolled": from differentiating through the iterations, which are plain operations of torch.
                "detached": W is a constant.

        Returns:
            The weights with their gradient. A problem that could not be finished has the best feasible weights found.

        Raises:
            SolverError: a third-party solver gave up; the message names the problem of the batch.
        """

    @property
    def finishes(self) -> bool:
        """Whether ``solve`` ends with the exact finish of the library, so that W does not depend on what came before.

        Where the compiled kernel runs, it finds W by itself then, and ``solve`` is not asked.
        """
        return False

    def truncated(self, steps: int) -> "NNLSSolver":
        """The same solver, stopped after so many steps, without an exact finish.

        Raises:
            ValueError: it only ends at the solution.
        """
        raise ValueError(
            f"steps: expected none for {type(self).__name__}, which only ends at the solution; "
            f"got {steps} (leave it out)"
        )
