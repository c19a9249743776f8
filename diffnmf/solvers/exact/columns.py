"""N single-column problems, squared (Gram form) or not, as the active-set method sees them."""

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from diffnmf.solvers.exact.masked import MaskedFactor, factorize_masked
from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.problem import Problem


class Columns(Protocol):
    """N problems min f(x), x ≥ 0, f convex and quadratic, x (N, k) in the scaled unknowns."""

    def take(self, index: Tensor) -> Self:
        """The columns at ``index``, a list of numbers."""

    def minimize(self, free: Tensor) -> tuple[Tensor, MaskedFactor]:
        """The minimum over the entries in ``free`` (N, k), of any sign, zero elsewhere; and the factor behind it."""

    def gradient(self, x: Tensor) -> Tensor:
        """∇f, (N, k)."""


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
        factor = factorize_masked(self.A, free)
        return factor.solve(self.c), factor

    def gradient(self, x: Tensor) -> Tensor:
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

    def minimize(self, free: Tensor) -> tuple[Tensor, MaskedFactor]:
        # min ‖[R D_F; I − D_F] x − [y; 0]‖: least squares on F, zero elsewhere.
        fixed = torch.diag_embed((~free).to(self.R.dtype))
        Q, U = torch.linalg.qr(torch.cat((self.R * free.unsqueeze(-2), fixed), dim=-2))
        k = self.R.shape[-1]
        smallest = 4 * k * torch.finfo(U.dtype).eps
        pivot = U.diagonal(dim1=-2, dim2=-1).abs().amin(-1)
        regular = pivot > smallest
        U = torch.where(regular[:, None, None], U, torch.eye(k, dtype=U.dtype, device=U.device))
        target = (Q[:, :k].mT @ self.y.unsqueeze(-1)) - torch.linalg.solve_triangular(
            U.mT, torch.where(free, self.weight, 0.0).unsqueeze(-1), upper=False
        )
        z = torch.linalg.solve_triangular(U, target, upper=True).squeeze(-1)
        return torch.where(free & regular[:, None], z, 0.0), MaskedFactor(
            U.mT.contiguous(), free, torch.where(regular, pivot.square(), 0.0)
        )

    def gradient(self, x: Tensor) -> Tensor:
        residual = (self.R @ x.unsqueeze(-1)).squeeze(-1) - self.y
        return (self.R.mT @ residual.unsqueeze(-1)).squeeze(-1) + self.weight


def reduced_columns(problem: Problem, form: GramForm, index: Tensor) -> ReducedColumns:
    """The columns at ``index`` (N,), numbers among the B·m of the batch, unsquared."""
    m = form.C.shape[-1]
    problems, owner = torch.unique(index // m, return_inverse=True)
    row_scale, column_scale = form.row_scale[problems], form.column_scale[problems]
    # Ridge is k more rows √ridge I below H, and zeros below Y.
    tail = torch.diag_embed((problem.ridge[problems].double().sqrt() / row_scale).squeeze(-1))
    H = torch.cat((problem.H[problems].double() / row_scale.mT, tail), dim=-2)  # (P, n + k, k)
    Q, R = torch.linalg.qr(H)
    n = problem.Y.shape[1]
    y = Q[:, :n].mT @ (problem.Y[problems].double() / column_scale)  # (P, k, m)
    weight = problem.l1[problems].double() / row_scale / column_scale  # (P, k, m)
    column = index % m
    return ReducedColumns(R[owner], y[owner, :, column], weight[owner, :, column])
