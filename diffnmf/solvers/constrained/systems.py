"""The linear systems on the free sets, bordered by the sum: refinement and gradient solve them.

K = [A_FF a_F; a_Fᵀ 0] is not definite, and A_FF may be singular where K is not. So one free entry q hides the sum:
x_q = (e − Σ a_j x_j)/a_q leaves, over the others, with w = a/a_q,

    Ã_ij = A_ij − A_iq w_j − w_i A_qj + A_qq w_i w_j,

the Gram matrix of the differences h_j − w_j h_q, which is positive definite wherever the solution is unique.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffnmf.kernels import constrained as kernels
from diffnmf.kernels.calling import available
from diffnmf.solvers.exact.chunks import index_chunks
from diffnmf.solvers.exact.masked import MaskedFactor, factorize_masked


@dataclass(frozen=True)
class BorderedSystems:
    """A_FF v_F + λ a_F = b_F and a_Fᵀ v_F = e for N columns, without λ where the sum does not multiply.

    Attributes:
        A: (P, k, k), N/P columns in a row share one.
        a: (N, k), or None.
        free: (N, k) bool.
        binds: (N,) bool; only where some entry is free, and only with a.
        factor: of Ã, where it is known from something better than A.
    """

    A: Tensor
    a: Tensor | None
    free: Tensor
    binds: Tensor
    factor: MaskedFactor | None = None

    def solve(self, b: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """v (N, k), zero off F, and λ (N,), in memory that is bounded; zero where the system is singular."""
        if available(self.A, b):
            return kernels.solve(self.A, self.a, self.free, self.binds, b, e)
        parts = []
        for numbers in index_chunks(torch.arange(len(b), device=b.device), b.shape[-1]):
            parts.append(self.take(numbers).solve_here(b[numbers], e[numbers]))
        v, multiplier = zip(*parts, strict=True)
        return torch.cat(v), torch.cat(multiplier)

    def take(self, index: Tensor) -> "BorderedSystems":
        """The systems at ``index`` (numbers), each with a matrix of its own."""
        per_matrix = len(self.free) // len(self.A)
        a = None if self.a is None else self.a[index]
        return BorderedSystems(self.A[index // per_matrix], a, self.free[index], self.binds[index])

    def solve_here(self, b: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """As ``solve``, at once and in operations of torch, which may be differentiated."""
        factor = self._factor
        if self.a is None:
            return factor.solve(b), torch.zeros_like(e)
        hidden, w = self.hidden, self.share
        row, b_q = self._row, (b * hidden).sum(-1, keepdim=True)
        A_qq = (row * hidden).sum(-1, keepdim=True)
        rest = torch.where(self.binds, e, 0.0)[:, None] / self._a_q  # of v_q
        b_others = b - w * (b_q - A_qq * rest) - row * rest
        v = factor.solve(b_others)
        v_q = rest - (w * v).sum(-1, keepdim=True)
        v = torch.where(hidden, v_q, v)
        v = torch.where(factor.regular[:, None], v, 0.0)
        gradient = b_q.squeeze(-1) - (row * v).sum(-1)
        multiplier = torch.where(self.binds & factor.regular, gradient / self._a_q.squeeze(-1), 0.0)
        return v, multiplier

    @property
    def pivot(self) -> Tensor:
        """(N,), the smallest pivot of Ã, in units of columns of H of length one; 0 where it is singular."""
        return self._factor.pivot

    @cached_property
    def hidden(self) -> Tensor:
        """(N, k) bool, the entry q: the free one that costs nothing, or else the one with the largest a."""
        if self.a is None:
            return torch.zeros_like(self.free)
        diagonal = self._own.detach().diagonal(dim1=-2, dim2=-1)
        price = torch.where(diagonal == 0, torch.inf, self.a.detach())
        q = torch.where(self.free, price, -torch.inf).argmax(-1, keepdim=True)
        return torch.zeros_like(self.free).scatter(1, q, True) & self.binds[:, None]

    @cached_property
    def _own(self) -> Tensor:
        """A, one for each column."""
        return self.A.repeat_interleave(len(self.free) // len(self.A), dim=0, output_size=len(self.free))

    @cached_property
    def _a_q(self) -> Tensor:
        assert self.a is not None
        a_q = torch.where(self.hidden, self.a, 0.0).sum(-1, keepdim=True)
        return torch.where(self.binds[:, None], a_q, 1.0)

    @cached_property
    def share(self) -> Tensor:
        """(N, k), w = a/a_q: how much of the hidden entry goes for each other one; zero where nothing is hidden."""
        assert self.a is not None
        return torch.where(self.binds[:, None], self.a / self._a_q, 0.0)

    @cached_property
    def _row(self) -> Tensor:
        """Row q of A, (N, k); zero where nothing is hidden."""
        return (self._own * self.hidden.unsqueeze(-1)).sum(-2)

    @cached_property
    def _factor(self) -> MaskedFactor:
        if self.factor is not None:
            return self.factor
        if self.a is None:
            return factorize_masked(self.A, self.free)
        reduced = without_hidden(self._own, self._row, self.share, self.hidden)
        return factorize_masked(reduced, self.free & ~self.hidden)


def without_hidden(A: Tensor, row: Tensor, w: Tensor, hidden: Tensor) -> Tensor:
    """Ã (N, k, k) from A, its row q (N, k), the shares w (N, k) and where q is, (N, k) bool; differentiable."""
    cross, A_qq = row.unsqueeze(-1) * w.unsqueeze(-2), (row * hidden).sum(-1)[:, None, None]
    return A - cross - cross.mT + A_qq * (w.unsqueeze(-1) * w.unsqueeze(-2))
