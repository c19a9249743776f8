"""The linear systems that are left when the free sets are known: refinement and gradient solve them again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.kernels import columns as kernels
from diffnmf.kernels.calling import available
from diffnmf.kernels.cuda import calling as cuda
from diffnmf.solvers.exact.chunks import index_chunks, tiles
from diffnmf.solvers.exact.columns import reduced_columns, reduced_problems
from diffnmf.solvers.exact.masked import MaskedFactor, as_columns, factorize_masked, from_columns
from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.problem import Problem


@dataclass(frozen=True)
class DifficultColumns:
    """The columns for which the Gram matrix is too inaccurate: their numbers (N,), and what to factorise anew from."""

    numbers: Tensor
    problem: Problem
    form: GramForm


@dataclass(frozen=True)
class FreeSystems:
    """A_FF x_F = b_F for all columns of a batch on their final free sets, for any number of right-hand sides.

    Attributes:
        A: (B, k, k).
        factor: of the B·m systems; without L they are made anew in runs.
        difficult: without L, the columns that A is too inaccurate for.
    """

    A: Tensor
    factor: MaskedFactor
    difficult: DifficultColumns | None = None

    @property
    def free(self) -> Tensor:
        """(B, k, m) bool."""
        return from_columns(self.factor.free, len(self.A))

    def solve(self, b: Tensor) -> Tensor:
        """X (B, k, m) with A_FF x_F = b_F in every column and zero off F; b (B, k, m)."""
        batch, k, m = b.shape
        free = self.factor.free
        if self.factor.L is not None:
            return from_columns(self.factor.solve(as_columns(b)), batch)
        if available(self.A, b):
            return self._solve_compiled(b)
        if cuda.available(k, self.A, b):
            return self._care_for_difficult(cuda.solve(self.A, self.factor.free, b), b)
        columns = as_columns(b)
        x = torch.cat([factorize_masked(A, free[tile]).solve(columns[tile]) for A, tile in tiles(self.A, m)])
        return self._care_for_difficult(from_columns(x, batch), b)

    def _care_for_difficult(self, X: Tensor, b: Tensor) -> Tensor:
        """X (B, k, m), with the columns for which A is too inaccurate solved without it, in place."""
        if self.difficult is not None:
            x, columns, free = as_columns(X), as_columns(b), self.factor.free  # x is a view: X stands column by column
            for numbers in index_chunks(self.difficult.numbers, b.shape[-2]):
                exact = reduced_columns(self.difficult.problem, self.difficult.form, numbers)
                x[numbers] = exact.minimum(free[numbers]).factor.solve(columns[numbers])
        return X

    def _solve_compiled(self, b: Tensor) -> Tensor:
        X = kernels.solve(self.A, self.factor.free, b)
        if self.difficult is not None:
            numbers = self.difficult.numbers
            exact = reduced_problems(self.difficult.problem, self.difficult.form, numbers)
            columns, free = as_columns(b)[numbers], self.factor.free[numbers]
            as_columns(X)[numbers] = kernels.solve_unsquared(exact.R, exact.owner, free, columns)
        return X
