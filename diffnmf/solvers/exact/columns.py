"""N single-column problems, squared (Gram form) or not, as the active-set method sees them."""

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from diffnmf.solvers.exact.masked import MaskedFactor, factorize_masked
from diffnmf.solvers.gram import GramForm, bounded_price
from diffnmf.solvers.problem import Problem

# A column of H at a distance above this from the span of the free ones gains nothing while its gradient is rounding.
NEARLY_DEPENDENT = 1e-5

# Two columns closer than this, in units of their length, are one. It is what scipy's solver takes for dependent, and no
# tighter: what it can tell apart, this can.
DEPENDENT = 64 * torch.finfo(torch.float64).eps

# In units of ‖y‖: a solution that may lose more of its residual norm by rounding is no better than it is for certain.
MAX_ROUNDING_LOSS = 1e-3


def rounding_tolerance(x: Tensor) -> Tensor:
    """What counts as zero in x and in its gradient Ax − c, per column: (N, k) to (N, 1). |A| ≤ 1 and |c| is about 1."""
    return 2 * x.shape[-1] * torch.finfo(x.dtype).eps * (1.0 + x.abs().sum(dim=-1, keepdim=True))


@dataclass(frozen=True)
class Minimum:
    """The minimum of N problems over their free sets, of any sign.

    Attributes:
        x: (N, k), zero off the free set.
        factor: of the systems that were solved.
        gradient: (N, k), ∇f there.
        value: (N,), what falls and rises with f; known to ``rounding_tolerance(x)``.
        tolerance: (N, k) or (N, 1), what counts as zero in the gradient.
        doubtful: (N, k) bool, entries that may lower f by much though their gradient is but rounding: the column of H
            is nearly in the span of the free ones, and a large step in what it adds to them would follow.
    """

    x: Tensor
    factor: MaskedFactor
    value: Tensor
    gradient: Tensor
    tolerance: Tensor
    doubtful: Tensor


class Columns(Protocol):
    """N problems min f(x), x ≥ 0, f convex and quadratic, x (N, k) in the scaled unknowns."""

    def take(self, index: Tensor) -> Self:
        """The columns at ``index``, a list of numbers."""

    def minimum(self, free: Tensor) -> Minimum:
        """The minimum over the entries in ``free`` (N, k)."""

    def value(self, x: Tensor) -> Tensor:
        """(N,), that of ``Minimum`` at any x (N, k)."""

    def combination(self, free: Tensor, number: Tensor) -> Tensor:
        """(N, k), zero off ``free`` (N, k): of what columns of H that at ``number`` (N,) is the nearest combination."""


