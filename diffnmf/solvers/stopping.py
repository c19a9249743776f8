"""When an iteration on the Gram form may stop."""

import torch
from torch import Tensor

from diffnmf.solvers.gram import GramForm


@torch.no_grad()
def form_residual(form: GramForm, X: Tensor) -> Tensor:
    """The KKT residual of the scaled Gram form, (B, k, m) to (B,)."""
    gradient = torch.baddbmm(form.C, form.A, X, beta=-1)
    return torch.minimum(X, gradient).abs().amax(dim=(-2, -1))


def reachable(tol: float, dtype: torch.dtype) -> float:
    """A tolerance for ``form_residual`` that rounding lets an iteration reach; 0 stays 0, never."""
    return max(tol, 100 * torch.finfo(dtype).eps) if tol > 0 else 0.0
