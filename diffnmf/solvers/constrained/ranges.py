"""Constrained problems in range: as ``ranges.py`` has it, with what constraints add.

A column is marked, and becomes NaN, where a weight is negative or not finite, where ``upper`` is negative or NaN, where
``total`` is not finite, and where no W obeys the constraints: its entries cannot reach the total.
"""

from dataclasses import replace

import torch
from torch import Tensor

from diffnmf.solvers.constraints import Constraints
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.ranges import LARGEST, InRange, is_in_range, range_exponent, scaled, times_power

# Weights beyond this are scaled, with the penalties: the objective as a whole has no unit.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 2.0**-100, 2.0**100


def constrained_in_range(problem: Problem, *, may_look: bool) -> InRange:
    """Bring B problems into range, with ``allowed`` as an upper bound of zero. Differentiable.

    Arguments:
        problem: B problems as the user gave them, none of them empty.
        may_look: whether Python may read results, to do nothing where there is nothing to do.
    """
    assert problem.constraints is not None
    asked = problem.constraints
    upper, signed = _bounds(problem)
    positive = problem.ridge.detach() >= 0
    feasible = _is_feasible(asked, upper, signed, problem.dtype).to(positive.device) & positive.all(-2, keepdim=True)
    if may_look and bool(feasible.all()) and _is_usual(problem):
        total = None if asked.total is None else _within_reach(asked, upper)
        constraints = replace(asked, upper=upper, signed=signed, total=total)
        return InRange(replace(problem, allowed=None, constraints=constraints))
    left_out = None if asked.weights is None else asked.weights.detach() == 0
    counted = problem.Y if left_out is None else torch.where(left_out, 0.0, problem.Y)
    size_H, size_Y = (X.detach().abs().amax(-2, keepdim=True).double() for X in (problem.H, counted))
    target_exponent = range_exponent(size_Y)
    Y, weights = problem.Y, asked.weights
    if left_out is not None and weights is not None:
        # What is left out stays, for the gradient of its weight, unless it is no number of this size.
        useless = left_out & ~(times_power(Y.detach(), -target_exponent).abs() <= LARGEST)
        Y, weights = torch.where(useless, 0.0, Y), torch.where(useless, 0.0, weights)
    ridge, l1 = problem.ridge.detach().double(), problem.l1.detach()
    whole = torch.stack([x.isfinite().flatten(1).all(1) for x in (size_H, ridge, l1)]).all(0)[:, None, None]
    fits = whole & size_Y.isfinite() & feasible
    clean = replace(
        problem,
        H=torch.where(whole, problem.H, 0.0),
        Y=torch.where(fits, Y, 0.0),
        ridge=torch.where(whole & positive, problem.ridge, 0.0),
        l1=torch.where(fits, problem.l1, 0.0),
        allowed=None,
        constraints=Constraints(
            weights=None if weights is None else torch.where(fits, weights, 1.0),
            total=None if asked.total is None else torch.where(fits, _within_reach(asked, upper), 0.0),
            at_most=asked.at_most,
            upper=None if upper is None else torch.where(fits, upper, torch.inf),
            signed=signed,
        ),
    )
    largest = torch.maximum(size_H, ridge.clamp(min=0).sqrt().amax(-1, keepdim=True).mT)
    # A zero column, which a price may still draw down without end, has the unit of the smallest of the others.
    least = torch.where(largest > 0, largest, torch.inf).amin(-1, keepdim=True)
    largest = torch.where((largest > 0) | least.isinf(), largest, least)
    if asked.total is not None:  # a sum has one unit
        largest = largest.amax(-1, keepdim=True).expand_as(largest)
    if problem.squared:  # whose squares are there already
        return InRange(clean, fits.expand(clean.H.shape[0], 1, clean.Y.shape[-1]))
    usual, weight_exponent = _with_usual_weights(clean)
    return replace(_scaled(usual, fits, range_exponent(largest), target_exponent), weight_exponent=weight_exponent)


def nothing_in_range(problem: Problem) -> InRange:
    """A problem whose W has no entries: whether that can obey."""
    asked = problem.constraints
    if asked is None or asked.total is None:
        return InRange(problem)
    return InRange(problem, _is_feasible(asked, asked.total[:, :0], None, problem.dtype))


