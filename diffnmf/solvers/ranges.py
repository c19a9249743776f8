"""Problems in range: finite, and of a size at which squares neither overflow nor vanish. Solvers see no others.

A column of H or Y that is too large or too small is scaled by a power of two, which rounds nothing. A column of Y with
a NaN or an infinity becomes zero, and so does a whole problem whose H, ridge or l1 has one; what is then found for it
becomes NaN. To everything else such a column is a constant: it changes no other weight and no gradient.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffnmf.solvers.problem import Problem

# Of the largest entry of a column. Products of three are still normal numbers of float64. All of float32 is inside.
SMALLEST, LARGEST = 2.0**-340, 2.0**340
ENOUGH_L1 = 2.0**800  # above HᵀY for every H and Y in range


@dataclass(frozen=True)
class InRange:
    """A problem in range, and the way of its weights back to the user's units.

    Attributes:
        problem: B problems; ridge may differ from row to row, and l1 from entry to entry of W.
        finite: (B, 1, m) bool, the columns whose input is finite; None: all of them.
        basis_exponent: (B, 1, k), H = 2^basis_exponent · (the H of ``problem``); None, with target_exponent: 0.
        target_exponent: (B, 1, m), likewise.
        weight_exponent: (B, 1, m), likewise for the weights of the squares, and so for the whole objective; None: 0.
    """

    problem: Problem
    finite: Tensor | None = None
    basis_exponent: Tensor | None = None
    target_exponent: Tensor | None = None
    weight_exponent: Tensor | None = None

    def weights(self, W: Tensor) -> Tensor:
        """From the weights of ``problem`` (B, k, m) to those of the user, NaN where the input is not finite."""
        if self.basis_exponent is not None and self.target_exponent is not None:
            W = times_power(W, self.target_exponent - self.basis_exponent.mT)
        return W if self.finite is None else torch.where(self.finite, W, torch.nan)

    def scaled(self, W: Tensor) -> Tensor:
        """From the weights of the user (B, k, m) to those of ``problem``, 0 where the input is not finite."""
        if self.basis_exponent is not None and self.target_exponent is not None:
            W = times_power(W, self.basis_exponent.mT - self.target_exponent)
        return W if self.finite is None else torch.where(self.finite, W, 0.0)

    def gradient(self, G: Tensor) -> Tensor:
        """From a derivative by the weights of ``problem`` (B, k, m), such as HᵀY, to that by those of the user."""
        if self.basis_exponent is not None and self.target_exponent is not None:
            G = times_power(G, self.basis_exponent.mT + self.target_exponent)
        return G if self.weight_exponent is None else times_power(G, self.weight_exponent)


def in_range(problem: Problem, *, may_look: bool) -> InRange:
    """Bring B problems into range. Differentiable; those that are in range keep every bit.

    Arguments:
        problem: B problems as the user gave them.
        may_look: whether Python may read results, to do nothing where there is nothing to do.
    """
    if problem.H.numel() == 0 or problem.Y.numel() == 0 or (may_look and is_in_range(problem)):
        return InRange(with_penalty_for_allowed(problem))
    size_H, size_Y = (X.detach().abs().amax(-2, keepdim=True).double() for X in (problem.H, problem.Y))
    ridge = problem.ridge.detach().double()
    whole = torch.stack([x.isfinite().flatten(1).all(1) for x in (size_H, ridge, problem.l1.detach())]).all(0)
    whole = whole[:, None, None]
    finite = whole & size_Y.isfinite()
    clean = replace(
        problem,
        H=torch.where(whole, problem.H, 0.0),
        Y=torch.where(finite, problem.Y, 0.0),
        ridge=torch.where(whole, problem.ridge, 0.0),
        l1=torch.where(whole, problem.l1, 0.0),
    )
    # Under ridge the diagonal of the system is ‖h‖² + ridge.
    basis_exponent, target_exponent = (
        range_exponent(torch.maximum(size_H, ridge.clamp(min=0).sqrt().mT)),
        range_exponent(size_Y),
    )
    if may_look and not (basis_exponent.any() or target_exponent.any()):
        return InRange(with_penalty_for_allowed(clean), finite)
    return scaled(clean, finite, basis_exponent, target_exponent)


def with_penalty_for_allowed(problem: Problem) -> Problem:
    """Entries that are not allowed start at zero and get an l1 that keeps them there: solvers need not know of them."""
    if problem.allowed is None:
        return problem
    l1 = torch.where(problem.allowed, problem.l1.double(), ENOUGH_L1)
    W0 = None if problem.W0 is None else torch.where(problem.allowed, problem.W0, 0.0)
    return replace(problem, l1=l1, W0=W0, allowed=None)


def scaled(clean: Problem, finite: Tensor, basis_exponent: Tensor, target_exponent: Tensor) -> InRange:
    """H · 2^−basis_exponent (B, 1, k), Y · 2^−target_exponent (B, 1, m), and penalties that mean the same as before."""
    factor = torch.exp2(-basis_exponent)
    enough = min(ENOUGH_L1, torch.finfo(clean.l1.dtype).max)
    problem = replace(
        clean,
        H=clean.H * factor.to(clean.H),
        Y=clean.Y * torch.exp2(-target_exponent).to(clean.Y),
        ridge=clean.ridge * factor.mT.to(clean.H) * factor.mT.to(clean.H),
        l1=times_power(clean.l1, -(basis_exponent.mT + target_exponent)).clamp(max=enough),
        W0=None if clean.W0 is None else times_power(clean.W0, basis_exponent.mT - target_exponent),
    )
    return InRange(with_penalty_for_allowed(problem), finite, basis_exponent, target_exponent)


def times_power(X: Tensor, exponent: Tensor) -> Tensor:
    """X · 2^exponent in the dtype of X, for whole exponents; in two steps, since the power itself may overflow."""
    half = (exponent / 2).trunc()
    return X * torch.exp2(half).to(X) * torch.exp2(exponent - half).to(X)


def range_exponent(size: Tensor) -> Tensor:
    """e such that 2^−e brings numbers with this largest magnitude into range; 0 where they are, or are not finite."""
    outside = size.isfinite() & (size > 0) & ((size < SMALLEST) | (size > LARGEST))
    # Beyond 1000 the power itself would leave the range of float64; what is then left of the size does no harm.
    return torch.where(outside, torch.log2(torch.where(outside, size, 1.0)).floor(), 0.0).clamp(-1000, 1000)


def is_in_range(problem: Problem) -> bool:
    """Whether there is nothing to do, from as few passes over H and Y as possible."""
    H, Y, ridge, l1 = (x.detach() for x in problem.inputs)
    penalties = bool((ridge.double().abs() <= LARGEST**2).all()) and bool(l1.isfinite().all())
    return penalties and _columns_in_range(H) and _columns_in_range(Y)


def _columns_in_range(X: Tensor) -> bool:
    smallest, largest = torch.aminmax(X)
    if not bool(torch.maximum(-smallest, largest).double() <= LARGEST):  # NaN is not, either
        return False
    if X.dtype == torch.float32:
        return True
    # A sum of n entries is at most n times the largest: columns whose sum is not small need no further look.
    small = X.sum(-2).abs() < SMALLEST * X.shape[-2]  # (B, columns)
    if not bool(small.any()):
        return True
    size = X.mT[small].abs().amax(-1)
    return bool(((size == 0) | (size >= SMALLEST)).all())
