"""The l1 from which on W is zero: beyond it a layer is switched off, and learns nothing any more."""

import torch
from torch import Tensor

from diffnmf.solvers.constrained.form import correlation
from diffnmf.solvers.constraints import Constraints
from diffnmf.solvers.problem import make_problem
from diffnmf.solvers.ranges import InRange, in_range


@torch.no_grad()
def largest_useful_l1(H: Tensor, Y: Tensor) -> Tensor:
    """The smallest l1 at which every entry of W is zero, per problem: max(0, the largest entry of HᵀY).

    W = 0 solves min ½‖Y − HW‖² + l1 ΣW + ½ ridge ‖W‖², W ≥ 0 where its gradient there, l1 − HᵀY, is nowhere negative,
    whatever the ridge. So useful values of l1 lie below this one, which grows with the units of H and Y and with n:
    choose a fraction of it, such as 0.1. At or above it every code and every gradient of the layer is zero, and
    training cannot bring them back through W.

    Arguments:
        H: (*batch, n, k), floating point.
        Y: (*batch, n, m), floating point. Batch dimensions broadcast. Columns that are not finite count for nothing.

    Returns:
        (*batch,), in the dtype of the inputs (float32 for half precision), without gradient;
        ``l1`` takes it as [..., None, None]. NaN where H, or every column of Y, is not finite.

    Raises:
        TypeError, ValueError: as ``nnls``.

    Example:
        >>> import torch
        >>> from diffnmf.solvers import largest_useful_l1, nnls
        >>> H, Y = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0], [1.0]])
        >>> largest_useful_l1(H, Y)
        tensor(3.)
        >>> nnls(H, Y, l1=3.0).W.max(), nnls(H, Y, l1=2.5).W.max()
        (tensor(0.), tensor(0.2500))
    """
    problem = make_problem(H, Y)
    ranged = in_range(problem, may_look=False)  # any transform may be at work
    return largest_l1(ranged).reshape(problem.batch_shape)


@torch.no_grad()
def largest_l1(ranged: InRange, allowed: Tensor | None = None, known: Tensor | None = None) -> Tensor:
    """``largest_useful_l1`` of B problems in range: (B,), in their dtype, or that of weights that are more precise.

    Arguments:
        ranged: the problems.
        allowed: (B, k, m), as in ``Problem``.
        known: (B,) float64, the largest HᵀY of every problem, if that has been found already.
    """
    problem, dtype = ranged.problem, ranged.problem.H.dtype
    if known is not None and ranged.finite is None and allowed is None:
        return _rounded_up(known, dtype)
    gains = ranged.gradient(correlation(problem))
    if problem.constraints is not None and problem.constraints.weights is not None:
        dtype = torch.promote_types(dtype, problem.constraints.weights.dtype)
    if allowed is not None:
        gains = torch.where(allowed, gains, -torch.inf)
    never = None
    if problem.constraints is not None:
        gains, never = _constrained(problem.constraints, gains)
    exact = gains.flatten(1).amax(1) if gains[0:1].numel() else gains.new_zeros(gains.shape[0])
    if never is not None:
        exact = torch.where(never, torch.inf, exact)
    if ranged.finite is not None:
        exact = torch.where(ranged.finite.flatten(1).any(1), exact, torch.nan)
    return _rounded_up(exact, dtype)


def _rounded_up(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """In ``dtype``, and so that W is zero at the result itself."""
    rounded = exact.to(dtype)
    return torch.where(rounded.double() < exact, rounded * (1 + torch.finfo(dtype).eps), rounded).clamp(min=0)


def _constrained(asked: Constraints, gains: Tensor) -> tuple[Tensor, Tensor]:
    """HᵀY (B, k, m) without the entries that are zero at every l1; and what no l1 empties, (B,)."""
    never = torch.zeros(gains.shape[0], dtype=torch.bool, device=gains.device)
    if asked.signed is not None:
        never = asked.signed.flatten(1).any(1)
    elif asked.total is not None:
        gains = torch.where(asked.total == 0, -torch.inf, gains)
    if asked.upper is not None:
        gains = torch.where(asked.upper == 0, -torch.inf, gains)
    if asked.total is not None and not asked.at_most:
        never = never | (asked.total != 0).flatten(1).any(1)
    return gains, never