def _is_usual(problem: Problem) -> bool:
    """Whether every number of a feasible problem is in range."""
    assert problem.constraints is not None
    weights = problem.constraints.weights
    if weights is not None:
        size = weights.detach().amax(-2)
        if not bool(((size == 0) | ((size >= SMALLEST_WEIGHT) & (size <= LARGEST_WEIGHT))).all()):
            return False
    return is_in_range(problem)


def with_a_row(problem: Problem) -> Problem:
    """A problem without rows gets one of zeros: its W still has to obey."""
    if problem.H.shape[-2]:
        return problem
    assert problem.constraints is not None

    def with_one(X: Tensor) -> Tensor:
        return torch.nn.functional.pad(X, (0, 0, 0, 1))

    weights = problem.constraints.weights
    constraints = replace(problem.constraints, weights=None if weights is None else with_one(weights))
    return replace(problem, H=with_one(problem.H), Y=with_one(problem.Y), constraints=constraints)


def _bounds(problem: Problem) -> tuple[Tensor | None, Tensor | None]:
    """``upper`` and ``signed`` where only some entries are allowed."""
    assert problem.constraints is not None
    upper, signed, allowed = problem.constraints.upper, problem.constraints.signed, problem.allowed
    if allowed is None:
        return upper, signed
    upper = torch.where(allowed, torch.inf if upper is None else upper, 0.0).to(problem.Y.dtype)
    return upper, None if signed is None else signed & allowed


def _is_feasible(asked: Constraints, upper: Tensor | None, signed: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Which columns (B, 1, m) make sense, and have some W that obeys, but for rounding in the dtype of the user."""
    fits = torch.ones((), dtype=torch.bool, device="cpu")  # a number may be mixed with what is elsewhere
    if asked.weights is not None:
        weights = asked.weights.detach()
        fits = fits.to(weights.device) & ((weights >= 0) & (weights < torch.inf)).all(-2, keepdim=True)
    if upper is not None:
        fits = fits.to(upper.device) & (upper >= 0).all(-2, keepdim=True)  # False for NaN
    if asked.total is not None:
        total = asked.total.detach().double()
        may_be_negative = (total >= 0) if signed is None else (total >= 0) | signed.any(-2, keepdim=True)
        fits = fits.to(total.device) & total.isfinite() & may_be_negative
        if upper is not None and not asked.at_most:
            rounding = 8 * upper.shape[-2] * torch.finfo(dtype).eps
            fits = fits & (total <= upper.detach().double().sum(-2, keepdim=True) * (1 + rounding))
    return fits


def _within_reach(asked: Constraints, upper: Tensor | None) -> Tensor:
    """The total, without what rounding has put above the sum of all bounds."""
    assert asked.total is not None
    if upper is None or asked.at_most:
        return asked.total
    excess = asked.total.detach().double() - upper.detach().double().sum(-2, keepdim=True)
    return asked.total - excess.clamp(min=0).to(asked.total)


def _with_usual_weights(problem: Problem) -> tuple[Problem, Tensor | None]:
    """The same columns, with weights of usual size: those that they had are 2^exponent of them, (B, 1, m)."""
    assert problem.constraints is not None
    weights = problem.constraints.weights
    if weights is None:
        return problem, None
    size = weights.detach().amax(-2, keepdim=True).double()  # (B, 1, m)
    outside = (size > 0) & ((size < SMALLEST_WEIGHT) | (size > LARGEST_WEIGHT))
    exponent = torch.where(outside, torch.log2(torch.where(outside, size, 1.0)).floor(), 0.0)
    usual = replace(
        problem,  # in float64: divided by weights that float32 holds, a penalty may be beyond it
        ridge=times_power(problem.ridge.double(), -exponent),
        l1=times_power(problem.l1.double(), -exponent),
        constraints=replace(problem.constraints, weights=times_power(weights, -exponent)),
    )
    return usual, exponent


def _scaled(clean: Problem, fits: Tensor, basis_exponent: Tensor, target_exponent: Tensor) -> InRange:
    """``scaled``, with the bounds and the sum in the units of W."""
    asked, shift = clean.constraints, basis_exponent.mT - target_exponent  # W' = 2^shift W
    assert asked is not None
    ranged = scaled(clean, fits.expand(clean.H.shape[0], 1, clean.Y.shape[-1]), basis_exponent, target_exponent)
    constraints = replace(
        asked,
        total=None if asked.total is None else times_power(asked.total, shift[:, :1]),
        upper=None if asked.upper is None else times_power(asked.upper, shift),
    )
    return replace(ranged, problem=replace(ranged.problem, constraints=constraints))
