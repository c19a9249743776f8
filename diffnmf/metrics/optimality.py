"""How far W, or H and W together, are from what no small step improves: residuals of the first-order conditions."""

import torch
from torch import Tensor

from diffnmf.checks import check_expands, check_floating, check_tensor
from diffnmf.factorization.half_step import projected
from diffnmf.metrics.matrices import check_factors, check_same_matrix
from diffnmf.solvers.constraints import Asked
from diffnmf.solvers.entry import ranged_problem
from diffnmf.solvers.norms import safe_norm
from diffnmf.solvers.optimality import optimality
from diffnmf.solvers.problem import make_problem


def nnls_kkt_residual(
    H: Tensor,
    Y: Tensor,
    W: Tensor,
    *,
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    allowed: Tensor | None = None,
    weights: Tensor | None = None,
    total: float | Tensor | None = None,
    total_kind: str = "equal",
    upper: float | Tensor | None = None,
    signed: Tensor | None = None,
) -> Tensor:
    """How far W is from the minimum of ½‖Y − HW‖² + Σ l1 W + ½ Σ ridge W² over W ≥ 0, however it came.

    Of the problem with the constraints of ``nnls``, where some are given. It is the largest |min(W̃, g̃)| / ‖y‖ over the
    entries of each column and over the columns, where W̃ = DW, D = diag(‖h_i‖) and g̃ = D⁻¹(Hᵀ(HW − Y) + l1 + ridge W):
    what ``nnls`` reports about its own W.

    In [0, ∞): 0 at a solution only, so a negative entry of W shows as well. At l1 = ridge = 0 it does not change
    when a column of H is scaled and its row of W by the inverse, or a column of Y and that of W together.

    Arguments:
        H: (*batch, n, k), floating point.
        Y: (*batch, n, m), floating point. Batch dimensions broadcast.
        W: (*batch, k, m) or broadcastable to it, floating point.
        ridge: ≥ 0, a number or a tensor that broadcasts to W, (*batch, k, m).
        l1: as ridge.
        allowed, weights, total, total_kind, upper, signed: as in ``nnls``. With any but ``allowed`` it is
            |W̃ − clip(W̃ − g̃)|, clipped to the bounds of W̃, with the multiplier of the sum in g̃,
            D = diag(√(Σ weights h_i² + ridge)) and √(Σ weights y²) in the place of ‖y‖; what W lacks of the sum
            counts, too.

    Returns:
        (*batch,), float64, without gradient; NaN for a problem that is not finite.

    Raises:
        TypeError, ValueError: as ``nnls``, and for W; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import nnls_kkt_residual
        >>> H, Y = torch.eye(2), torch.tensor([[1.0], [-1.0]])
        >>> nnls_kkt_residual(H, Y, torch.tensor([[1.0], [0.0]]))  # the solution
        tensor(0., dtype=torch.float64)
        >>> nnls_kkt_residual(H, Y, Y) > 0.7  # what plain least squares says
        tensor(True)
    """
    asked = Asked(allowed, weights, total, total_kind, upper, signed)
    problem = make_problem(H, Y, ridge=ridge, l1=l1, asked=asked if asked else None)
    check_floating("W", W)
    shape = (*problem.batch_shape, H.shape[-1], Y.shape[-1])
    expanded = check_expands("W", W, shape, "(*batch, k, m) of H and Y,", "expand H or Y to compare several W")
    ranged = ranged_problem(problem)
    residual = optimality(ranged.problem, ranged.scaled(expanded.reshape(len(problem.H), *shape[-2:]))).residual
    if ranged.finite is not None:
        residual = torch.where(ranged.finite.flatten(1).all(1), residual, torch.nan)
    return residual.reshape(problem.batch_shape)


@torch.no_grad()
def projected_gradient(Y: Tensor, H: Tensor, W: Tensor) -> Tensor:
    """‖∇ᴾ‖_F of ½‖Y − HW‖² over H and W together: ∇ where a factor is positive, min(∇, 0) where it is zero.

    In [0, ∞), in the units of Y · (H and W): 0 at the stationary points only, which every local minimum is. Moving
    scale from H to W changes it, so compare it with its value at the start of the same run.

    Arguments:
        Y: (*batch, n, m).
        H: (*batch, n, k), non-negative.
        W: (*batch, k, m), non-negative.

    Returns:
        (*batch,), float64, without gradient.

    Raises:
        TypeError, ValueError: shapes do not fit; the message names the argument.

    Source: Lin (2007), Projected gradient methods for nonnegative matrix factorization, Neural Computation 19(10),
    equation (20).

    Example:
        >>> import torch
        >>> from diffnmf.metrics import projected_gradient
        >>> H, W = torch.rand(8, 2), torch.rand(2, 5)
        >>> projected_gradient(H @ W, H, W) < 1e-5, projected_gradient(2 * H @ W, H, W) > 0.1
        (tensor(True), tensor(True))
    """
    Y, H, W = (check_tensor(name, value).double() for name, value in (("Y", Y), ("H", H), ("W", W)))
    check_factors(H, W)
    Y_hat = H @ W
    check_same_matrix(Y, Y_hat)
    residual = Y_hat - Y
    of_H, of_W = projected(residual @ W.mT, H), projected(H.mT @ residual, W)
    return torch.hypot(safe_norm(of_H, dim=(-2, -1)), safe_norm(of_W, dim=(-2, -1)))
