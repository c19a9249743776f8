"""One step of mini-batch NMF under the squared error where not all of a batch is known.

Every feature is then known in other samples than its neighbours, and has sums of its own over these: with v = 1 where
Y is known,

    A_f ← ρA_f + Σ v_f w wᵀ    and    C ← ρC + W(V ∘ Y)ᵀ,

so that what is remembered is k(k + 1)/2 numbers a feature. The rest is as in mini_batch_rules.py, and so are the
weights of a batch that is known as a whole.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffnmf.factorization.half_step import Quadratic
from diffnmf.factorization.hals import WEIGHTED_SWEEPS, passes
from diffnmf.factorization.mini_batch_rules import (
    SWEEPS,
    Memory,
    SquaredErrorRule,
    Target,
    Visit,
    forgotten,
    without_rounding_,
)
from diffnmf.factorization.observed_half_step import ObservedHalfStep
from diffnmf.factorization.sparse_matrix import Matrix, ObservedMatrix, multiply
from diffnmf.factorization.weighted_half_step import WeightedHalfStep
from diffnmf.factorization.weighted_sweep import PAIRS, columns_at_once, sweep_columns, times_columns, weighted_sweep_
from diffnmf.solvers.norms import one_where_zero

# What is left of a sum, relative to the most that it was, when nothing but rounding is left: a hundred roundings.
ROUNDINGS = 128


@dataclass
class KnownMemory(Memory):
    """The sums of what is known: ``hold`` is (1, k(k+1)/2, n), the upper triangle of A_f for every feature.

    Attributes:
        most: (1, k, n), the largest that the diagonals of A_f have been, forgotten as they are.
    """

    most: Tensor | None = None

    def copy(self) -> "KnownMemory":
        assert self.most is not None
        return KnownMemory(self.pull.clone(), self.hold.clone(), self.samples, self.most.clone())


@dataclass(frozen=True)
class KnownEntriesRule(SquaredErrorRule):
    """½ Σ (Y − HW)² over what is known, by coordinate descent."""

    def remember(self, Ht: Tensor) -> KnownMemory:
        _, k, n = Ht.shape
        nothing = torch.zeros_like(Ht)
        return KnownMemory(nothing, Ht.new_zeros(1, k * (k + 1) // 2, n), 0.0, nothing.clone())

    def half_step(self, target: Target, Ht: Tensor) -> Any:
        if isinstance(target.Y, ObservedMatrix):
            return ObservedHalfStep(Ht, target.Y, self.weights_penalties)
        if target.V is None:
            return super().half_step(target, Ht)
        assert isinstance(target.Y, Tensor)
        return WeightedHalfStep(Ht, target.Y, target.V, self.weights_penalties)

    def even_weights(self, half: Any) -> Tensor:
        if isinstance(half, Quadratic):
            return super().even_weights(half)
        k = half.other.shape[1]
        V = half.weights if isinstance(half, WeightedHalfStep) else half.target.map(torch.ones_like)
        l1, ridge = (0.0 if x is None else k * x for x in self.weights_penalties)
        up = half.C.sum(1, keepdim=True) - l1  # (1, 1, b)
        down = multiply(half.other.sum(1, keepdim=True).square(), V) + ridge
        return (up.clamp_(min=0) / one_where_zero(down)).expand(-1, k, -1).clone()

    def sweeps(self, half: Any) -> int:
        return super().sweeps(half) if isinstance(half, Quadratic) else WEIGHTED_SWEEPS

    def improve_weights(self, half: Any, W: Tensor, sweeps: int) -> None:
        if isinstance(half, Quadratic):
            super().improve_weights(half, W, sweeps)
            return
        if isinstance(half, ObservedHalfStep):
            half.sweep_(W, sweeps)
        else:
            weighted_sweep_(half, W, sweeps)
        without_rounding_(W)

    def improve_components(
        self, memory: Any, rho: float, target: Target, W: Tensor, last: Visit | None, Ht: Tensor
    ) -> None:
        _, k, n = Ht.shape
        past = last if last is not None and last.share > 0 else None
        share = 0.0 if past is None else past.share
        pull = W if past is None else W - share * past.W
        hold = _hold(W, past, _known(target), n)
        memory.add(multiply(pull, target.Y.mT), hold, (1 - share) * W.shape[2], rho)
        diagonal = memory.hold[:, _diagonal(k, Ht.device)]
        torch.maximum(memory.most.mul_(rho), diagonal, out=memory.most)
        rounding = ROUNDINGS * torch.finfo(Ht.dtype).eps * memory.most
        unseen = diagonal <= rounding.clamp_(min=forgotten(Ht.dtype))
        penalties = self._basis_penalties(memory.samples, Ht)
        size = columns_at_once(1, k, Ht.device)
        for some in (slice(start, start + size) for start in range(0, n, size)):
            X = Ht[..., some]
            grams, C = _without(unseen[..., some], memory.hold[..., some], memory.pull[..., some], X)
            gradient = penalties.added(times_columns(grams, X) - C, X)
            sweep_columns(grams, gradient, X, penalties.ridge, passes(SWEEPS, W.shape[2], k))


def _known(target: Target) -> Matrix | None:
    """(1, n, b), 1 where Y is known; None where all of it is."""
    return target.Y.map(torch.ones_like) if isinstance(target.Y, ObservedMatrix) else target.V


def _hold(W: Tensor, past: Visit | None, V: Matrix | None, n: int) -> Tensor:
    """Σ v w_a w_b over the samples, less what is left of the same with past weights: (1, k(k+1)/2, n)."""
    _, k, samples = W.shape
    first, second = torch.triu_indices(k, k, device=W.device)
    hold = W.new_empty(1, len(first), n)
    size = max(1, PAIRS // max(1, samples))
    for start in range(0, len(first), size):
        a, b = first[start : start + size], second[start : start + size]
        pairs = W[:, a] * W[:, b]
        if past is not None:
            pairs -= past.share * past.W[:, a] * past.W[:, b]
        hold[:, start : start + size] = pairs.sum(2, keepdim=True) if V is None else multiply(pairs, V.mT)
    return hold


def _diagonal(k: int, device: torch.device) -> Tensor:
    """The places of the pairs (a, a) among those of the upper triangle, (k,)."""
    rows = torch.arange(k, device=device)
    return rows * k - rows * (rows - 1) // 2


def _without(unseen: Tensor, grams: Tensor, C: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
    """The sums without the components (1, k, c) of which a feature has seen nothing, or forgotten it.

    They stay as they are, and what the others leave of Y is without them, as before. What is remembered keeps them: a
    batch that has hardly any of them will be taken out again as a whole.
    """
    if not bool(unseen.any()):
        return grams, C
    k = X.shape[1]
    C = (C - times_columns(grams, torch.where(unseen, X, 0.0))).masked_fill_(unseen, 0.0)
    first, second = torch.triu_indices(k, k, device=X.device)
    return grams.masked_fill(unseen[:, first] | unseen[:, second], 0.0), C
