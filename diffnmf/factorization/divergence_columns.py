"""Columns whose weights are sought under another loss than the squared error: the divergence, its slope, its curvature.

A column is a problem of its own. Here they are rows, so that what belongs to one of them lies together in memory.
"""

from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from torch import Tensor

from diffnmf.factorization.divergence import least_product, power_less_one
from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.solvers.constrained.form import weighted_gram

# Of an entry whose curvature is negative, or less than that: this share of what it is where T = P.
LEAST_CURVATURE = 0.01


class Bases(Protocol):
    """F (k, p) of N columns, one for all of them or one for each. The products with it:"""

    def product(self, X: Tensor) -> Tensor:
        """Fᵀx, (N, k) to (N, p)."""

    def sums(self, R: Tensor) -> Tensor:
        """Fr, (N, p) to (N, k)."""

    def square_sums(self, v: Tensor) -> Tensor:
        """The diagonals of ``grams``, (N, p) to (N, k)."""

    def grams(self, v: Tensor) -> Tensor:
        """F diag(v) Fᵀ, (N, p) to (N, k, k)."""

    def take(self, index: Tensor) -> Self:
        """Those of the columns at ``index``, a list of numbers."""


@dataclass(frozen=True)
class SharedBasis:
    """One F (k, p) for all columns."""

    F: Tensor

    def product(self, X: Tensor) -> Tensor:
        return X @ self.F

    def sums(self, R: Tensor) -> Tensor:
        return R @ self.F.mT

    def square_sums(self, v: Tensor) -> Tensor:
        return v @ self.F.square().mT

    def grams(self, v: Tensor) -> Tensor:
        return weighted_gram(self.F.mT.unsqueeze(0), v.mT.unsqueeze(0))[0]

    def take(self, index: Tensor) -> "SharedBasis":
        return self


@dataclass(frozen=True)
class OwnBases:
    """F (N, k, p), one for each column."""

    F: Tensor

    def product(self, X: Tensor) -> Tensor:
        return (X.unsqueeze(1) @ self.F).squeeze(1)

    def sums(self, R: Tensor) -> Tensor:
        return (self.F @ R.unsqueeze(2)).squeeze(2)

    def square_sums(self, v: Tensor) -> Tensor:
        return (self.F.square() @ v.unsqueeze(2)).squeeze(2)

    def grams(self, v: Tensor) -> Tensor:
        return (self.F * v.unsqueeze(1)) @ self.F.mT

    def take(self, index: Tensor) -> "OwnBases":
        return OwnBases(self.F[index])


@dataclass(frozen=True)
class Place:
    """What a Newton method has to know about N columns at their X (N, k).

    With a = P^(β−2), the divergence of an entry has the slope Pa − Ta and the curvature (β−1) a + (2−β) Ta/P.

    Attributes:
        X: (N, k).
        P: (N, p), Fᵀx, at least what it counts as where it is divided by.
        held, pulled: (N, p), the two parts of the slope, with the weights.
        curvature: (N, p), likewise; outside of 1 ≤ β ≤ 2 it may be negative.
        raised: (N, p), the same, but nowhere negative.
        gradient: (N, k), of the objective.
        mass: (N,), Σ pulled Fᵀx: what of the objective is within reach of x.
    """

    X: Tensor
    P: Tensor
    held: Tensor
    pulled: Tensor
    curvature: Tensor
    raised: Tensor
    gradient: Tensor
    mass: Tensor

    def take(self, index: Tensor) -> "Place":
        """That of the columns at ``index``, a list of numbers."""
        return Place(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True)
class DivergenceColumns:
    """N problems: min Σ v d_β(t | Fᵀx) + l1 Σx + ½ ridge ‖x‖² over x ≥ 0.

    Attributes:
        bases: F.
        target: T (N, p).
        penalties: l1 and ridge, of every entry of x (N, k), or None.
        beta: β.
        weights: V (N, p) ≥ 0, or None where all are 1.
    """

    bases: Bases
    target: Tensor
    penalties: Penalties
    beta: float
    weights: Tensor | None = None

    @property
    def convex(self) -> bool:
        return 1 <= self.beta <= 2

    def take(self, index: Tensor) -> "DivergenceColumns":
        """The columns at ``index``, a list of numbers."""
        V = None if self.weights is None else self.weights[index]
        return DivergenceColumns(self.bases.take(index), self.target[index], self.penalties.take(index), self.beta, V)

    def place(self, X: Tensor) -> Place:
        """That of X (N, k)."""
        beta, T = self.beta, self.target
        product = self.bases.product(X)
        P = product.clamp(min=least_product(beta, X.dtype))
        a = P.reciprocal() if beta == 1 else P.pow(beta - 2)
        held, pulled = P * a, T * a
        curvature = (pulled / P).mul_(2 - beta)
        if beta != 1:
            curvature.add_(a, alpha=beta - 1)
        raised = curvature if self.convex else torch.maximum(curvature, LEAST_CURVATURE * a)
        if self.weights is not None:
            held, pulled, curvature, raised = (x * self.weights for x in (held, pulled, curvature, raised))
        gradient = self.penalties.added(self.bases.sums(held - pulled), X)
        return Place(X, P, held, pulled, curvature, raised, gradient, torch.linalg.vecdot(pulled, product))

    def change(self, place: Place, step: Tensor) -> Tensor:
        """How the objectives change on a step (N, k), (N,).

        Not the difference of two sums, which would be rounding where the step is small. Below what P counts as at the
        least the divergence goes on along its tangent there, whose slope is in the gradient.
        """
        P, pulled, least = place.P, place.pulled, least_product(self.beta, place.P.dtype)
        moved, room = self.bases.product(step), least - P
        below = None
        if ((moved.clamp(max=0) <= room) & (moved != 0)).any():
            gap = torch.where(room == 0, self.bases.product(place.X) - P, 0.0)
            moved += gap
            below = (moved - room).clamp_(max=0) - gap
        u = torch.maximum(moved, room).div_(P)
        log = u.log1p()
        rise = place.held * (u if self.beta == 1 else power_less_one(log, self.beta))
        fall = pulled * power_less_one(log, self.beta - 1)
        # Nothing times infinity: P may fall to what counts as zero where T is zero, or without weight.
        fall = torch.where(pulled > 0, fall, 0.0)
        if self.beta <= 0:
            rise = torch.where(pulled > 0, rise, 0.0)
        total = torch.linalg.vecdot(rise - fall, P)
        if below is not None:
            slope = least ** (self.beta - 1) - least ** (self.beta - 2) * self.target
            total += torch.linalg.vecdot(slope if self.weights is None else slope * self.weights, below)
        if self.penalties.l1 is not None:
            total += (self.penalties.l1 * step).sum(1)
        if self.penalties.ridge is not None:
            total += (self.penalties.ridge * step * (place.X + 0.5 * step)).sum(1)
        return total
