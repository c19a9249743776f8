"""What a method is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.nmf_problem import NMFProblem

# (iteration, H (B, n, k), W (B, k, m)) in the scaled units, to whether to stop.
Observer = Callable[[int, Tensor, Tensor], bool]


@dataclass(frozen=True)
class Budget:
    """When a method stops.

    Attributes:
        tol: of the projected gradient relative to the start; 0 never stops early.
        max_iter: iterations at the most.
        observer: called after every iteration, or None.
    """

    tol: float
    max_iter: int
    observer: Observer | None


@dataclass(frozen=True)
class Run:
    """What a method returns for B problems, in the scaled units.

    Attributes:
        W: (B, k, m).
        Ht: (B, k, n), Hᵀ.
        errors: (iterations run + 1, B) float64.
        iterations: (B,) int64.
        converged: (B,) bool.
    """

    W: Tensor
    Ht: Tensor
    errors: Tensor
    iterations: Tensor
    converged: Tensor


class Method(ABC):
    """A way to reduce ½‖Y − HW‖² + l1_H ΣH + ½ ridge_H ‖H‖² + l1_W ΣW + ½ ridge_W ‖W‖² over H, W ≥ 0.

    A method is a frozen dataclass: its fields are its options, checked when it is made, and one instance serves any
    number of calls. Users reach it through ``factorize``, by name (see ``METHODS``) or as an instance.

    Example:
        >>> from diffnmf.factorization import METHODS
        >>> [name for name, method in METHODS.items() if "weights" in method().takes]  # who copes with missing entries
        ['anls', 'mu', 'hals']
    """

    @property
    def needs_start(self) -> bool:
        """Whether the method begins from an H and a W, rather than making its own."""
        return True

    @property
    def keeps_zeros(self) -> bool:
        """Whether an entry that is zero at the start is zero for ever, so that a start must not have any."""
        return False

    @property
    def takes(self) -> frozenset[str]:
        """Which of these it can take: "weights", "sparse" (Y), "observed" (Y sparse, known where it stores), "fixed"
        (columns of H) and "parts" (Y in blocks, or shared).
        """
        return frozenset()

    @property
    def balances(self) -> bool:
        """Whether factors that are given are brought to one size first: not by methods that do so, or must not."""
        return False

    @property
    def beta(self) -> float:
        """β of the divergence that is reduced; 2 is the squared error."""
        return 2.0

    @property
    def unit_basis(self) -> bool:
        """Whether the columns of H have norm 1, whatever the units of Y are: W then takes all of its scale."""
        return False

    @abstractmethod
    def run(self, problem: NMFProblem, W: Tensor, Ht: Tensor, budget: Budget) -> Run:
        """Factorise every problem of a batch.

        Arguments:
            problem: B checked and scaled problems, without NaN.
            W: (B, k, m), the start, which may be written to.
            Ht: (B, k, n), the start as Hᵀ, which may be written to.
            budget: when to stop.

        Raises:
            ValueError: the method has no use for an argument that was given.
        """


def balance_(W: Tensor, Ht: Tensor, squares: Tensor | None = None) -> None:
    """Bring the components of W (B, k, m) and Hᵀ (B, k, n) to one size in both, in place, by powers of two: HW stays.

    Otherwise the larger gradient of the two factors alone would say how far they are from a stationary point.

    Arguments:
        W: ≥ 0.
        Ht: ≥ 0.
        squares: (B, k) float64, of the rows of W, where these are parts of longer ones.
    """
    of_W = W.double().square().sum(-1) if squares is None else squares
    of_H = Ht.double().square().sum(-1)
    live = (of_W > 0) & (of_H > 0)
    exponent = torch.where(live, torch.log2(torch.where(live, of_H / of_W, 1.0)) / 4, 0.0).round()
    W.mul_(torch.exp2(exponent).to(W).unsqueeze(-1))
    Ht.mul_(torch.exp2(-exponent).to(Ht).unsqueeze(-1))


def in_own_memory(problem: NMFProblem, H: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """W (B, k, m) and Hᵀ (B, k, n) as methods take them, which write to them; a start may be one for all problems."""
    batch = len(problem.Y)
    W, Ht = (x.expand(batch, -1, -1).clone(memory_format=torch.contiguous_format) for x in (W, H.mT))
    return W, Ht
