"""The one way in: ``solve_nnls`` for the layer, ``nnls`` with diagnostics for everybody."""

import warnings
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_name
from diffnmf.errors import ConvergenceWarning
from diffnmf.solvers.base import BACKWARDS, NNLSSolver, Solved
from diffnmf.solvers.certificate import is_best
from diffnmf.solvers.constrained.ranges import constrained_in_range, nothing_in_range, with_a_row
from diffnmf.solvers.constraints import Asked, Constraints
from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.direct import kernel_solves, solve_directly, solve_small
from diffnmf.solvers.largest_l1 import largest_l1
from diffnmf.solvers.optimality import Optimality, optimality
from diffnmf.solvers.problem import Problem, make_problem
from diffnmf.solvers.ranges import InRange, in_range
from diffnmf.solvers.registry import get_solver, name_of_solver
from diffnmf.solvers.transforms import solve_again, solve_transformed, transformed

# What rounding alone may leave of the KKT residual, by the dtype of the result, for a solution of size one.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# It grows with the solution. In float64 another test says where that goes too far, in other dtypes this factor.
MAX_ROUNDING = 100.0


class NNLSSolution(NamedTuple):
    """What ``nnls`` returns.

    Attributes:
        W: (*batch, k, m) ≥ 0, in the dtype and on the device of the inputs, differentiable.
        kkt_residual: (*batch,) float64: with unit columns of H, the largest |min(W, gradient)| / ‖y‖ (docs/nnls.md);
            NaN where an input is not finite.
        iterations: (*batch,) int64, the work that the hardest column of each problem took.
        converged: (*batch,) bool, whether kkt_residual is within what the solver promises, or within what rounding
            leaves, which grows with the size of W; in float64, for an exact solver, also whether every residual norm
            is certain to be within 5e-10 ‖y‖ of the least possible. False where an input is not finite.
        largest_useful_l1: (*batch,), in the dtype of the inputs (float32 for half precision): the smallest l1 at which
            W is all zero, see ``diffnmf.solvers.largest_useful_l1``; infinite where no l1 does that, with a given
            sum or signed entries.
        dual: (*batch, k, m) float64, without gradient: the derivative of the objective by W at W. It is zero for
            entries that no bound holds, or equal to ``total_dual``; what is above that holds an entry at zero.
        total_dual: (*batch, 1, m) float64, without gradient: the derivative of the minimum by ``total``; zero where
            there is no sum, or one that does not bind.
    """

    W: Tensor
    kkt_residual: Tensor
    iterations: Tensor
    converged: Tensor
    largest_useful_l1: Tensor
    dual: Tensor
    total_dual: Tensor