@dataclass(frozen=True)
class GramColumns:
    """f = ½ xᵀAx − cᵀx: fast, and good as long as squaring H does not cost the digits that matter.

    Attributes:
        A: (P, k, k), of unit diagonal.
        c: (N, k), N = P·c: c columns in a row share a matrix.
    """

    A: Tensor
    c: Tensor

    def take(self, index: Tensor) -> "GramColumns":
        """The columns at ``index`` (numbers), each with a matrix of its own."""
        return GramColumns(self.A[index // (len(self.c) // len(self.A))], self.c[index])

    def minimize(self, free: Tensor) -> tuple[Tensor, MaskedFactor]:
        """x of ``minimum``, and the factor behind it."""
        factor = factorize_masked(self.A, free)
        return factor.solve(self.c), factor

    def minimum(self, free: Tensor) -> Minimum:
        x, factor = self.minimize(free)
        gradient = self.gradient(x)
        value = 0.5 * (x * (gradient - self.c)).sum(-1)
        # Nothing finer can be asked of a squared H: what is doubtful is for the other form.
        return Minimum(x, factor, value, gradient, rounding_tolerance(x), torch.zeros_like(free))

    def value(self, x: Tensor) -> Tensor:
        return 0.5 * (x * (self.gradient(x) - self.c)).sum(-1)

    def combination(self, free: Tensor, number: Tensor) -> Tensor:
        column = self.A.expand(len(number), -1, -1)[torch.arange(len(number), device=number.device), number]
        return factorize_masked(self.A, free).solve(column)

    def gradient(self, x: Tensor) -> Tensor:
        """∇f = Ax − c, (N, k)."""
        return (x.reshape(len(self.A), -1, x.shape[-1]) @ self.A).reshape(x.shape) - self.c  # A is symmetric


@dataclass(frozen=True)
class ReducedColumns:
    """f = ½‖Rx − y‖² + wᵀx with R from a QR of H: five times slower, and as good as H itself.

    Attributes:
        R: (N, k, k).
        y: (N, k).
        weight: (N, k), the l1 penalty in the scaled unknowns.
    """

    R: Tensor
    y: Tensor
    weight: Tensor

    def take(self, index: Tensor) -> "ReducedColumns":
        return ReducedColumns(self.R[index], self.y[index], self.weight[index])

    def minimum(self, free: Tensor) -> Minimum:
        # min ‖[R D_F; I − D_F] x − [y; 0]‖: least squares on F, zero elsewhere.
        fixed = torch.diag_embed((~free).to(self.R.dtype))
        Q, U = torch.linalg.qr(torch.cat((self.R * free.unsqueeze(-2), fixed), dim=-2))
        k = self.R.shape[-1]
        Q = Q[:, :k]  # of R D_F; the columns off F are zero
        pivot = U.diagonal(dim1=-2, dim2=-1).abs().amin(-1)
        regular = pivot > DEPENDENT
        U = torch.where(regular[:, None, None], U, torch.eye(k, dtype=U.dtype, device=U.device))
        weight = torch.where(free, self.weight, 0.0).unsqueeze(-1)
        shift = torch.linalg.solve_triangular(U.mT, weight, upper=False)
        y = self.y.unsqueeze(-1)
        target = Q.mT @ y - shift
        z = torch.linalg.solve_triangular(U, target, upper=True).squeeze(-1)
        # The residual is what Q leaves of y, not y − Rz: with digits of its own, however small it is and large z is.
        residual = y - Q @ target
        residual = residual - Q @ (Q.mT @ residual - shift)
        gradient = self.weight - (self.R.mT @ residual).squeeze(-1)
        # What rounding leaves in it: the part of a column outside the span of R_F meets rounding of y, which is of unit
        # length, the rest that of the residual. Where nothing but rounding is left of y, the gradient is nothing else.
        eps = torch.finfo(U.dtype).eps
        outside = torch.linalg.vector_norm(self.R - Q @ (Q.mT @ self.R), dim=-2)
        length = torch.linalg.vector_norm(residual, dim=-2)
        tolerance = 2 * k * eps * (length + outside + self.weight.abs())
        tolerance = torch.where(length > 2 * k * eps, tolerance, torch.inf)
        x = torch.where(free & regular[:, None], z, 0.0)
        return Minimum(
            x=x,
            value=self.value(x),
            factor=MaskedFactor(U.mT.contiguous(), free, torch.where(regular, pivot.square(), 0.0)),
            gradient=gradient,
            tolerance=tolerance,
            doubtful=~free & (outside < NEARLY_DEPENDENT) & (outside > DEPENDENT),
        )

    def value(self, x: Tensor) -> Tensor:
        # A norm, because its square would be rounding where y is nearly in the cone.
        residual = (self.R @ x.unsqueeze(-1)).squeeze(-1) - self.y
        value = (residual.square().sum(-1) + 2 * (self.weight * x).sum(-1)).sqrt()
        # Of two points with digits the better one counts, but one without any does not count as what it seems to be.
        loss = torch.finfo(x.dtype).eps * x.sum(-1)
        return torch.where(loss > MAX_ROUNDING_LOSS, value + loss, value)

    def combination(self, free: Tensor, number: Tensor) -> Tensor:
        column = self.R.gather(2, number[:, None, None].expand(-1, self.R.shape[-2], 1)).squeeze(-1)
        return ReducedColumns(self.R, column, torch.zeros_like(self.weight)).minimum(free).x


@dataclass(frozen=True)
class ReducedProblems:
    """The same N columns, with one R (P, k, k) for all columns of a problem: ``owner`` (N,) says which."""

    R: Tensor
    owner: Tensor
    y: Tensor
    weight: Tensor

    def columns(self) -> ReducedColumns:
        return ReducedColumns(self.R[self.owner], self.y, self.weight)


def reduced_problems(problem: Problem, form: GramForm, index: Tensor) -> ReducedProblems:
    """The columns at ``index`` (N,), numbers among the B·m of the batch, unsquared."""
    m = problem.Y.shape[-1]
    problems, owner = torch.unique(index // m, return_inverse=True)
    row_scale, column_scale = form.row_scale[problems], form.column_scale[problems]
    # Ridge is k more rows √ridge I below H, and zeros below Y.
    tail = torch.diag_embed((problem.ridge[problems].double().sqrt() / row_scale).squeeze(-1))
    H = torch.cat((problem.H[problems].double() / row_scale.mT, tail), dim=-2)  # (P, n + k, k)
    Q, R = torch.linalg.qr(H)
    n = problem.Y.shape[1]
    y = Q[:, :n].mT @ (problem.Y[problems].double() / column_scale)  # (P, k, m)
    weight = bounded_price(problem.l1[problems].double(), row_scale, column_scale)  # (P, k, m)
    column = index % m
    return ReducedProblems(R, owner, y[owner, :, column], weight[owner, :, column])


def reduced_columns(problem: Problem, form: GramForm, index: Tensor) -> ReducedColumns:
    """``reduced_problems``, with an R for each column."""
    return reduced_problems(problem, form, index).columns()
