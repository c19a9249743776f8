"""The part of a large problem that one process has, and the sums over all rows that a factorisation is made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.base import Method
from diffnmf.factorization.divergence import DivergenceHalfStep
from diffnmf.factorization.exact_weights import exact_weights
from diffnmf.factorization.half_step import HalfStep, half_step
from diffnmf.factorization.large.processes import Processes
from diffnmf.factorization.large.rows import Rows
from diffnmf.factorization.nmf_problem import NMFProblem, Units
from diffnmf.layers import NNLSLayer
from diffnmf.solvers.norms import one_where_zero

Change = Callable[[slice, Tensor, Tensor], None]


@dataclass(frozen=True)
class Part:
    """Rows X (count, F) of a matrix X (N, F) ≈ SᵀD: of S (k, N) a process has its columns, D (k, F) is everywhere.

    X is Y or Yᵀ, in the scaled units: where the samples are split, X = Yᵀ, S = W and D = Hᵀ; where the features are,
    X = Y, S = Hᵀ and D = W. An iteration needs each row once: S_b follows from X_b and D, and for D there are only sums
    over the rows, SSᵀ and SX.

    Attributes:
        rows: of this process.
        start: the number of the first of them.
        total: N.
        split: "W" or "H", the factor S.
        processes: that share X.
        problem: without Y: only its shape, square and penalties.
        units: of the problem.
        mean: of the entries of X.
        fingerprint: of the data, for checkpoints; "" where there are none.
    """

    rows: Rows
    start: int
    total: int
    split: str
    processes: Processes
    problem: NMFProblem
    units: Units
    mean: float
    fingerprint: str = ""

    @property
    def shared(self) -> str:
        """The factor D."""
        return "H" if self.split == "W" else "W"

    @property
    def stop(self) -> int:
        return self.start + self.rows.count

    def factors(self, S: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
        """W and Hᵀ of S and D, or S and D of W and Hᵀ."""
        return (S, D) if self.split == "W" else (D, S)

    def blocks(self, S: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Which rows, X_b (rows, F), and a copy of S_b (1, k, rows)."""
        for rows, X in self.rows.blocks():
            yield rows, X, S[..., rows].contiguous()

    def half_step_of_rows(self, method: Method, X: Tensor, D: Tensor) -> HalfStep | DivergenceHalfStep:
        """What is reduced over S_b: T = X_bᵀ (1, F, rows)."""
        target, penalties = X.mT.unsqueeze(0), self.problem.penalties(self.split)
        if method.beta == 2:
            return half_step(D, target, penalties)
        return DivergenceHalfStep(D, target, penalties, method.beta)

    def products(self, S: Tensor, change: Change | None = None, extra: Tensor | None = None) -> tuple[Tensor, ...]:
        """SSᵀ (1, k, k) and SX (1, k, F) over all rows of all processes, in float64, in one pass and one message.

        Arguments:
            S: (1, k, count).
            change: called with rows, X_b and a copy of S_b, which it may change; then S has it, and the sums.
            extra: numbers to be summed over the processes in the same message, and returned at the end.
        """
        k = S.shape[1]
        A = torch.zeros(1, k, k, dtype=torch.float64, device=S.device)
        C = torch.zeros(1, k, self.rows.width, dtype=torch.float64, device=S.device)
        for rows, X, part in self.blocks(S):
            if change is not None:
                change(rows, X, part)
                S[..., rows] = part
            A += part @ part.mT
            C += part @ X
        return tuple(self.processes.sums(A, C, *(() if extra is None else (extra,))))

    def residual_square(self, S: Tensor, D: Tensor) -> Tensor:
        """‖X − SᵀD‖² over all rows, (1,) float64."""
        total = torch.zeros(1, dtype=torch.float64, device=S.device)
        for _, X, part in self.blocks(S):
            residual = torch.addmm(X, part[0].mT, D[0], alpha=-1)
            total += torch.linalg.vector_norm(residual, dtype=torch.float64).square()
        return self.processes.sums(total)[0]

    def largest_of(self, S: Tensor) -> Tensor:
        """The largest entry of every row of S, over all processes: (1, k)."""
        here = S.amax(-1) if S.shape[-1] else S.new_zeros(S.shape[:2])
        return self.processes.largest(here)

    def objective(self, error: Tensor, S: Tensor, D: Tensor) -> Tensor:
        """What is reduced, (1,) float64, at a relative error (1,): as ``NMFProblem.objective``."""
        problem = self.problem
        if not problem.penalized:
            return error.square()
        penalty = self.processes.sums(problem.penalties(self.split)(S))[0] + problem.penalties(self.shared)(D)
        return error.square() + 2 * penalty / one_where_zero(problem.square)

    def fitted(self, S: Tensor | None, D: Tensor | None) -> tuple[Tensor, Tensor]:
        """S and D, of which one may be missing: it is the exact non-negative least squares fit to the other."""
        if S is None:
            assert D is not None
            S = self.weights(D)
        elif D is None:
            A, C = self.products(S)
            solve = NNLSLayer(backward="detached")
            D = solve.solve_gram(A, C).to(S.dtype).contiguous()
        return S, D

    def weights(self, D: Tensor, l1: float = 0.0, ridge: float = 0.0) -> Tensor:
        """The exact S (1, k, count) for D (1, k, F), block by block."""
        S = D.new_empty(1, D.shape[1], self.rows.count)
        for rows, X in self.rows.blocks():
            S[..., rows] = exact_weights(D.mT, X.mT.unsqueeze(0), l1=l1, ridge=ridge)
        return S
