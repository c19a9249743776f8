"""One checked batch of factorisation problems, in units in which every Y is about 1."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.factorization.sparse_matrix import Matrix
from diffnmf.solvers.norms import one_where_zero

Index = slice | Tensor  # some problems of a batch: neighbours, or any by their numbers (N,)


class Penalties(NamedTuple):
    """½‖Y − HW‖² + l1 ΣX + ½ ridge ‖X‖² for one factor X: l1 and ridge (B, 1, 1), or None where they are zero."""

    l1: Tensor | None = None
    ridge: Tensor | None = None

    @staticmethod
    def of(l1: float, ridge: float, like: Tensor) -> "Penalties":
        """From numbers, the same for every problem, in the dtype and on the device of ``like``."""
        return Penalties(*(like.new_full((1, 1, 1), x) if x else None for x in (l1, ridge)))

    @property
    def any(self) -> bool:
        return self.l1 is not None or self.ridge is not None

    @property
    def arguments(self) -> dict[str, Any]:
        """As ``NNLSLayer`` takes them."""
        return {name: 0.0 if x is None else x for name, x in self._asdict().items()}

    def __call__(self, X: Tensor) -> Tensor:
        """What X (B, k, N) costs, (B,) float64."""
        cost = torch.zeros(len(X), dtype=torch.float64, device=X.device)
        if self.l1 is not None:
            cost += self.l1[:, 0, 0] * X.sum(-1).sum(-1, dtype=torch.float64)
        if self.ridge is not None:
            cost += 0.5 * self.ridge[:, 0, 0] * X.square().sum(-1).sum(-1, dtype=torch.float64)
        return cost

    def added(self, down: Tensor, X: Tensor) -> Tensor:
        """``down`` with their gradient at X, (B, k, N) each."""
        down = down if self.l1 is None else down + self.l1
        return down if self.ridge is None else down + self.ridge * X

    def bent(self, curvature: Tensor) -> Tensor:
        """``curvature`` (B, k, N) of every entry of X with theirs."""
        return curvature if self.ridge is None else curvature + self.ridge

    def take(self, index: Index) -> "Penalties":
        return Penalties(*(None if x is None else x[index] for x in self))


def largest_penalty(dtype: torch.dtype) -> float:
    """More than this, where Y is about 1, changes nothing any more, and would overflow."""
    return math.sqrt(torch.finfo(dtype).max)


@dataclass(frozen=True)
class NMFProblem:
    """B matrices to factorise, scaled by powers of four, so that H and W are scaled by powers of two: without rounding.

    Attributes:
        Y: (B, n, m), float32 or float64, its largest entry in [1/2, 2) or zero. What is not finite counts as zero.
        square: (B,) float64, ‖Y‖².
        k: components.
        weights_penalties: of W, in the scaled units.
        basis_penalties: of H, likewise.
        weights: (B, n, m) ≥ 0, of every entry of the error, zero for one that is missing, the largest in [1, 2); None
            where all are 1. With them Y is zero where the weight is, and ``square`` is Σ weights Y².
        fixed: how many columns of H, the first ones, are given and stay.
    """

    Y: Matrix
    square: Tensor
    k: int
    weights_penalties: Penalties
    basis_penalties: Penalties
    weights: Tensor | None = None
    fixed: int = 0

    @property
    def tall(self) -> bool:
        """Whether W is the smaller of the two factors."""
        return self.Y.shape[1] >= self.Y.shape[2]

    @property
    def penalized(self) -> bool:
        return self.weights_penalties.any or self.basis_penalties.any

    def objective(self, error: Tensor, W: Tensor, Ht: Tensor) -> Tensor:
        """What is reduced, (B,) float64, at a relative error (B,); ½‖Y − HW‖² in units of ½‖Y‖²."""
        if not self.penalized:
            return error.square()
        penalty = self.weights_penalties(W) + self.basis_penalties(Ht)
        return error.square() + 2 * penalty / one_where_zero(self.square)

    def take(self, index: Index) -> "NMFProblem":
        of_W, of_H = (x.take(index) for x in (self.weights_penalties, self.basis_penalties))
        weights = None if self.weights is None else self.weights[index]
        return NMFProblem(self.Y[index], self.square[index], self.k, of_W, of_H, weights, self.fixed)

    @property
    def plain(self) -> bool:
        """Whether Y is dense and complete, and all of H is looked for."""
        return isinstance(self.Y, Tensor) and self.weights is None and self.fixed == 0

    @property
    def dense(self) -> Tensor:
        """Y where it is no sparse matrix."""
        assert isinstance(self.Y, Tensor)
        return self.Y

    def target(self, factor: str) -> Matrix:
        """What is fitted by "W" or "H": Y, or Yᵀ."""
        return self.Y if factor == "W" else self.Y.mT

    def penalties(self, factor: str) -> Penalties:
        return self.weights_penalties if factor == "W" else self.basis_penalties

    def entry_weights(self, factor: str) -> Tensor | None:
        """Of the entries of ``target``."""
        return self.weights if self.weights is None or factor == "W" else self.weights.mT


@dataclass(frozen=True)
class Units:
    """How a problem and its factors go back to what the user sees.

    Attributes:
        batch_shape: the shape that B stands for.
        dtype: of the user's Y.
        root: (B, 1, 1), √s: Y = s · (scaled Y), H = √s · (scaled H), W likewise.
        finite: (B,), whether Y (and the given factors) hold neither NaN nor infinity.
        unit: whether every s is 1.
        whole: whether every problem is finite.
        weight_exponent: (B, 1, 1) e, where the weights of the entries have been divided by 2^e; or None.
        fixed: how many columns of H, the first ones, stay as they were given.
    """

    batch_shape: torch.Size
    dtype: torch.dtype
    root: Tensor
    finite: Tensor
    unit: bool
    whole: bool
    weight_exponent: Tensor | None = None
    fixed: int = 0

    def divergences(self, errors: Tensor, beta: float) -> Tensor:
        """Errors √(2 Σ V d_β), (iterations, B), as the user gets them: d_β(sy | sp) = s^β d_β(y | p)."""
        errors = errors * self.root.flatten().double() ** beta
        return errors if self.weight_exponent is None else errors * torch.exp2(0.5 * self.weight_exponent.flatten())

    def scale(self, X: Tensor) -> Tensor:
        """A factor in the scaled units, finite."""
        X = X if self.unit else X / self.root
        return X if self.whole else torch.where(self.finite[:, None, None], X, 0.0)

    def unscale(self, X: Tensor) -> Tensor:
        """A factor (B, ·, ·) as the user gets it, NaN where the problem is not finite: (*batch, ·, ·)."""
        X = X if self.unit else X * self.root
        X = X if self.whole else torch.where(self.finite[:, None, None], X, torch.nan)
        return X.to(self.dtype).reshape(*self.batch_shape, *X.shape[1:])

    def unscale_factors(self, H: Tensor, W: Tensor, *, unit_basis: bool) -> tuple[Tensor, Tensor]:
        """Both factors; with ``unit_basis`` W takes the scale of both."""
        if unit_basis and not self.unit:
            H, W = H / self.root, W * self.root
        if self.dtype == torch.float16 and not unit_basis:
            H, W = self._within_range(H, W)
        return self.unscale(H), self.unscale(W)

    def _within_range(self, H: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """With a component that one factor has beyond the range of the dtype shared evenly, without rounding.

        HW does not tell how large the two are, and components that are not needed drift.
        """
        of_H, of_W = H.amax(1, keepdim=True) * self.root, W.amax(2, keepdim=True).mT * self.root  # (B, 1, k)
        smaller, larger = torch.minimum(of_H, of_W), torch.maximum(of_H, of_W)
        lost = (smaller > 0) & (smaller < torch.finfo(self.dtype).smallest_normal) & (larger > 1)
        drifted = lost | (larger > torch.finfo(self.dtype).max)
        drifted[..., : self.fixed] = False
        size_H, size_W = (x.clamp(min=torch.finfo(H.dtype).tiny).log2() for x in (of_H, of_W))
        exponent = torch.where(drifted, (0.5 * (size_W - size_H)).round(), 0.0)
        return torch.ldexp(H, exponent), torch.ldexp(W, -exponent.mT)


def relative(square: Tensor, error: Tensor) -> Tensor:
    """√(error / square), (B,): both squared norms in float64. 0/0 counts as 0."""
    ratio = (error.clamp(min=0) / one_where_zero(square)).sqrt()
    return torch.where((square == 0) & (error > 0), math.inf, ratio)
