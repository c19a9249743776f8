"""What the estimator computes for given components: the weights of every sample, and how far HW is from Y."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.divergence import DivergenceHalfStep, has_zeros, zeros_refused
from diffnmf.factorization.divergence_weights import divergence_weights
from diffnmf.factorization.entry_weights import weights_in_units
from diffnmf.factorization.exact_weights import exact_weights
from diffnmf.factorization.nmf_problem import Penalties, largest_penalty
from diffnmf.factorization.sparse_matrix import Matrix, ObservedMatrix, SparseMatrix, batch_of_one, largest_of_columns
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero, safe_norm
from diffnmf.solvers.ranges import range_exponent, times_power


@dataclass(frozen=True)
class Loss:
    """½ Σ V (Y − HW)², or Σ V d_β(Y | HW), and the penalties of W.

    Attributes:
        beta: β.
        l1: of W, ≥ 0.
        ridge: of W, ≥ 0.
    """

    beta: float = 2.0
    l1: float = 0.0
    ridge: float = 0.0


@torch.no_grad()
@precisely
def weights_of(H: Tensor, Y: Tensor, V: Tensor | None, loss: Loss, *, observed: bool = False) -> Tensor:
    """W (k, m) ≥ 0 for H (n, k), Y (n, m), dense or sparse, and V (n, m) or None: at a minimum of the loss.

    ``observed``: Y is sparse, and known only where it stores something.

    Raises:
        ValueError: an entry is zero where the divergence of a zero is infinite.
    """
    H, target = H.unsqueeze(0), batch_of_one(Y, observed=observed)
    V = None if V is None else V.unsqueeze(0)
    if V is not None and isinstance(target, Tensor):
        target = torch.where(V > 0, target, 0.0)
    if loss.beta == 2:
        return exact_weights(H, target, weights=V, l1=loss.l1, ridge=loss.ridge)[0].to(Y.dtype)
    if loss.beta <= 0 and has_zeros(target, V):
        raise zeros_refused("X")
    target = _within_reach(target, H)
    of_one = torch.ones((), dtype=torch.float64, device=H.device)
    if V is not None:
        V, exponent = weights_in_units(V, V.dtype)
        of_one = torch.exp2(-exponent)
    # In units in which every column of Y and every component are about 1: what is divided by has a floor.
    sizes = one_where_zero(largest_of_columns(target))  # (m,)
    scaled = target.columns_divided(sizes) if isinstance(target, SparseMatrix) else target / sizes
    lengths = one_where_zero(H.amax(1, keepdim=True))  # (1, 1, k)

    def scaled_penalty(x: float, power: int) -> Tensor | None:
        """(1, k, m)"""
        if not x:
            return None
        here = x * of_one * sizes.double() ** (power - loss.beta) / lengths.double().mT ** power
        return here.clamp(max=largest_penalty(H.dtype)).to(H)

    penalties = Penalties(scaled_penalty(loss.l1, 1), scaled_penalty(loss.ridge, 2))
    half = DivergenceHalfStep((H / lengths).mT.contiguous(), scaled, penalties, loss.beta, V)
    return (divergence_weights(half) / lengths.mT * sizes)[0].to(Y.dtype)


def _within_reach(target: Matrix, H: Tensor) -> Matrix:
    """Zero in the features that no component has: they cost the same whatever W is, and may be the largest."""
    reached = H.amax(2) > 0  # (1, n)
    if bool(reached.all()):
        return target
    if isinstance(target, SparseMatrix):
        return target.without_rows(reached[0])
    return torch.where(reached.unsqueeze(2), target, 0.0)


@torch.no_grad()
@precisely
def distance(H: Tensor, W: Tensor, Y: Tensor, V: Tensor | None, beta: float, *, observed: bool = False) -> float:
    """√(Σ V (Y − HW)²), or √(2 Σ V d_β(Y | HW)) for another β than 2; ``observed`` as in ``weights_of``."""
    target = batch_of_one(Y, observed=observed)
    if V is not None and isinstance(target, Tensor):
        target = torch.where(V > 0, target, 0.0)
    if beta != 2:
        if V is None:
            return _divergence_distance(H, W, target, None, beta)
        V, exponent = weights_in_units(V.unsqueeze(0), V.dtype)
        return _divergence_distance(H, W, target, V, beta) * 2.0 ** (0.5 * int(exponent))
    if isinstance(target, ObservedMatrix):
        return float(safe_norm(target.less(H.mT, W).values, dim=0))
    if isinstance(target, SparseMatrix):
        return _sparse_distance(H, W, target)
    residual = target[0] - H @ W
    return float(safe_norm(residual if V is None else residual * V.sqrt(), dim=(0, 1)))


def _divergence_distance(H: Tensor, W: Tensor, target: Matrix, V: Tensor | None, beta: float) -> float:
    """In the units of ``weights_of``, from which d_β(sy | sp) = s^β d_β(y | p) leads back."""
    largest = largest_of_columns(target)  # (m,)
    scale = one_where_zero(largest.amax())
    scaled: Matrix
    if isinstance(target, SparseMatrix):  # β > 0: samples that are small count little
        scaled, W = target.columns_divided(scale.expand_as(largest)), W / scale
    else:
        sizes = torch.where(largest > 0, largest, scale)
        scale = scale if beta > 0 else sizes.amin()  # so that no share is above 1
        shares = ((sizes / scale) ** beta).expand(target.shape)
        scaled, W, V = target / sizes, W / sizes, shares if V is None else shares * V
    half = DivergenceHalfStep(H.mT.unsqueeze(0), scaled, Penalties(), beta, V)
    error = float(half.error(W.new_zeros(1), W.unsqueeze(0), may_look=True))
    return error * float(scale.double() ** (beta / 2))


def _sparse_distance(H: Tensor, W: Tensor, Y: SparseMatrix) -> float:
    """Σ over the stored entries of (y − p)² − p², and all of ‖HW‖², of numbers whose squares are in range."""
    exponent = range_exponent(largest_of_columns(Y).double().amax())
    of_H = range_exponent(H.double().amax(0))  # (k,)
    H, W = times_power(H, -of_H), times_power(times_power(W, of_H.unsqueeze(-1)), -exponent)
    P = Y.sampled_product(H.mT, W).double()
    H, W, values = H.double(), W.double(), times_power(Y.values.double(), -exponent)
    square = (values * (values - 2 * P)).sum() + ((H.mT @ H) * (W @ W.mT)).sum()
    return float(times_power(square.clamp(min=0).sqrt(), exponent))
