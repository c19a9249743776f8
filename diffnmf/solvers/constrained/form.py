"""The scaled Gram form of a constrained problem."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffnmf.kernels import weighted
from diffnmf.kernels.calling import multiplies
from diffnmf.solvers.constrained.columns import BoundedColumns
from diffnmf.solvers.exact.chunks import entries_in_cache, max_entries
from diffnmf.solvers.exact.masked import as_columns, from_columns
from diffnmf.solvers.gram import LARGEST_DESCENT
from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.products import form_correlation, form_gram, form_squares

LARGEST_COST = 1e100  # whose square is still a number


@dataclass(frozen=True)
class ScaledGram:
    """The matrices of B·m columns with columns of H of length one: d_j = √(‖√Ω h_j‖² + ridge).

    Attributes:
        A: (P, k, k), HᵀΩH + ridge divided by d on both sides; P is B, or B·m where every column has its own.
        weight: (P, k), ‖√Ω h_j‖ / d_j.
        d: (N, k).
        unit: (N, 1), the largest 1/d: the coefficients of a sum of the scaled unknowns are 1/(d unit), at most 1.
        batch: B.
    """

    A: Tensor
    weight: Tensor
    d: Tensor
    unit: Tensor
    batch: int

    @property
    def a(self) -> Tensor:
        """(N, k), the coefficients of the sum."""
        return 1 / (self.d * self.unit)


@dataclass(frozen=True)
class ConstrainedForm:
    """B·m columns in scaled unknowns, w_j = s x_j / d_j, s a length of each column.

    Attributes:
        columns: the N = B·m problems.
        at_most: whether the sum is an upper bound only.
        scaled: their matrices and the d.
        s: (N, 1).
        shortened: (N, 1) bool, where "at most" has been taken for less than it is; None: nowhere.
    """

    columns: BoundedColumns
    at_most: bool
    scaled: ScaledGram
    s: Tensor
    shortened: Tensor | None = None

    def unscale(self, x: Tensor) -> Tensor:
        """W (B, k, m) from x (N, k)."""
        return from_columns(x * self.s / self.scaled.d, self.scaled.batch)

    def gradient(self, G: Tensor) -> Tensor:
        """From a derivative by W (B, k, m) to that by x, (N, k)."""
        return as_columns(G) / self.scaled.d / self.s

    def take(self, numbers: Tensor) -> "ConstrainedForm":
        """The columns ``numbers`` (N,) of one problem, each with a matrix of its own."""
        columns = self.columns.take(numbers)
        d, unit = self.scaled.d[numbers], self.scaled.unit[numbers]
        return ConstrainedForm(
            columns, self.at_most, ScaledGram(columns.A, columns.weight, d, unit, 1), self.s[numbers]
        )

    def start(self, W0: Tensor) -> tuple[Tensor, Tensor]:
        """A warm start: x (N, k) within the bounds, and which entries are in between, bool."""
        x = as_columns(W0.double()) * self.scaled.d / self.s
        x = torch.where(x.isfinite(), x, 0.0)
        x = self.columns.clipped(x)
        return x, (x > self.columns.lower) & (x < self.columns.upper)


def scaled_gram_matrices(problem: Problem) -> ScaledGram:
    """The matrices of a constrained problem in range, in float64."""
    batch, m = len(problem.H), problem.Y.shape[-1]
    G, diagonal = gram_matrices(problem)  # (P, k, k), (P, k) without the ridge
    d, zero = _scales(G.diagonal(dim1=-2, dim2=-1))
    A = torch.diagonal_scatter(G / d.unsqueeze(-1) / d.unsqueeze(-2), (~zero).to(G.dtype), dim1=-2, dim2=-1)
    weight = torch.where(zero, 1.0, diagonal.clamp(min=0).sqrt() / d)
    wide = d.repeat_interleave(batch * m // max(1, len(G)), dim=0, output_size=batch * m)
    return ScaledGram(A, weight, wide, 1 / wide.amin(-1, keepdim=True), batch)


def constrained_form(problem: Problem, enough: float = torch.inf) -> ConstrainedForm:
    """The scaled Gram form of a constrained problem in range, in float64.

    A sum of scaled unknowns of "at most" more than ``enough`` times ‖√Ω y‖ is taken for so much: the room below it is a
    number of its size, and so would be the rounding of x.
    """
    assert problem.constraints is not None
    asked, scaled = problem.constraints, scaled_gram_matrices(problem)
    s = length(problem, from_columns(scaled.d, scaled.batch))
    total, shortened = None if asked.total is None else as_columns(asked.total.double()), None
    if total is not None and asked.at_most and enough < torch.inf:
        most = torch.where(s > 0, enough * s * scaled.unit, torch.inf)
        total, shortened = torch.minimum(total, most), total > most
    if total is not None:
        s = torch.maximum(s, total.abs() / scaled.unit)
    s = one_where_zero(s)
    descent = as_columns(correlation(problem) - problem.l1.double())
    # Under a sum some entry has to be there, however much all of them cost: the differences count.
    c = (descent / scaled.d / s).clamp(min=-LARGEST_DESCENT if total is None else -LARGEST_COST)
    infinite = c.new_full((), torch.inf).expand_as(c)
    upper = infinite if asked.upper is None else as_columns(asked.upper.double()) * scaled.d / s
    lower = torch.zeros_like(c) if asked.signed is None else torch.where(as_columns(asked.signed), -infinite, 0.0)
    a, t = (None, None) if total is None else (scaled.a, (total / scaled.unit / s).squeeze(-1))
    columns = BoundedColumns(scaled.A, scaled.weight, c, lower, upper, a, t)
    return ConstrainedForm(columns, asked.at_most, scaled, s, shortened)


def correlation(problem: Problem) -> Tensor:
    """HᵀΩY (B, k, m), in float64."""
    if problem.squared:
        return problem.Y.double()
    if problem.constraints is None or problem.constraints.weights is None:
        return form_correlation(problem.H, problem.Y)
    return problem.H.double().mT @ (problem.Y.double() * problem.constraints.weights.double())


def length(problem: Problem, d: Tensor) -> Tensor:
    """‖√Ω y‖, (B·m, 1); of a squared problem what is sure to be below it, the largest HᵀY of columns of length one.

    d: (B, k, m) or broadcastable to it.
    """
    if problem.squared:
        return as_columns((problem.Y.double() / d).abs().amax(-2, keepdim=True))
    assert problem.constraints is not None
    Y, weights = problem.Y, problem.constraints.weights
    if weights is None:
        return as_columns(form_squares(Y).sqrt())
    return as_columns((Y.double().square() * weights.double()).sum(-2, keepdim=True).sqrt())


def _scales(diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """The d (P, k), and which are of zero columns of H; those get the smallest of the others, or 1."""
    zero = diagonal <= 0
    least = torch.where(zero, torch.inf, diagonal).amin(-1, keepdim=True)
    usual = torch.where(least.isfinite(), least, 1.0)
    return torch.where(zero, usual, diagonal).sqrt(), zero


def has_own_matrices(problem: Problem) -> bool:
    """Whether each column has a Gram matrix of its own."""
    return problem.ridge.shape[-1] != 1 or _has_own_weights(problem)


def _has_own_weights(problem: Problem) -> bool:
    assert problem.constraints is not None
    weights = problem.constraints.weights
    return weights is not None and weights.shape[-1] != 1


def gram_matrices(problem: Problem) -> tuple[Tensor, Tensor]:
    """HᵀΩH + ridge, (P, k, k), and the diagonal of HᵀΩH, (P, k); P = B, or B·m where every column has its own."""
    assert problem.constraints is not None
    H, weights, ridge = problem.H, problem.constraints.weights, problem.ridge.double()
    k, m = H.shape[-1], problem.Y.shape[-1]
    own = has_own_matrices(problem)
    if problem.squared:
        G = (H.double() + H.double().mT) / 2  # a form wᵀGw knows no other part
        G = G.repeat_interleave(m, dim=0) if own else G
    elif weights is not None and _has_own_weights(problem):
        G = weighted_gram(H.double(), weights.double()).flatten(0, 1)
    else:
        G = form_gram(H) if weights is None else _shared_gram(H.double(), weights.double())
        G = G.repeat_interleave(m, dim=0) if own else G
    ridge = as_columns(ridge.expand(-1, k, m)) if own else ridge.squeeze(-1).expand(-1, k)
    return G + torch.diag_embed(ridge), G.diagonal(dim1=-2, dim2=-1)


@torch.no_grad()
def is_positive_semidefinite(G: Tensor) -> Tensor:
    """Which of the matrices (B, k, k) are so, but for rounding of their dtype; (B,) bool."""
    eps, G = torch.finfo(G.dtype).eps, G.double()
    d = one_where_zero(G.diagonal(dim1=-2, dim2=-1).clamp(min=0)).sqrt()
    A = (G + G.mT) / 2 / d.unsqueeze(-1) / d.unsqueeze(-2)
    rounding = 8 * A.shape[-1] * eps * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return torch.linalg.cholesky_ex(A + rounding)[1] == 0


def _shared_gram(H: Tensor, weights: Tensor) -> Tensor:
    """HᵀΩH (B, k, k) of H (B, n, k) and weights (B, n, 1). Differentiable where a weight is zero, too."""
    G = H.mT @ (H * weights)
    return (G + G.mT) / 2  # rounding has no sides


def weighted_gram(H: Tensor, weights: Tensor) -> Tensor:
    """HᵀΩH for every column: H (B, n, k) and weights (B, n, m) to (B, m, k, k).

    In operations of torch as one product of the weights with the products of two columns of H, (n, k(k+1)/2), of some
    problems at a time.
    """
    if multiplies(H, weights):
        return weighted.gram(H.mT, weights)
    n, k = H.shape[-2:]
    i, j = torch.triu_indices(k, k, device=H.device)
    if isinstance(H.shape[0], torch.SymInt):  # in the graph of an export for any batch, which cannot count pieces
        flat = _pair_sums(H, weights, i, j, n)
    else:
        size = max(1, entries_in_cache(H.device) // max(1, n * len(i)))
        rows = max(1, max_entries(H.device) // max(1, min(size, len(H)) * len(i)))  # whose products may be in memory
        pieces = zip(H.split(size), weights.split(size), strict=True)
        flat = torch.cat([_pair_sums(h, w, i, j, rows) for h, w in pieces])
    number = torch.zeros(k, k, dtype=torch.int64, device=H.device)
    number[i, j] = number[j, i] = torch.arange(len(i), device=H.device)
    return flat[..., number]


def _pair_sums(H: Tensor, weights: Tensor, i: Tensor, j: Tensor, step: int) -> Tensor:
    """Σ over rows of weights · h_i · h_j, (B, m, pairs), ``step`` rows at a time."""
    rows = H.mT.contiguous()  # picking columns of H itself would take twice as long as the products
    runs = zip(rows.split(step, dim=-1), weights.split(step, dim=-2), strict=True)
    sums = sum(w.mT @ (h.index_select(-2, i) * h.index_select(-2, j)).mT for h, w in runs)
    assert isinstance(sums, Tensor)
    return sums


def with_room(columns: BoundedColumns) -> BoundedColumns:
    """A sum of at most t as one that equals t, with one more entry: the room that is left, which costs nothing."""
    assert columns.a is not None

    def padded(x: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(x, (0, 1), value=value)

    return replace(
        columns,
        A=torch.nn.functional.pad(columns.A, (0, 1, 0, 1)),
        weight=padded(columns.weight, 1.0),
        c=padded(columns.c, 0.0),
        lower=padded(columns.lower, 0.0),
        upper=padded(columns.upper, torch.inf),
        a=padded(columns.a, 1.0),
    )
