"""How far W is from optimal, and the dual variables: of the plain problem and of a constrained one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.kernels import judgement as kernels
from diffnmf.kernels.calling import multiplies
from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.products import form_squares, residual_gradient

# Of √(2f) over the least possible, in units of ‖y‖. The rounding of W alone costs up to 1.1e-16 Σ ‖hᵢ‖ wᵢ / ‖y‖.
ALLOWED_EXCESS = 9e-10


@dataclass(frozen=True)
class Optimality:
    """Of B problems and their W (B, k, m).

    Attributes:
        residual: (B,), float64, the KKT residual of the library: with unit columns of H, the largest |min(W, gradient)|
            of a problem, in units of ‖y‖.
        size: (B,), float64, the largest ‖W‖₁ / ‖y‖ with unit columns of H, which rounding in the residual grows with.
            About 1 for a well-conditioned or non-negative H, and large where columns of H nearly cancel each other.
        gradient: (B, k, m), float64, of ½‖√Ω(Y − HW)‖² + ½ Σ ridge W² by W: the l1 is left out.
        squares: (B, 1, m), float64, ‖y − Hw‖²; None for constrained problems.
        gains: (B,), float64, the largest HᵀY, where that is at hand; or None.
        certain: (B,) bool, the problems whose residual norms are certainly within ``ALLOWED_EXCESS`` of the least
            possible, as far as that is at hand; or None.
        total_dual: (B, 1, m), float64, the derivative of the minimum by the total; 0 without one.
    """

    residual: Tensor
    size: Tensor
    gradient: Tensor
    total_dual: Tensor
    squares: Tensor | None = None
    gains: Tensor | None = None
    certain: Tensor | None = None


@torch.no_grad()
def optimality(problem: Problem, W: Tensor) -> Optimality:
    """Judge W (B, k, m) by B problems in range (see ``ranges.py``)."""
    W = W.double()
    return _plain(problem, W) if problem.constraints is None else _constrained(problem, W)


def objective_gradient(problem: Problem, W: Tensor) -> Tensor:
    """HᵀΩ(HW − Y) + ridge W, (B, k, m), in float64."""
    ridge = problem.ridge.double()
    if problem.squared:
        H = problem.H.double()
        return 0.5 * (H + H.mT) @ W + ridge * W - problem.Y.double()
    if problem.constraints is None or problem.constraints.weights is None:
        return residual_gradient(problem.H, problem.Y, W)[0] + ridge * W
    H = problem.H.double()
    residual = torch.baddbmm(problem.Y.double(), H, W, beta=-1)
    return H.mT @ (residual * problem.constraints.weights.double()) + ridge * W


def _plain(problem: Problem, W: Tensor) -> Optimality:
    """The largest |min(W̃, g̃)| / ‖y‖, with the columns of H scaled to unit norm: W̃ = DW, g̃ = D⁻¹(gradient + l1).

    It is zero at the solution only and does not change when a column of H or Y is scaled (at ridge = l1 = 0).
    """
    if multiplies(*problem.inputs, W) and problem.H.numel() and problem.Y.numel():
        return _by_kernel(problem, W)
    gradient, squares = residual_gradient(problem.H, problem.Y, W)
    gradient = gradient + problem.ridge.double() * W
    norms = one_where_zero(form_squares(problem.H)).sqrt().mT  # (B, k, 1)
    lengths = one_where_zero(form_squares(problem.Y)).sqrt()  # (B, 1, m)
    violation = torch.minimum(W * norms, (gradient + problem.l1.double()) / norms).abs() / lengths
    size = (W * norms).sum(-2, keepdim=True) / lengths
    return Optimality(_largest(violation), _largest(size), gradient, torch.zeros_like(size), squares)


def _by_kernel(problem: Problem, W: Tensor) -> Optimality:
    """The same from one pass over H and Y."""
    H, Y = problem.H, problem.Y
    ridge = problem.ridge.double().expand(*H.shape[::2], 1)
    l1 = problem.l1.double().expand_as(W)
    judged = kernels.judge(H, Y, ridge, l1, W, ALLOWED_EXCESS)
    residual, size, gains = (x.amax(1) for x in (judged.residual, judged.size, judged.gain))
    squares = judged.squares.unsqueeze(1)
    nothing = torch.zeros_like(squares)
    return Optimality(residual, size, judged.gradient, nothing, squares, gains, judged.certain.all(1))


def _largest(x: Tensor) -> Tensor:
    """(B, ...) to (B,); 0 where a problem has no entries, which amax refuses."""
    return x.flatten(1).amax(1) if x[0:1].numel() else x.new_zeros(len(x))


def _constrained(problem: Problem, W: Tensor) -> Optimality:
    """The largest |W̃ − clip(W̃ − g̃)| / ‖y‖, clipped to the bounds of W̃, with the multiplier of the sum in g̃.

    Without bounds above and a sum that is |min(W̃, g̃)| / ‖y‖; with weights ‖y‖ is ‖√Ω y‖. How far the sum is from
    what it should be counts, too.
    """
    asked, gradient = problem.constraints, objective_gradient(problem, W)
    assert asked is not None
    if W.numel() == 0:
        return Optimality(W.new_zeros(len(W)), W.new_zeros(len(W)), gradient, W.new_zeros(len(W), 1, W.shape[-1]))
    norms, lengths = _units(problem)  # (B, k, m) or (B, k, 1), and (B, 1, m)
    infinite = W.new_full((), torch.inf)
    upper = infinite if asked.upper is None else asked.upper.double()
    lower = torch.zeros_like(W) if asked.signed is None else torch.where(asked.signed, -infinite, 0.0)
    slope = gradient + problem.l1.double()
    nothing, least = torch.zeros_like(lengths), norms.amin(-2, keepdim=True)
    missing = nothing
    below = one_where_zero(lengths)
    if asked.total is not None:
        lengths = torch.maximum(lengths, asked.total.double().abs() * least)
        missing = (asked.total.double() - W.sum(-2, keepdim=True)) * least
    lengths = one_where_zero(lengths)

    def violation(multiplier: Tensor, missing: Tensor, lengths: Tensor) -> Tensor:
        """(B, 1, m)"""
        scaled = W * norms
        moved = torch.maximum(torch.minimum(scaled - (slope + multiplier) / norms, upper * norms), lower * norms)
        return (torch.cat((scaled - moved, missing), dim=-2).abs() / lengths).amax(-2, keepdim=True)

    multiplier = nothing if asked.total is None else _multiplier(slope, W, lower, upper, norms)
    if asked.at_most:
        multiplier = multiplier.clamp(min=0)
    worst = violation(multiplier, missing, lengths)
    if asked.at_most:  # either nothing is missing, or the multiplier is zero and the total has no part in it
        loose = violation(nothing, missing.clamp(max=0), below)
        multiplier = torch.where(worst < loose, multiplier, 0.0)
        lengths = torch.where(worst < loose, lengths, below)
        worst = torch.minimum(worst, loose)
    size = (W * norms).abs().sum(-2, keepdim=True)
    if asked.total is not None:  # where the multiplier is large it cancels a slope that is as large
        between = (lower < W) & (upper > W)
        size = size + torch.where(between, multiplier.abs() / norms, 0.0).amax(-2, keepdim=True)
    size = (size / lengths).flatten(1)
    return Optimality(worst.flatten(1).amax(1), size.amax(1), gradient, 0.0 - multiplier)


def _units(problem: Problem) -> tuple[Tensor, Tensor]:
    """d = √(‖√Ω h‖² + ridge) and ‖√Ω y‖, or what is below it (``length`` in form.py).

    A zero column of H gets the smallest d of the others.
    """
    assert problem.constraints is not None
    H, Y, weights = problem.H, problem.Y, problem.constraints.weights
    if problem.squared:
        norms, lengths = H.double().diagonal(dim1=-2, dim2=-1).unsqueeze(-1), None
    elif weights is None:
        norms, lengths = form_squares(H).mT, form_squares(Y)
    else:
        norms = H.double().square().mT @ weights.double()
        lengths = (Y.double().square() * weights.double()).sum(-2, keepdim=True)
    norms = norms + problem.ridge.double()
    least = torch.where(norms > 0, norms, torch.inf).amin(-2, keepdim=True)
    norms = torch.where(norms > 0, norms, torch.where(least.isfinite(), least, 1.0))
    norms = norms.sqrt()
    return norms, (Y.double() / norms).abs().amax(-2, keepdim=True) if lengths is None else lengths.sqrt()


def _multiplier(slope: Tensor, W: Tensor, lower: Tensor, upper: Tensor, norms: Tensor) -> Tensor:
    """λ (B, 1, m) such that slope + λ is zero where no bound holds W, or else of the right sign wherever it can be.

    An entry counts the more the farther it is from its bounds: near one it may be held by it, but for rounding.
    """
    between = (lower < W) & (upper > W)
    room = torch.minimum(W - lower, upper - W)
    bounded = room.isfinite()
    farthest = torch.where(between & bounded, room, 0.0).amax(-2, keepdim=True)
    distance = torch.where(bounded, room / one_where_zero(farthest), 1.0)
    share = torch.where(between, (distance / norms).square(), 0.0)
    mean = -(slope * share).sum(-2, keepdim=True) / one_where_zero(share.sum(-2, keepdim=True))
    # Without such an entry: at least −slope at a lower bound, at most −slope at an upper one.
    least = torch.where((lower >= W) & (upper > W), -slope, -torch.inf).amax(-2, keepdim=True)
    most = torch.where((upper <= W) & (lower < W), -slope, torch.inf).amin(-2, keepdim=True)
    middle = torch.where(most.isfinite(), (least + most) / 2, least)
    any_ = torch.where(least.isfinite(), middle, torch.where(most.isfinite(), most, 0.0))
    return torch.where(share.sum(-2, keepdim=True) > 0, mean, any_)