def nnls(
    H: Tensor,
    Y: Tensor,
    *,
    solver: str | NNLSSolver = "unrolled",
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    allowed: Tensor | None = None,
    weights: Tensor | None = None,
    total: float | Tensor | None = None,
    total_kind: str = "equal",
    upper: float | Tensor | None = None,
    signed: Tensor | None = None,
    W0: Tensor | None = None,
    backward: str = "implicit",
    tol: float | None = None,
    max_iter: int | None = None,
) -> NNLSSolution:
    """Solve a batch of non-negative least-squares problems, with the constraints that are asked for:

        min_W ½ Σ weights ∘ (Y − HW)² + Σ l1 ∘ W + ½ Σ ridge ∘ W²  subject to 0 ≤ W ≤ upper, ΣW = total in each column

    Arguments:
        H: (*batch, n, k), of any sign.
        Y: (*batch, n, m), of any sign. Batch dimensions broadcast as in ``torch.matmul``.
        solver: a name of ``diffnmf.solvers.SOLVERS`` or an instance of a solver, your own too (docs/nnls.md).
        ridge: ≥ 0, a number or a (differentiable) tensor that broadcasts to W, (*batch, k, m): one a problem is
            ridge[..., None, None], one a component (k, 1). Not scaled with n.
        l1: as ridge. From ``largest_useful_l1`` of the result on, W and every gradient is zero.
        allowed: bool, broadcasts to W: an entry that is not allowed stays zero, and has no gradient.
        weights: ≥ 0, broadcasts to Y, differentiable: 1/σ² of an observation, or 0 to leave it out, whatever Y holds
            there, NaN too.
        total: what each column of W sums to: a number or a (differentiable) tensor that broadcasts to (*batch, 1, m).
        total_kind: "equal", or "at_most" for a sum that may also be smaller.
        upper: ≥ 0 or infinite, a number or a (differentiable) tensor that broadcasts to W.
        signed: bool, broadcasts to W: entries that may be negative, without any lower bound.
        W0: (*batch, k, m), a warm start. It changes the work, not the result (unless the solution is not unique).
        backward: "implicit" (exact, at the solution), "unrolled" (through the iterations, for the plain problem and
            ``allowed``) or "detached".
        tol, max_iter: replace these options of the solver for this call, such as those of a truncated one.

    Returns:
        The weights with diagnostics per problem. The gradient flows to H, Y, ridge, l1, weights, total and upper. A
        column of Y that holds a NaN or an infinity has a NaN column of W and no gradient, and so has every column of a
        problem whose H, ridge or l1 does, and a column with a negative weight or bound, or without any W that obeys its
        constraints. All other columns are as they would be without it.

    Raises:
        TypeError: an argument is of the wrong kind: no dense tensor of a real floating-point dtype, no number, no name.
        ValueError: shapes, devices or names do not fit, or the solver does not know the constraints; the message names
            the argument.

    Warns:
        ConvergenceWarning: once, when some problem has not converged or an input is not finite; ``converged`` says
            which problems, the message which of the two.

    Example:
        >>> import torch, diffnmf
        >>> H = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> diffnmf.nnls(H, torch.tensor([[1.0], [0.0], [-1.0]])).W
        tensor([[0.5000],
                [0.0000]])
        >>> diffnmf.nnls(H, torch.tensor([[1.0], [0.0], [-1.0]]), total=1.0).W
        tensor([[1.],
                [0.]])
    """
    asked = Asked(allowed, weights, total, total_kind, upper, signed)
    problem = make_problem(H, Y, ridge, l1, W0, asked)
    solver = with_options(get_solver(solver), tol, max_iter)
    solved = _solve(problem, solver, backward)
    W = solved.W.to(problem.dtype)
    ranged = _ranged(problem)
    judged = ranged.scaled(W)  # what the user gets is judged, rounded to half precision or not
    judgement = optimality(ranged.problem, judged)
    residual = judgement.residual
    converged = residual <= _expected_residual(judgement, problem.dtype, solver)  # False for NaN
    certified = solver.exact and solver.tolerance == 0 and problem.dtype == torch.float64 and W.numel() > 0
    if certified and problem.constraints is None and not transformed(problem):
        converged = converged & is_best(ranged.problem, judged)
    # A transform has no single answer to the question, and a compiled graph no place for a warning.
    if not transformed(problem) and not (converged.all() and (ranged.finite is None or ranged.finite.all())):
        warnings.warn(_complaint(solver, residual, converged, ranged.finite), ConvergenceWarning, stacklevel=2)
    dual = ranged.gradient(judgement.gradient) + problem.l1.detach().double()
    total_dual = ranged.gradient(judgement.total_dual)[:, :1]  # with a sum all entries have one unit
    if ranged.finite is not None:
        finite = ranged.finite.flatten(1).all(1)
        residual, converged = torch.where(finite, residual, torch.nan), converged & finite
        dual, total_dual = (torch.where(ranged.finite, x, torch.nan) for x in (dual, total_dual))
    shape = problem.batch_shape

    def of_user(x: Tensor) -> Tensor:
        return x.reshape(shape + x.shape[1:])

    return NNLSSolution(
        of_user(W),
        of_user(residual),
        of_user(solved.iterations),
        of_user(converged),
        of_user(largest_l1(ranged, problem.allowed)),
        of_user(dual),
        of_user(total_dual),
    )


def _complaint(solver: NNLSSolver, residual: Tensor, converged: Tensor, finite: Tensor | None) -> str:
    """What is wrong, in words: residual and converged (B,) of the finite columns, finite (B, 1, m) or None for all."""
    complaints, count = [], len(converged)
    if not converged.all():
        complaints.append(
            f"{int((~converged).sum())} of {count} problems have not converged"
            f" (largest KKT residual {residual.max().item():.1e})"
        )
    if finite is not None and not finite.all():
        columns = ~finite[:, 0]
        complaints.append(
            f"the input of {int(columns.any(-1).sum())} of {count} problems is not finite (NaN or infinity), or cannot"
            f" obey its constraints, and {int(columns.sum())} of {columns.numel()} columns of W are NaN"
        )
    return f"{type(solver).__name__}: {'; '.join(complaints)}; see `converged` of the result"


