"""The one way in: ``solve_nnls`` for the layer, ``nnls`` with diagnostics for everybody."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_name
from diffnmf.errors import ConvergenceWarning
from diffnmf.solvers.base import BACKWARDS, NNLSSolver, Solved
from diffnmf.solvers.certificate import is_best
from diffnmf.solvers.devices import looking_is_free, needs_float64
from diffnmf.solvers.direct import device_solves, kernel_solves, solve_directly, solve_on_device, solve_small
from diffnmf.solvers.largest_l1 import largest_l1
from diffnmf.solvers.problem import Problem, kkt_residual, make_problem, solution_size
from diffnmf.solvers.ranges import in_range
from diffnmf.solvers.registry import get_solver
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
            W is all zero, see ``diffnmf.solvers.largest_useful_l1``.
    """

    W: Tensor
    kkt_residual: Tensor
    iterations: Tensor
    converged: Tensor
    largest_useful_l1: Tensor


@needs_float64
def nnls(
    H: Tensor,
    Y: Tensor,
    *,
    solver: str | NNLSSolver = "unrolled",
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    W0: Tensor | None = None,
    backward: str = "implicit",
) -> NNLSSolution:
    """Solve min_W ½‖Y − HW‖²_F + l1 ΣW + ½ ridge ‖W‖²_F subject to W ≥ 0 for every problem of a batch.

    Arguments:
        H: (*batch, n, k), of any sign.
        Y: (*batch, n, m), of any sign. Batch dimensions broadcast as in ``torch.matmul``.
        solver: a name of ``diffnmf.solvers.SOLVERS`` or an instance of a solver, your own too (docs/nnls.md).
        ridge: ≥ 0, a number or a (differentiable) tensor that broadcasts to (*batch,). Not scaled with n.
        l1: as ridge. From ``largest_useful_l1`` of the result on, W and every gradient is zero.
        W0: (*batch, k, m), a warm start. It changes the work, not the result (unless the solution is not unique).
        backward: "implicit" (exact, at the solution), "unrolled" (through the iterations) or "detached".

    Returns:
        The weights with diagnostics per problem. The gradient flows to H, Y, ridge and l1. A column of Y that holds
        a NaN or an infinity has a NaN column of W and no gradient, and so has every column of a problem whose H,
        ridge or l1 does; all other columns are as they would be without it.

    Raises:
        TypeError: an argument is of the wrong kind: no dense tensor of a real floating-point dtype, no number, no name.
        ValueError: shapes, devices or names do not fit; the message names the argument.

    Warns:
        ConvergenceWarning: once, when some problem has not converged or an input is not finite; ``converged`` says
            which problems, the message which of the two.

    Example:
        >>> import torch, diffnmf
        >>> H = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> diffnmf.nnls(H, torch.tensor([[1.0], [0.0], [-1.0]])).W
        tensor([[0.5000],
                [0.0000]])
    """
    problem = make_problem(H, Y, ridge, l1, W0)
    solver = get_solver(solver)
    solved = _solve(problem, solver, backward)
    W = solved.W.to(problem.dtype)
    ranged = in_range(problem, may_look=_may_look(problem))
    judged = ranged.scaled(W)  # what the user gets is judged, rounded to half precision or not
    residual = kkt_residual(ranged.problem, judged)
    converged = residual <= _expected_residual(ranged.problem, judged, solver)  # False for NaN
    certified = solver.exact and solver.tolerance == 0 and problem.dtype == torch.float64 and W.numel() > 0
    if certified and not transformed(problem):
        converged = converged & is_best(ranged.problem, judged)
    # A transform has no single answer to the question, and a compiled graph no place for a warning.
    if not transformed(problem) and not (converged.all() and (ranged.finite is None or ranged.finite.all())):
        warnings.warn(_complaint(solver, residual, converged, ranged.finite), ConvergenceWarning, stacklevel=3)
    if ranged.finite is not None:
        finite = ranged.finite.flatten(1).all(1)
        residual, converged = torch.where(finite, residual, torch.nan), converged & finite
    shape = problem.batch_shape
    return NNLSSolution(
        W.reshape(*shape, *W.shape[1:]),
        residual.reshape(shape),
        solved.iterations.reshape(shape),
        converged.reshape(shape),
        largest_l1(ranged).reshape(shape),
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
            f"the input of {int(columns.any(-1).sum())} of {count} problems is not finite (NaN or infinity),"
            f" and so are {int(columns.sum())} of {columns.numel()} columns of W"
        )
    return f"{type(solver).__name__}: {'; '.join(complaints)}; see `converged` of the result"


@needs_float64
def solve_nnls(
    H: Tensor,
    Y: Tensor,
    solver: NNLSSolver,
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    W0: Tensor | None = None,
    backward: str = "implicit",
) -> Tensor:
    """``nnls`` without diagnostics and without warnings: W alone."""
    if W0 is None and not torch.compiler.is_compiling():
        small = solve_small(H, Y, solver, ridge, l1, backward)
        if small is not None:
            return small
    problem = make_problem(H, Y, ridge, l1, W0)
    W = _solve(problem, solver, backward).W.to(problem.dtype)
    return W.reshape(*problem.batch_shape, *W.shape[1:])


def _may_look(problem: Problem) -> bool:
    """Whether Python may branch on the numbers of a problem."""
    return looking_is_free(problem.H.device) and not transformed(problem)


def _expected_residual(problem: Problem, W: Tensor, solver: NNLSSolver) -> Tensor:
    """What the solver promises, or what rounding leaves, which grows with the size of W; (B,)."""
    rounding = ROUNDING[problem.dtype] * (1.0 + solution_size(problem, W))
    if problem.dtype != torch.float64:
        rounding = rounding.clamp(max=MAX_ROUNDING * ROUNDING[problem.dtype])
    return rounding.clamp(min=solver.tolerance)


def _solve(problem: Problem, solver: NNLSSolver, backward: str) -> Solved:
    """Solve B problems as the user gave them: in range or not, empty or not, under a transform or not."""
    check_name("backward", backward, BACKWARDS)
    wanted = solver.finishes and backward != "unrolled" and problem.H.numel() and problem.Y.numel()
    if wanted and not transformed(problem) and kernel_solves(problem):
        solved = solve_directly(problem, backward)
        if solved is not None:  # in range, as nearly all problems are
            return solved
    if wanted and not transformed(problem) and device_solves(problem):
        solved = solve_on_device(problem, backward)
        if solved is not None:
            return solved
    ranged = in_range(problem, may_look=_may_look(problem))
    solved = _solve_in_range(ranged.problem, solver, backward)
    return Solved(ranged.weights(solved.W), solved.iterations)


def _solve_in_range(problem: Problem, solver: NNLSSolver, backward: str) -> Solved:
    if problem.H.numel() == 0 or problem.Y.numel() == 0:
        # Without rows every W is as good as zero, and without columns there is none: this product has the right shape.
        W = problem.H.mT @ problem.Y
        return Solved(W, torch.zeros(len(W), dtype=torch.int64, device=W.device))
    under_transform = transformed(problem)
    backward = _available(solver, backward, wanted=under_transform or problem.needs_gradient)
    # Autocast would lower the matrix products of float32 problems to half precision.
    with torch.autocast(device_type=problem.H.device.type, enabled=False):
        if under_transform:
            return solve_transformed(problem, solver, backward)
        if backward in solver.backwards:
            return solver.solve(problem, backward)
        solved = solver.solve(problem, "detached")
        return Solved(solve_again(problem, solved.W), solved.iterations)


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
