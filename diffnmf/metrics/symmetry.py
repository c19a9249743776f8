"""How far a basis is from the true one, where order and scale of the columns mean nothing."""

import torch
from torch import Tensor

from diffnmf.checks import check_matrix
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero, safe_norm, with_unit_columns


@precisely
@torch.no_grad()
def symmetry_adjusted_error(H: Tensor, H_true: Tensor) -> Tensor:
    """min over permutations P and positive diagonals D of ‖H P D − H_true‖_F / ‖H_true‖_F, exactly.

    (HPD, D⁻¹PᵀW) is the same factorisation as (H, W): an error that counts P and D as mistakes says nothing. For a
    column u of length one in the place of a true column h the best scale is max(0, uᵀh), which leaves
    ‖h‖² − max(0, uᵀh)²: a cost for each pair, whose sum over an assignment the Hungarian method makes least.

    Arguments:
        H: (*batch, n, k), of any sign. A zero column explains nothing.
        H_true: (*batch, n, k) or broadcastable to H, or H to it. For weights give W.mT and W_true.mT.

    Returns:
        (*batch,), in [0, 1]: 0 for the same parts in any order and scale, 1 where nothing is explained. NaN where one
        of the two holds a NaN or an infinity, or H_true is zero or has no entry.

    Raises:
        TypeError, ValueError: not two matrices of one shape, or batches of them; the message says which.

    Source: Kuhn (1955), The Hungarian method for the assignment problem, Naval Research Logistics Quarterly 2.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import symmetry_adjusted_error
        >>> H = torch.eye(4, 3)
        >>> symmetry_adjusted_error(5 * H[:, [2, 0, 1]], H)
        tensor(0.)
    """
    from scipy.optimize import linear_sum_assignment  # here, so that `import diffnmf` stays light

    H, H_true = _checked(H, H_true)
    dtype = torch.promote_types(H.dtype, H_true.dtype)
    (n, k), batch = H.shape[-2:], H.shape[:-2]
    if n * k == 0:
        return H.new_full(batch, torch.nan, dtype=dtype)
    U, T = with_unit_columns(H.double()).reshape(-1, n, k), H_true.double().reshape(-1, n, k)
    size = safe_norm(T, dim=(-2, -1))  # (B,)
    T = T / one_where_zero(size)[:, None, None]
    gain = (U.mT @ T).clamp(min=0).square()  # (B, k, k): what column i explains of true column j
    errors = torch.full_like(size, torch.nan)
    for b in (gain.isfinite().flatten(1).all(1) & (size > 0)).nonzero().flatten().tolist():
        i, j = (torch.from_numpy(x).to(H.device) for x in linear_sum_assignment(gain[b].cpu().numpy(), maximize=True))
        u, t = U[b][:, i], T[b][:, j]
        left = t - u * (u * t).sum(0).clamp(min=0)  # formed itself: a difference of squares would lose half the digits
        errors[b] = torch.linalg.matrix_norm(left)
    return errors.reshape(batch).to(dtype)


def _checked(H: Tensor, H_true: Tensor) -> tuple[Tensor, Tensor]:
    """Both, expanded to one batch shape."""
    for name, value in (("H", H), ("H_true", H_true)):
        check_matrix(name, value)
    if H.shape[-2:] != H_true.shape[-2:]:
        raise ValueError(
            f"H_true: expected the rows and columns of H, {tuple(H.shape[-2:])}; got {tuple(H_true.shape[-2:])}"
            " (pad the smaller one with zero columns if some parts are missing)"
        )
    try:
        batch = torch.broadcast_shapes(H.shape[:-2], H_true.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"H_true: expected batch dimensions that broadcast with those of H, {tuple(H.shape[:-2])}; got"
            f" {tuple(H_true.shape[:-2])} (give one true basis, or one for each)"
        ) from None
    return H.expand(*batch, *H.shape[-2:]), H_true.expand(*batch, *H_true.shape[-2:])
