"""From a problem as the user gave it to W: in range or not, empty or not, constrained or not, transformed or not."""

from dataclasses import replace

import torch

from diffnmf.checks import check_name
from diffnmf.solvers.base import BACKWARDS, NNLSSolver, Solved
from diffnmf.solvers.constrained.ranges import constrained_in_range, nothing_in_range, with_a_row
from diffnmf.solvers.constraints import Constraints
from diffnmf.solvers.devices import looking_is_free, without_autocast
from diffnmf.solvers.direct import solve_by_kernel
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.ranges import InRange, in_range, with_penalty_for_allowed
from diffnmf.solvers.registry import name_of_solver
from diffnmf.solvers.transforms import solve_again, solve_transformed, transformed


def with_options(solver: NNLSSolver, tol: float | None = None, max_iter: int | None = None) -> NNLSSolver:
    """The solver with other options, where they are not None.

    Raises:
        ValueError: it has no such option.
    """
    options = {name: value for name, value in (("tol", tol), ("max_iter", max_iter)) if value is not None}
    for name in options:
        if not hasattr(solver, name):
            raise ValueError(
                f"{name}: expected None for {name_of_solver(solver)}, which has no such option; got one (leave it out)"
            )
    return replace(solver, **options) if options else solver  # type: ignore[type-var]


def ranged_problem(problem: Problem) -> InRange:
    """The problem in range."""
    if problem.constraints is None:
        return in_range(problem, may_look=may_look(problem))
    if not _has_entries(problem):
        return nothing_in_range(problem)
    return constrained_in_range(with_a_row(problem), may_look=may_look(problem))


def solve_problem(problem: Problem, solver: NNLSSolver, backward: str) -> tuple[Solved, InRange]:
    """Solve B problems as the user gave them: in range or not, empty or not, under a transform or not.

    Returns:
        What is found, in the units of the user, and the problems in range.
    """
    check_name("backward", backward, BACKWARDS)
    if problem.allowed is not None and solver.takes_constraints and not solver.finishes:
        problem = replace(problem, constraints=problem.constraints or Constraints())  # no l1 stands for it there
    plain = problem.constraints is None
    wanted = plain and solver.finishes and backward != "unrolled" and problem.H.numel() and problem.Y.numel()
    if wanted and not transformed(problem):
        solved = solve_by_kernel(problem, backward)
        if solved is not None:  # in range, as nearly all problems are
            return solved, InRange(with_penalty_for_allowed(problem))
    ranged = ranged_problem(problem)
    solved = _solve_in_range(ranged.problem, solver, backward)
    return Solved(ranged.weights(solved.W), solved.iterations), ranged


def _has_entries(problem: Problem) -> bool:
    """Whether W has any: with a sum there is one to find even where there are no rows."""
    return problem.H.shape[0] * problem.H.shape[-1] * problem.Y.shape[-1] > 0


def _solve_in_range(problem: Problem, solver: NNLSSolver, backward: str) -> Solved:
    if problem.H.numel() == 0 or problem.Y.numel() == 0:
        # Without rows every W is as good as zero, and without columns there is none: this product has the right shape.
        W = problem.H.mT @ problem.Y
        return Solved(W, torch.zeros(len(W), dtype=torch.int64, device=W.device))
    under_transform = transformed(problem)
    if problem.constraints is not None:
        _check_constraints(problem, solver, backward)
    backward = _available(solver, backward, wanted=under_transform or problem.needs_gradient)
    with without_autocast(problem.H.device):
        if under_transform:
            return solve_transformed(problem, solver, backward)
        if backward in solver.backwards:
            return solver.solve(problem, backward)
        solved = solver.solve(problem, "detached")
        return Solved(solve_again(problem, solved.W), solved.iterations)


def _check_constraints(problem: Problem, solver: NNLSSolver, backward: str) -> None:
    """Raise unless the solver can obey the weights, total, upper and signed that were asked for, in that way."""
    if solver.takes_constraints:
        if backward == "unrolled":
            raise ValueError(
                'backward: "unrolled" is for the plain problem; with weights, total, upper, signed, or a ridge that'
                ' differs between columns use "implicit" or "detached"'
            )
        return
    assert problem.constraints is not None
    bounds = problem.constraints.only_bounds and problem.ridge.shape[-1] == 1 and not problem.squared
    if not (bounds and solver.takes_bounds):
        others = "" if solver.takes_bounds else " upper, signed,"
        raise ValueError(
            f"solver: {name_of_solver(solver)} as it is set does not take weights, total,{others} nor a ridge"
            ' that differs between columns, nor a Gram matrix with them; use an exact one, such as "unrolled"'
        )


def _available(solver: NNLSSolver, backward: str, *, wanted: bool) -> str:
    """The kind of gradient asked for, or "detached" where none is wanted and that kind is not to be had.

    Under a transform one may be wanted that nobody can see from inside.

    Raises:
        ValueError: the solver cannot give it.
    """
    kinds = [kind for kind in BACKWARDS if kind in solver.backwards or (kind == "implicit" and solver.exact)]
    if backward in kinds:
        return backward
    others = " or ".join([f'"{kind}"' for kind in kinds])
    if backward == "unrolled":
        raise ValueError(
            f"backward: {type(solver).__name__} has no iterations that can be differentiated; use {others}"
        )
    if wanted:
        raise ValueError(
            'backward: "implicit" is right only at the exact solution, and this solver stops before it;'
            f" use backward={others}, or a solver with finish=True"
        )
    return "detached"


def may_look(problem: Problem) -> bool:
    """Whether Python may branch on the numbers of a problem."""
    return looking_is_free(problem.H.device) and not transformed(problem)
