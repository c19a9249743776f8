"""One step of mini-batch NMF: the weights of a batch for H as it is, then H for all the batches so far.

Under the squared error everything that past batches say about H is in two sums,

    A ← ρA + WWᵀ    and    C ← ρC + WYᵀ,

and H is improved by sweeps of coordinate descent over ½⟨Hᵀ, AHᵀ⟩ − ⟨C, Hᵀ⟩: Mairal, Bach, Ponce and Sapiro (2010),
Online learning for matrix factorization and sparse coding, Journal of Machine Learning Research 11. What a batch has
added when it was here last is taken out again (section 3.4 there), so that the sums hold every sample once, with the
weights that it had last: without that, MNIST takes several times as many passes.

Under another loss the sums are numerator and denominator of a multiplicative update: Lefèvre, Bach and Févotte (2011),
Online algorithms for nonnegative matrix factorization with the Itakura-Saito divergence, IEEE WASPAA.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.factorization.divergence import DivergenceHalfStep
from diffnmf.factorization.half_step import Quadratic, half_step, negligible
from diffnmf.factorization.hals import passes, sweep_
from diffnmf.factorization.multiplicative_step import multiplicative_step_, safe_exponent
from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.factorization.sample_arrays import Samples
from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix, batch_of_one, in_units, multiply
from diffnmf.solvers.norms import one_where_zero

SWEEPS = 3  # over a factor, where they cost less than forming what they work on
ROUNDING = 8  # times the distance of two numbers


@dataclass
class Memory:
    """What the batches so far say about H. After every further batch they count ρ times as much.

    Attributes:
        pull: (1, k, n), C or the numerator.
        hold: A (1, k, k), or the denominator (1, k, n).
        samples: how many there were, discounted likewise.
    """

    pull: Tensor
    hold: Tensor
    samples: float = 0.0

    def copy(self) -> "Memory":
        return Memory(self.pull.clone(), self.hold.clone(), self.samples)

    def add(self, pull: Tensor, hold: Tensor, samples: float, rho: float) -> None:
        self.pull.mul_(rho).add_(pull)
        self.hold.mul_(rho).add_(hold)
        self.samples = rho * self.samples + samples


class Target(NamedTuple):
    """A batch as it is worked on.

    Attributes:
        Y: (1, n, b), dense or sparse, zero where it is not known.
        V: (1, n, b), 1 where a dense Y is known and 0 where not; None where all of it is.
    """

    Y: Matrix
    V: Tensor | None = None

    @staticmethod
    def of(samples: Samples, root: float) -> "Target":
        """In units of root²."""
        Y, V = batch_of_one(samples.Y, observed=samples.observed), samples.weights
        if V is not None and isinstance(Y, Tensor):
            Y, V = torch.where(V > 0, Y, 0.0), V.unsqueeze(0)
        return Target(Y if root == 1 else in_units(Y, root), V)

    @property
    def samples(self) -> int:
        return int(self.Y.shape[2])

    @property
    def mT(self) -> "Target":
        return Target(self.Y.mT, None if self.V is None else self.V.mT)


@dataclass
class Visit:
    """A batch as it was seen last.

    Attributes:
        W: (1, k, b), its weights.
        share: what is left of it in the sums of ``Memory``, in [0, 1].
    """

    W: Tensor
    share: float


@dataclass(frozen=True)
class Rule(ABC):
    """How a loss and its penalties are reduced, in units in which Y is about 1.

    Attributes:
        weights_penalties: the penalties of the weights of a batch.
        basis_l1: what every sample adds to the l1 of H.
        basis_ridge: likewise.
    """

    weights_penalties: Penalties
    basis_l1: float
    basis_ridge: float

    @abstractmethod
    def remember(self, Ht: Tensor) -> Memory:
        """Of no batch yet."""

    @abstractmethod
    def half_step(self, target: Target, Ht: Tensor) -> Any:
        """What is reduced over the weights of a batch while Hᵀ (1, k, n) is held."""

    @abstractmethod
    def even_weights(self, half: Any) -> Tensor:
        """W (1, k, b) to start from: every column has one number for all components."""

    @abstractmethod
    def sweeps(self, half: Any) -> int:
        """How many iterations over W are worth it, until H has moved."""

    @abstractmethod
    def improve_weights(self, half: Any, W: Tensor, sweeps: int) -> None:
        """Some iterations over W (1, k, b), in place."""

    @abstractmethod
    def improve_components(
        self, memory: Any, rho: float, target: Target, W: Tensor, last: Visit | None, Ht: Tensor
    ) -> None:
        """Forget some of ``memory``, add a batch and improve Hᵀ (1, k, n), both in place.

        Arguments:
            memory: what ``remember`` has made, of the batches before.
            rho: what remains of it, in [0, 1].
            target: the batch.
            W: (1, k, b), its weights.
            last: when the batch was seen before; its share is what is left after forgetting.
            Ht: the components.
        """

    @abstractmethod
    def divergence(self, half: Any, target: Target, W: Tensor) -> float:
        """½‖Y − HW‖² over what is known, or that of another loss."""

    def solve_weights(self, half: Any, iterations: int, tol: float) -> Tensor:
        """W (1, k, b) after as many iterations from even weights, or when the last one has moved it by ``tol``."""
        W = self.even_weights(half)
        for _ in range(iterations):
            before = W.clone()
            self.improve_weights(half, W, 1)
            if tol > 0 and moved(before, W) <= tol:
                break
        return W

    def cost(self, half: Any, target: Target, W: Tensor, Ht: Tensor) -> float:
        """What a sample of the batch costs, with the penalties."""
        penalties = self.weights_penalties(W) + self._basis_penalties(target.samples, Ht)(Ht)
        return (self.divergence(half, target, W) + float(penalties)) / target.samples

    def _basis_penalties(self, samples: float, Ht: Tensor) -> Penalties:
        """The penalties of H that so many samples bring."""
        return Penalties.of(samples * self.basis_l1, samples * self.basis_ridge, Ht)


@dataclass(frozen=True)
class SquaredErrorRule(Rule):
    """½‖Y − HW‖², by coordinate descent, where all of Y is known."""

    def remember(self, Ht: Tensor) -> Memory:
        k = Ht.shape[1]
        return Memory(torch.zeros_like(Ht), Ht.new_zeros(1, k, k))

    def half_step(self, target: Target, Ht: Tensor) -> Any:
        return half_step(Ht, target.Y, self.weights_penalties)

    def even_weights(self, half: Any) -> Tensor:
        A, C = half.penalized()  # of all multiples of a column of ones, the best
        best = C.sum(1, keepdim=True).clamp_(min=0) / one_where_zero(A.sum((1, 2), keepdim=True))
        return best.expand(-1, C.shape[1], -1).clone()

    def sweeps(self, half: Any) -> int:
        return passes(SWEEPS, half.size, half.A.shape[-1])

    def improve_weights(self, half: Any, W: Tensor, sweeps: int) -> None:
        A, C = half.penalized()
        sweep_(A, C, W, sweeps)
        without_rounding_(W)

    def improve_components(
        self, memory: Any, rho: float, target: Target, W: Tensor, last: Visit | None, Ht: Tensor
    ) -> None:
        k, samples = W.shape[1:]
        pull, hold, share = W, W @ W.mT, 0.0
        if last is not None and last.share > 0:
            share = last.share
            pull, hold = W - share * last.W, hold - share * (last.W @ last.W.mT)
        memory.add(multiply(pull, target.Y.mT), hold, (1 - share) * samples, rho)
        # A component that has not been seen for so long that the sums are hardly numbers stays as it is.
        unseen = (memory.hold.diagonal(dim1=1, dim2=2).abs() < forgotten(Ht.dtype)).unsqueeze(-1)
        if unseen.any():
            memory.pull.sub_((memory.hold * unseen.mT) @ Ht)  # what the others leave of Y is without it, as before
            memory.hold.masked_fill_(unseen | unseen.mT, 0.0)
            memory.pull.masked_fill_(unseen, 0.0)
        half = Quadratic(memory.hold, memory.pull, self._basis_penalties(memory.samples, Ht), samples)
        sweep_(*half.penalized(), Ht, passes(SWEEPS, samples, k))

    def divergence(self, half: Any, target: Target, W: Tensor) -> float:
        Y = target.Y
        values = Y.values if isinstance(Y, SparseMatrix) else Y
        square = torch.linalg.vector_norm(values, dtype=torch.float64).square().reshape(1)
        return 0.5 * float(half.error(square, W, may_look=True)) ** 2 * float(square)


@dataclass(frozen=True)
class DivergenceRule(Rule):
    """Σ d_β(Y | HW), by multiplicative updates."""

    beta: float

    def remember(self, Ht: Tensor) -> Memory:
        # A little of the start, as in scikit-learn: what the first batch does not have would otherwise stay zero.
        return Memory(Ht.pow(1 / safe_exponent(self.beta)), torch.ones_like(Ht))

    def half_step(self, target: Target, Ht: Tensor) -> DivergenceHalfStep:
        return DivergenceHalfStep(Ht, target.Y, self.weights_penalties, self.beta, target.V)

    def even_weights(self, half: DivergenceHalfStep) -> Tensor:
        k, width = half.other.shape[1], half.target.shape[2]
        mean = half.target.mean((1, 2), keepdim=True)
        if half.weights is not None:
            mean = mean / one_where_zero(half.weights.mean((1, 2), keepdim=True))
        return (mean / k).sqrt().expand(1, k, width).clone()

    def sweeps(self, half: DivergenceHalfStep) -> int:
        return 1

    def improve_weights(self, half: DivergenceHalfStep, W: Tensor, sweeps: int) -> None:
        for _ in range(sweeps):
            multiplicative_step_(half, W, safe_exponent(self.beta))

    def improve_components(
        self, memory: Any, rho: float, target: Target, W: Tensor, last: Visit | None, Ht: Tensor
    ) -> None:
        samples, exponent = W.shape[2], safe_exponent(self.beta)
        Yt, Vt = target.mT
        up, down = DivergenceHalfStep(W, Yt, self._basis_penalties(samples, Ht), self.beta, Vt).pulls(Ht)
        memory.add(up * Ht.pow(1 / exponent), down, samples, rho)
        ratio = memory.pull / memory.hold.clamp(min=torch.finfo(Ht.dtype).tiny)
        improved = ratio if exponent == 1 else ratio.pow_(exponent)
        Ht.copy_(torch.where(memory.hold < forgotten(Ht.dtype), Ht, improved))
        torch.threshold_(Ht, negligible(Ht.dtype), 0.0)

    def divergence(self, half: DivergenceHalfStep, target: Target, W: Tensor) -> float:
        return 0.5 * float(half.error(W.new_ones(1), W, may_look=True)) ** 2


def without_rounding_(W: Tensor) -> None:
    """Without what is rounding beside the other weights of its sample: there may be nothing else to learn from."""
    rounding = ROUNDING * torch.finfo(W.dtype).eps * W.amax(1, keepdim=True)
    W.masked_fill_(rounding >= W, 0.0)


def forgotten(dtype: torch.dtype) -> float:
    """Below which sums that are discounted again and again have lost their digits."""
    limits = torch.finfo(dtype)
    return limits.tiny / limits.eps


def moved(before: Tensor, now: Tensor) -> float:
    """‖now − before‖ / ‖now‖; 0 where nothing is left."""
    size = float(torch.linalg.vector_norm(now))
    return float(torch.linalg.vector_norm(now - before)) / size if size > 0 else 0.0
