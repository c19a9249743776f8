"""The one way in: ``solve_nnls`` for the layer, ``nnls`` with diagnostics for everybody."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.errors import ConvergenceWarning, unknown_name
from diffnmf.solvers.base import BACKWARDS, NNLSSolver, Solved
from diffnmf.solvers.certificate import is_best
from diffnmf.solvers.problem import Problem, kkt_residual, make_problem, solution_size
from diffnmf.solvers.registry import get_solver
from diffnmf.solvers.transforms import solve_transformed, transformed

# What rounding alone may leave of the KKT residual, by the dtype of the result, for a solution of size one.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# It grows with the solution. In float64 another test says where that goes too far, in other dtypes this factor.
MAX_ROUNDING = 100.0


class NNLSSolution(NamedTuple):
    """What ``nnls`` returns.

    Attributes:
        W: (*batch, k, m) ≥ 0, in the dtype and on the device of the inputs, differentiable.
        kkt_residual: (*batch,) float64: with unit columns of H, the largest |min(W, gradient)| / ‖y‖ (docs/nnls.md).
        iterations: (*batch,) int64, the work that the hardest column of each problem took.
        converged: (*batch,) bool, whether kkt_residual is within what the solver promises, or within what rounding
            leaves, which grows with the size of W; in float64, for an exact solver, also whether every residual norm
            is certain to be within 5e-10 ‖y‖ of the least possible.
    """

    W: Tensor
    kkt_residual: Tensor
    iterations: Tensor
    converged: Tensor


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
        solver: a name of ``diffnmf.solvers.SOLVERS`` or an instance of one of its classes.
        ridge: ≥ 0, a number or a (differentiable) tensor that broadcasts to (*batch,). Not scaled with n.
        l1: as ridge.
        W0: (*batch, k, m), a warm start. It changes the work, not the result (unless the solution is not unique).
        backward: "implicit" (exact, at the solution), "unrolled" (through the iterations) or "detached".

    Returns:
        The weights with diagnostics per problem. The gradient flows to H, Y, ridge and l1.

    Raises:
        TypeError: an argument is not a tensor of a real floating-point dtype.
        ValueError: shapes, devices or names do not fit; the message names the argument.

    Warns:
        ConvergenceWarning: once, when some problem has not converged; ``converged`` says which.

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
    W = solved.W.to(problem.dtype)  # what the user gets is judged, rounded to half precision or not
    residual = kkt_residual(problem, W)
    converged = residual <= _expected_residual(problem, W, solver)  # False for NaN
    if solver.exact and solver.tolerance == 0 and problem.dtype == torch.float64 and not transformed(problem):
        converged = converged & is_best(problem, W)
    # A transform has no single answer to the question, and a compiled graph no place for a warning.
    if not transformed(problem) and not converged.all():
        warnings.warn(
            f"{type(solver).__name__}: {int((~converged).sum())} of {converged.numel()} problems have not converged"
            f" (largest KKT residual {residual.max().item():.1e}); see `converged` of the result",
            ConvergenceWarning,
            stacklevel=2,
        )
    shape = problem.batch_shape
    return NNLSSolution(
        W.reshape(*shape, *W.shape[1:]),
        residual.reshape(shape),
        solved.iterations.reshape(shape),
        converged.reshape(shape),
    )


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
    problem = make_problem(H, Y, ridge, l1, W0)
    W = _solve(problem, solver, backward).W.to(problem.dtype)
    return W.reshape(*problem.batch_shape, *W.shape[1:])


def _expected_residual(problem: Problem, W: Tensor, solver: NNLSSolver) -> Tensor:
    """What the solver promises, or what rounding leaves, which grows with the size of W; (B,)."""
    rounding = ROUNDING[problem.dtype] * (1.0 + solution_size(problem, W))
    if problem.dtype != torch.float64:
        rounding = rounding.clamp(max=MAX_ROUNDING * ROUNDING[problem.dtype])
    return rounding.clamp(min=solver.tolerance)


def check_backward(backward: str) -> None:
    """Raise ValueError unless ``backward`` is known."""
    if backward not in BACKWARDS:
        raise unknown_name("backward", backward, BACKWARDS)


def _solve(problem: Problem, solver: NNLSSolver, backward: str) -> Solved:
    check_backward(backward)
    if problem.H.numel() == 0 or problem.Y.numel() == 0:
        # Without rows every W is as good as zero, and without columns there is none: this product has the right shape.
        W = problem.H.mT @ problem.Y
        return Solved(W, torch.zeros(len(W), dtype=torch.int64, device=W.device))
    # Autocast would lower the matrix products of float32 problems to half precision.
    with torch.autocast(device_type=problem.H.device.type, enabled=False):
        if transformed(problem):
            return solve_transformed(problem, solver, backward)
        return solver.solve(problem, backward)
