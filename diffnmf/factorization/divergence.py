"""Beta-divergences between Y and HW, and the two sums that multiplicative updates are made of.

    d_β(y | p) = (y^β + (β − 1) p^β − β y p^(β−1)) / (β (β − 1)),

with the limits y log(y/p) − y + p at β = 1 (Kullback-Leibler) and y/p − log(y/p) − 1 at β = 0 (Itakura-Saito); β = 2 is
half the squared error. Févotte and Idier (2011), Algorithms for nonnegative matrix factorization with the
β-divergence, Neural Computation 23(9).

Of a dense Y some rows or columns are worked on at a time, as they lie in memory: they stay in the cache with the
product that they are held against.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_number
from diffnmf.errors import unknown_name
from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix
from diffnmf.kernels import divergence as kernels
from diffnmf.kernels.calling import TYPES, available

LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
# What an entry of HW counts as at the least where it is divided by, at β ≥ 1: Y is about 1. That of scikit-learn, so
# that the iterates are the same.
FLOOR = torch.finfo(torch.float32).eps
PIECE = 2**18  # entries of Y (B, p, N) at a time on the CPU: of 2^16 to 2^19 the best, or nearly so


def least_product(beta: float, dtype: torch.dtype) -> float:
    """What an entry of HW counts as at the least where it is divided by.

    Below β = 1 small entries of Y count nearly as much as large ones, at β = 0 exactly as much: the floor lies as low
    as p^(β−3), the highest power that is needed, allows for sums of 2^20 of them.
    """
    if beta >= 1:
        return FLOOR
    return min(FLOOR, (torch.finfo(dtype).max / 2**20) ** (1 / (beta - 3)))


def _as_divisor(P: Tensor, beta: float) -> Tensor:
    """P, in place at least ``least_product`` where the gradient divides by it."""
    return P.clamp_(min=least_product(beta, P.dtype)) if beta < 2 else P


def check_beta(name: str, value: object) -> float:
    """β of a loss: a number, or a name of ``LOSSES``."""
    if isinstance(value, str):
        if value not in LOSSES:
            raise unknown_name(name, value, LOSSES)
        return LOSSES[value]
    return float(check_number(name, value, "(-inf, inf)", alternative=f"one of {', '.join(LOSSES)}"))


def has_zeros(Y: Matrix, V: Tensor | None) -> bool:
    """Whether an entry of Y (B, n, m) is zero that counts: V (B, n, m) is its weight, or None."""
    if isinstance(Y, SparseMatrix):
        return int((Y.values > 0).sum()) < math.prod(Y.shape)
    return bool((Y == 0 if V is None else (Y == 0) & (V > 0)).any())


def zeros_refused(name: str) -> ValueError:
    """What is raised for zeros at β ≤ 0, with the words of scikit-learn."""
    return ValueError(
        f"{name}: expected entries > 0 at beta_loss ≤ 0, whose divergence of a zero is infinite; got zeros. When"
        " beta_loss <= 0 and X contains zeros, the solver may diverge. Please add small values to X, or use a"
        " positive beta_loss."
    )


@dataclass(frozen=True)
class DivergenceHalfStep:
    """Reduce Σ V d_β(T | FᵀX) + l1 ΣX + ½ ridge ‖X‖² over X (B, k, N) ≥ 0.

    Attributes:
        other: F (B, k, p), the other factor.
        target: T (B, p, N).
        penalties: of X.
        beta: β.
        weights: V (B, p, N) ≥ 0, or None where all are 1.
    """

    other: Tensor
    target: Matrix
    penalties: Penalties
    beta: float
    weights: Tensor | None = None

    @property
    def knows_error(self) -> bool:
        """The divergence has to be computed by itself, with a logarithm an entry: only now and then."""
        return False

    def pulls(self, X: Tensor) -> tuple[Tensor, Tensor]:
        up, down = (_sparse_sums if isinstance(self.target, SparseMatrix) else _dense_sums)(self, X)
        return up, self.penalties.added(down, X)

    def slopes(self, X: Tensor) -> tuple[Tensor, Tensor]:
        return slopes_of_pulls(X, *self.pulls(X))

    def error(self, square: Tensor, X: Tensor, *, may_look: bool) -> Tensor:
        """√(2 Σ V d_β), (B,) float64, as scikit-learn reports it; in the scaled units."""
        if isinstance(self.target, SparseMatrix):
            total = _sparse_divergence(self, X)
        else:
            total = torch.zeros(len(X), dtype=torch.float64, device=X.device)
            for piece in _pieces(self, X):
                terms = divergences(piece.T, piece.P, self.beta)
                if piece.V is not None:
                    terms = torch.where(piece.V > 0, piece.V * terms, 0.0)  # infinite, maybe, of what is not known
                total += terms.sum(1).sum(1, dtype=torch.float64)
        return (2 * total.clamp(min=0)).sqrt()


def slopes_of_pulls(X: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """``slopes`` for multiplicative updates: X ∘ ∇, which is zero at their fixed points."""
    return X * (down - up), X * down


def divergences(T: Tensor, P: Tensor, beta: float) -> Tensor:
    """d_β(T | P), entry by entry; P counts as ``least_product`` at the least where it is divided by.

    With x = T/P it is P^β (x^β − 1 − β (x − 1)) / (β (β − 1)), where near β = 0 and near β = 1 nothing may be lost of
    (x^β − 1) / β and of x (x^(β−1) − 1) / (β − 1).
    """
    if beta == 2:
        return 0.5 * (T - P).square()
    Q = P.clamp(min=least_product(beta, P.dtype))
    ratio = T / Q
    if beta == 1:
        return ratio.clamp_(min=torch.finfo(T.dtype).tiny).log_().mul_(T).sub_(T).add_(P)
    if abs(beta) < 0.5:
        terms = Q.pow(beta) * (power_less_one(ratio.log(), beta) - (ratio - 1)) / (beta - 1)
    elif abs(beta - 1) <= 0.5:
        log = ratio.clamp(min=torch.finfo(T.dtype).tiny).log()  # of a zero, which it is multiplied with
        terms = Q.pow(beta) * (ratio * power_less_one(log, beta - 1) - (ratio - 1)) / beta
    else:
        terms = (T.pow(beta) + (beta - 1) * Q.pow(beta) - beta * T * Q.pow(beta - 1)) / (beta * (beta - 1))
    # Where it is not divided by, P may be zero.
    return terms.add_((P.pow(beta) - Q.pow(beta)) / beta) if beta > 0 else terms


def power_less_one(log: Tensor, exponent: float) -> Tensor:
    """(x^exponent − 1) / exponent of x with this logarithm, which is its limit at 0."""
    return log if exponent == 0 else torch.expm1(exponent * log) / exponent


class _Piece(NamedTuple):
    """Some rows of T, or some columns, that lie together in memory: with P = FᵀX there, and V."""

    rows: slice
    columns: slice
    T: Tensor
    P: Tensor
    V: Tensor | None


def _pieces(half: DivergenceHalfStep, X: Tensor) -> Iterator[_Piece]:
    F, T = half.other, half.target
    assert isinstance(T, Tensor)
    batch, p, width = T.shape
    whole = slice(None)
    by_columns = T.stride(-1) != 1 and T.stride(-2) == 1
    length, across = (width, p) if by_columns else (p, width)
    size = max(16, PIECE // max(1, batch * across)) if X.device.type == "cpu" else max(1, length)
    for start in range(0, length, size):
        some = slice(start, start + size)
        rows, columns = (whole, some) if by_columns else (some, whole)
        V = None if half.weights is None else half.weights[:, rows, columns]
        # P lies in memory as T does.
        P = (X[..., columns].mT @ F).mT if by_columns else F[..., rows].mT @ X
        yield _Piece(rows, columns, T[:, rows, columns], P, V)


def _dense_sums(half: DivergenceHalfStep, X: Tensor) -> tuple[Tensor, Tensor]:
    """F (V T P^(β−2)) and F (V P^(β−1)), both (B, k, N)."""
    F, target, beta = half.other, half.target, half.beta
    assert isinstance(target, Tensor)
    whole = beta == 1 and half.weights is None
    down = F.sum(2, keepdim=True).expand_as(X) if whole else torch.zeros_like(X)
    if whole and X.dtype in TYPES and available(F, target, X):
        return kernels.kl_pull(F, target, X, FLOOR), down
    up = torch.zeros_like(X)
    Q: Tensor
    R: Tensor | None
    for rows, columns, T, P, V in _pieces(half, X):
        if beta == 2:
            Q, R = T, P
        elif beta == 1:
            Q = T / P.clamp_(min=FLOOR)
            R = None if V is None else torch.ones_like(P)
        else:
            P = _as_divisor(P, beta)
            R = P.pow(beta - 1)
            Q = T * P.pow(beta - 2)
        up[..., columns] += F[..., rows] @ (Q if V is None else Q * V)
        if R is not None:
            down[..., columns] += F[..., rows] @ (R if V is None else R * V)
    return up, down


def _sparse_sums(half: DivergenceHalfStep, X: Tensor) -> tuple[Tensor, Tensor]:
    """The same where T is sparse: the first sum needs P only where T is not zero, the second one column by column."""
    T, F, beta = half.target, half.other, half.beta
    assert isinstance(T, SparseMatrix)
    turned = T.mT  # (N, p): products with F from the right
    P = turned.sampled_product(X[0], F[0])
    values = turned.values
    if beta == 2:
        return (turned.rows @ F[0].mT.contiguous()).mT.unsqueeze(0), (F @ F.mT) @ X
    P = _as_divisor(P, beta)
    ratio = values / P if beta == 1 else values * P.pow(beta - 2)
    up = (turned.with_values(ratio).rows @ F[0].mT.contiguous()).mT.unsqueeze(0)
    if beta == 1:
        return up, F.sum(2, keepdim=True).expand_as(X)
    return up, _sum_of_powers(F, X, beta)


def _sum_of_powers(F: Tensor, X: Tensor, beta: float) -> Tensor:
    """F P^(β−1) with P = FᵀX, some columns at a time."""
    down = torch.empty_like(X)
    size = max(16, PIECE // F.shape[2])
    for start in range(0, X.shape[2], size):
        some = slice(start, start + size)
        P = F.mT @ X[..., some]
        down[..., some] = F @ _as_divisor(P, beta).pow(beta - 1)
    return down


def _sparse_divergence(half: DivergenceHalfStep, X: Tensor) -> Tensor:
    """Σ d_β(T | P): the entries where T is zero add Σ P^β / β (Σ P at β = 1) over all of them; at β ≤ 0 none is."""
    T, F, beta = half.target, half.other, half.beta
    assert isinstance(T, SparseMatrix)
    P, values = T.sampled_product(F[0], X[0]), T.values
    if beta == 2:  # ½‖T‖² − ⟨T, P⟩ + ½‖P‖²
        products = ((F @ F.mT) * (X @ X.mT)).sum((1, 2), dtype=torch.float64)
        return 0.5 * products + (0.5 * values * values - values * P).sum(dtype=torch.float64)
    stored = divergences(values, P, beta).sum(dtype=torch.float64)
    if beta <= 0:
        return stored.expand(1)
    if beta == 1:
        total = (F.sum(2, dtype=torch.float64) * X.sum(2, dtype=torch.float64)).sum(1)
        return stored + total - P.sum(dtype=torch.float64)
    total = torch.zeros(1, dtype=torch.float64, device=X.device)
    size = max(16, PIECE // F.shape[2])
    for start in range(0, X.shape[2], size):
        total += ((F.mT @ X[..., start : start + size]).pow(beta) / beta).sum((1, 2), dtype=torch.float64)
    return stored + total - (P.pow(beta) / beta).sum(dtype=torch.float64)
