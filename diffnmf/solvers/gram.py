"""The Gram form of a problem, scaled so that one tolerance fits every input: n is gone, and so are the units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.problem import Problem

LARGEST_DESCENT = 1e30


@dataclass(frozen=True)
class GramForm:
    """min ½ xᵀ A x − cᵀ x, x ≥ 0 for every column, in float64, with A of unit diagonal and |c| ≤ 1 (at l1 = 0).

    With d_j = √(‖h_j‖² + ridge) and s = ‖y‖:  A = D⁻¹(HᵀH + ridge I)D⁻¹,  C = D⁻¹(HᵀY − l1)/s,  W = s D⁻¹ X.
    Float64 because HᵀH squares the condition number of H, and k×k matrices cost little beside forming them.

    Attributes:
        A: (B, k, k). The row of a zero column of H is that of the identity; nothing ever makes it free.
        C: (B, k, m).
        row_scale: (B, k, 1), the d_j.
        column_scale: (B, 1, m), the s.

    Example:
        >>> import torch
        >>> from diffnmf.solvers import GramForm
        >>> A, C = torch.eye(2)[None], torch.tensor([[[1.0], [0.0]]])  # of H = diag(2, 1) and y = (2, 0)
        >>> form = GramForm(A, C, row_scale=torch.tensor([[[2.0], [1.0]]]), column_scale=torch.tensor([[[2.0]]]))
        >>> form.unscale(form.C)  # A is the identity: C is the solution of the scaled problem
        tensor([[[1.],
                 [0.]]])
    """

    A: Tensor
    C: Tensor
    row_scale: Tensor
    column_scale: Tensor

    def single(self) -> "GramForm":
        """The same in float32, for iterations that only guess the free set; the scaling keeps every number in range."""
        return GramForm(self.A.float(), self.C.float(), self.row_scale.float(), self.column_scale.float())

    def scale(self, W: Tensor) -> Tensor:
        """A warm start in the scaled unknowns: (B, k, m), non-negative, unusable entries zero."""
        W = W.double()
        usable = (W * self.row_scale / self.column_scale).isfinite()
        # Chosen before the product: times a gradient of zero, what is not finite would be NaN.
        return (torch.where(usable, W, 0.0) * self.row_scale / self.column_scale).clamp(min=0)

    def unscale(self, X: Tensor) -> Tensor:
        """The weights W (B, k, m) in the units of H and Y."""
        return X * (self.column_scale / self.row_scale)


def gram_form(problem: Problem) -> GramForm:
    """Build the scaled Gram form of a problem in range. Differentiable, so that iterations on it can be unrolled."""
    H, Y, l1 = problem.H.double(), problem.Y.double(), problem.l1.double()
    # Not vector_norm, whose second derivative is NaN at a column of zeros.
    A, row_scale, column_scale = scale_gram(H.mT @ H, Y.square().sum(-2, keepdim=True), problem.ridge.double())
    if row_scale.requires_grad or column_scale.requires_grad:
        # Bounded before it is divided: infinity in the way of a gradient of zero makes NaN of it.
        l1 = torch.minimum(l1, 2 * LARGEST_DESCENT * (row_scale * column_scale).detach())
    # An l1 beyond this already keeps an entry at zero, and float32 has room for it.
    C = ((H.mT @ Y - l1) / row_scale / column_scale).clamp(min=-LARGEST_DESCENT)
    return GramForm(A, C, row_scale, column_scale)


def scale_gram(gram: Tensor, squares: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, the row scale and the column scale of ``gram_form``, from HᵀH, ‖y‖² (B, 1, m) and the ridge."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1) + ridge.squeeze(-1)  # (B, k)
    row_scale = one_where_zero(diagonal).sqrt().unsqueeze(-1)  # (B, k, 1)
    column_scale = one_where_zero(squares).sqrt()  # (B, 1, m)
    # The diagonal is 1 by the choice of d; written down, it is so without rounding, and for a zero column of H too.
    A = torch.diagonal_scatter(gram / row_scale / row_scale.mT, torch.ones_like(diagonal), dim1=-2, dim2=-1)
    return A, row_scale, column_scale


def penalty_in_units(l1: Tensor, ridge: Tensor, W: Tensor, column_scale: Tensor) -> Tensor:
    """Σ 2 l1 w + ridge w² of W (B, k, m) in units of s², what penalties add to ‖y − Hw‖²/s²; (B, m).

    Divided as it goes: W may be beyond 1e154, and its square no number.
    """
    return ((2 * l1 * W / column_scale + ridge * (W / column_scale) * W) / column_scale).sum(-2)


def bounded_price(l1: Tensor, row_scale: Tensor, column_scale: Tensor) -> Tensor:
    """l1 of the scaled unknowns, bounded as it is in C: that of an entry that is not allowed is no number otherwise."""
    return (l1 / row_scale / column_scale).clamp(max=LARGEST_DESCENT)


@torch.no_grad()
def form_residual(form: GramForm, X: Tensor) -> Tensor:
    """The KKT residual of the scaled Gram form, (B, k, m) to (B,)."""
    gradient = torch.baddbmm(form.C, form.A, X, beta=-1)
    return torch.minimum(X, gradient).abs().amax(dim=(-2, -1))


def reachable(tol: float, dtype: torch.dtype) -> float:
    """A tolerance for ``form_residual`` that rounding lets an iteration reach; 0 stays 0, never."""
    return max(tol, 100 * torch.finfo(dtype).eps) if tol > 0 else 0.0