def solve_nnls(
    H: Tensor,
    Y: Tensor,
    solver: NNLSSolver,
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    W0: Tensor | None = None,
    backward: str = "implicit",
    asked: Asked | None = None,
) -> Tensor:
    """``nnls`` without diagnostics and without warnings: W alone."""
    if W0 is None and asked is None and not torch.compiler.is_compiling():
        small = solve_small(H, Y, solver, ridge, l1, backward)
        if small is not None:
            return small
    problem = make_problem(H, Y, ridge, l1, W0, asked)
    W = _solve(problem, solver, backward).W.to(problem.dtype)
    return W.reshape(*problem.batch_shape, *W.shape[1:])


def with_options(solver: NNLSSolver, tol: float | None = None, max_iter: int | None = None) -> NNLSSolver:
    """The solver with other options, where they are not None.

    Raises:
        ValueError: it has no such option.
    """
    options = {name: value for name, value in (("tol", tol), ("max_iter", max_iter)) if value is not None}
    for name in options:
        if not hasattr(solver, name):
            raise ValueError(f"{name}: expected None for {name_of_solver(solver)}, which has no such option; got one")
    return replace(solver, **options) if options else solver  # type: ignore[type-var]


def _may_look(problem: Problem) -> bool:
    """Whether Python may branch on the numbers of a problem."""
    return looking_is_free(problem.H.device) and not transformed(problem)


def _expected_residual(judgement: Optimality, dtype: torch.dtype, solver: NNLSSolver) -> Tensor:
    """What the solver promises, or what rounding leaves, which grows with the size of W; (B,)."""
    rounding = ROUNDING[dtype] * (1.0 + judgement.size)
    if dtype != torch.float64:
        rounding = rounding.clamp(max=MAX_ROUNDING * ROUNDING[dtype])
    return rounding.clamp(min=solver.tolerance)


def _ranged(problem: Problem) -> InRange:
    if problem.constraints is None:
        return in_range(problem, may_look=_may_look(problem))
    return constrained_in_range(with_a_row(problem)) if _has_entries(problem) else nothing_in_range(problem)


def _solve(problem: Problem, solver: NNLSSolver, backward: str) -> Solved:
    """Solve B problems as the user gave them: in range or not, empty or not, under a transform or not."""
    check_name("backward", backward, BACKWARDS)
    if problem.allowed is not None and solver.takes_constraints and not solver.finishes:
        problem = replace(problem, constraints=problem.constraints or Constraints())  # no l1 stands for it there
    plain = problem.constraints is None
    wanted = plain and solver.finishes and backward != "unrolled" and problem.H.numel() and problem.Y.numel()
    if wanted and not transformed(problem) and kernel_solves(problem):
        solved = solve_directly(problem, backward)
        if solved is not None:  # in range, as nearly all problems are
            return solved
    ranged = _ranged(problem)
    solved = _solve_in_range(ranged.problem, solver, backward)
    return Solved(ranged.weights(solved.W), solved.iterations)


def _has_entries(problem: Problem) -> bool:
    """Whether W has any: with a sum there is one to find even where there are no rows."""
    return len(problem.H) * problem.H.shape[-1] * problem.Y.shape[-1] > 0


def _solve_in_range(problem: Problem, solver: NNLSSolver, backward: str) -> Solved:
    if problem.H.numel() == 0 or problem.Y.numel() == 0:
        # Without rows every W is as good as zero, and without columns there is none: this product has the right shape.
        W = problem.H.mT @ problem.Y
        return Solved(W, torch.zeros(len(W), dtype=torch.int64, device=W.device))
    under_transform = transformed(problem)
    if problem.constraints is not None:
        _check_constraints(solver, backward)
    backward = _available(solver, backward, wanted=under_transform or problem.needs_gradient)
    # Autocast would lower the matrix products of float32 problems to half precision.
    with torch.autocast(device_type=problem.H.device.type, enabled=False):
        if under_transform:
            return solve_transformed(problem, solver, backward)
        if backward in solver.backwards:
            return solver.solve(problem, backward)
        solved = solver.solve(problem, "detached")
        return Solved(solve_again(problem, solved.W), solved.iterations)


def _check_constraints(solver: NNLSSolver, backward: str) -> None:
    """Raise unless the solver can obey weights, total, upper and signed."""
    if not solver.takes_constraints:
        raise ValueError(
            f"solver: {name_of_solver(solver)} as it is set does not take weights, total, upper, signed, nor a ridge"
            ' that differs between columns; use an exact one, such as "unrolled"'
        )
    if backward == "unrolled":
        raise ValueError(
            'backward: "unrolled" is for the plain problem; with weights, total, upper, signed, or a ridge that differs'
            ' between columns use "implicit" or "detached"'
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
