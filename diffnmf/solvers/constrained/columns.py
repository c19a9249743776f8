"""N single-column problems with bounds and a sum, on the scaled Gram form."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_RESIDUAL = 1e-12  # absolute: a huge x must not hide a residual behind its rounding


@dataclass(frozen=True)
class BoundedColumns:
    """min ½ xᵀAx − cᵀx subject to lower ≤ x ≤ upper and, where there is an a, aᵀx = t; in float64.

    Attributes:
        A: (P, k, k), its diagonal 1, or 0 for an entry that costs nothing.
        weight: (P, k), in (0, 1]: ‖h_j‖ in units of d_j, which rounding of the gradient is proportional to.
        c: (N, k), N = P·m: m columns in a row share a matrix.
        lower, upper: (N, k), 0 or −∞, and ≥ 0 or ∞.
        a, t: (N, k), > 0, and (N,); None without a sum.
    """

    A: Tensor
    weight: Tensor
    c: Tensor
    lower: Tensor
    upper: Tensor
    a: Tensor | None
    t: Tensor | None

    @property
    def per_matrix(self) -> int:
        """How many columns share a matrix."""
        return len(self.c) // max(1, len(self.A))

    @property
    def most_steps(self) -> int:
        """After how many steps of pivoting a column is given up."""
        return 10 * self.c.shape[-1] + 20

    def take(self, index: Tensor) -> "BoundedColumns":
        """The columns at ``index`` (numbers), each with a matrix of its own."""
        owner = index // self.per_matrix
        a, t = (None if v is None else v[index] for v in (self.a, self.t))
        return BoundedColumns(
            self.A[owner], self.weight[owner], self.c[index], self.lower[index], self.upper[index], a, t
        )

    def clipped(self, x: Tensor) -> Tensor:
        """x (N, k) within the bounds."""
        return torch.maximum(torch.minimum(x, self.upper), self.lower)

    def times_A(self, x: Tensor) -> Tensor:
        """Ax for x (N, k)."""
        return (x.reshape(len(self.A), -1, x.shape[-1]) @ self.A).reshape(x.shape)  # A is symmetric

    def multiplier(self, descent: Tensor, free: Tensor) -> Tensor:
        """λ (N, 1), with which descent − λa, of c − Ax (N, k), is least on the free entries; zero without any."""
        if self.a is None:
            return torch.zeros_like(descent[:, :1])
        on = torch.where(free, self.a, 0.0)
        square = on.square().sum(-1, keepdim=True).clamp(min=torch.finfo(on.dtype).tiny)
        return (on * descent).sum(-1, keepdim=True) / square

    def tolerance(self, x: Tensor, multiplier: Tensor) -> Tensor:
        """(N, k), what counts as zero in the gradient at x: rounding of the products that it is made of."""
        rounding = self.entry_tolerance(x, multiplier)
        return rounding * self.weight.repeat_interleave(self.per_matrix, dim=0, output_size=len(x))

    def entry_tolerance(self, x: Tensor, multiplier: Tensor) -> Tensor:
        """(N, 1), what counts as zero in x; ``multiplier`` (N, 1)."""
        return 2 * x.shape[-1] * torch.finfo(x.dtype).eps * (self.size(multiplier) + x.abs().sum(-1, keepdim=True))

    def size(self, multiplier: Tensor) -> Tensor:
        """(N, 1), what c − λa is made of; 1 at least.

        A large price, c_j < 0, that keeps an entry at zero is rounding to no other entry, and where it does not,
        λ or Σ|x| are as large.
        """
        counts = (self.c > 0) | self.lower.isinf()
        size = torch.where(counts, self.c.abs(), 0.0).amax(-1, keepdim=True)
        return torch.maximum(size, multiplier.abs()).clamp(min=1.0)


@dataclass
class BoundedSolution:
    """Solutions of N columns, filled in as they are found.

    Attributes:
        x: (N, k), within the bounds.
        free: (N, k) bool, the entries that are held by no bound.
        binds: (N,) bool, whether the sum holds a free entry, so that it has a multiplier.
        pivot: (N,), how independent the free columns of H are, see ``BorderedSystems``.
        solved: (N,) bool.
        steps: (N,) int64.
    """

    x: Tensor
    free: Tensor
    binds: Tensor
    pivot: Tensor
    solved: Tensor
    steps: Tensor

    def put(self, index: Tensor, other: "BoundedSolution") -> None:
        """Replace the columns at ``index`` (numbers) in place; the steps are added."""
        self.steps[index] += other.steps
        for name in ("x", "free", "binds", "pivot", "solved"):
            getattr(self, name)[index] = getattr(other, name)
