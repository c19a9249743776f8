"""One corrected step with the unsquared residual, as ``exact/finish.py`` has it for the plain problem."""

import torch
from torch import Tensor

from diffnmf.solvers.constrained.columns import BoundedColumns, BoundedSolution
from diffnmf.solvers.constrained.form import ConstrainedForm
from diffnmf.solvers.constrained.runs import part
from diffnmf.solvers.constrained.systems import BorderedSystems
from diffnmf.solvers.exact.finish import TRUSTED_CORRECTION, TRUSTED_PIVOT, WELL_CONDITIONED_PIVOT
from diffnmf.solvers.optimality import objective_gradient
from diffnmf.solvers.problem import Problem

# Where no more than one column in so many, of no more than so many problems, wants a step, the others are left out.
FEW, FEW_PROBLEMS = 4, 8


def refine(problem: Problem, form: ConstrainedForm, found: BoundedSolution) -> Tensor:
    """The step, in place, where it is wanted; who is suspect, (N,)."""
    suspect = found.pivot < TRUSTED_PIVOT
    wanted = found.pivot < WELL_CONDITIONED_PIVOT
    if problem.squared or problem.H.dtype != torch.float64 or not wanted.any():
        return suspect
    m = problem.Y.shape[-1]
    numbers = wanted.nonzero().squeeze(-1)
    problems = torch.unique(numbers // m).tolist()
    if FEW * len(numbers) > len(wanted) or len(problems) > FEW_PROBLEMS:
        return suspect | _correct(problem, form, found, torch.arange(len(wanted), device=wanted.device), wanted)
    for number in problems:
        own = numbers[numbers // m == number]
        some = part(problem, slice(number, number + 1), own % m)
        suspect[own] |= _correct(some, form.take(own), found, own, wanted[own])
    return suspect


def _correct(
    problem: Problem, form: ConstrainedForm, found: BoundedSolution, numbers: Tensor, wanted: Tensor
) -> Tensor:
    """The step of ``refine`` for the columns ``numbers`` (N,) of ``found``, where it is wanted; who is suspect, (N,).

    ``problem`` and ``form`` hold these columns alone.
    """
    columns = form.columns
    x, free, binds = found.x[numbers], found.free[numbers], found.binds[numbers]
    descent = -form.gradient(objective_gradient(problem, form.unscale(x)) + problem.l1.double())
    left = torch.zeros_like(x[:, 0])
    if columns.a is not None and columns.t is not None:
        left = torch.where(binds, columns.t - (columns.a * x).sum(-1), 0.0)
    correction, multiplier = BorderedSystems(columns.A, columns.a, free, binds).solve(descent, left)
    corrected = x + correction
    gradient = descent - columns.times_A(correction)
    if columns.a is not None:
        gradient = gradient - multiplier[:, None] * columns.a
    tolerance = 2 * columns.entry_tolerance(corrected, multiplier[:, None])
    up, down = gradient > tolerance, gradient < -tolerance
    wrong = torch.where(
        free,
        (corrected < columns.lower - tolerance) | (corrected > columns.upper + tolerance),
        (up & (x < columns.upper)) | (down & (x > columns.lower)),
    ).any(-1)
    if columns.a is not None:
        wrong = wrong & (binds | ~_is_one_point(columns, x, free))
    large = correction.abs().amax(-1) > TRUSTED_CORRECTION * x.abs().amax(-1)
    suspect = wanted & (wrong | large)
    corrected = columns.clipped(corrected)
    found.x[numbers] = torch.where((wanted & ~suspect)[:, None], corrected, x)
    return suspect


def _is_one_point(columns: BoundedColumns, x: Tensor, free: Tensor) -> Tensor:
    """Whether nothing can move (N,): the sum holds, and no entry is free."""
    assert columns.a is not None and columns.t is not None
    left = (columns.t - (columns.a * x).sum(-1)).abs()
    return ~free.any(-1) & (left <= columns.entry_tolerance(x, torch.zeros_like(x[:, :1])).squeeze(-1))
