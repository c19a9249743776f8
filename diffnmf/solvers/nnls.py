"""The one way in: ``solve_nnls`` for the layer, ``nnls`` with diagnostics for everybody."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.errors import ConvergenceWarning, unknown_name
from diffnmf.solvers.base import BACKWARDS, NNLSSolver, Solved
from diffnmf.solvers.problem import Problem, kkt_residual, make_problem, solution_size
from diffnmf.solvers.registry import get_solver
from diffnmf.solvers.transforms import solve_again, solve_transformed, transformed

# What rounding alone may leave of the KKT residual, by the dtype of the result, for a solution of size one.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class NNLSSolution(NamedTuple):
    """What ``nnls`` returns.

    Attributes:
        W: (*batch, k, m) ≥ 0, in the dtype and on the device of the inputs, differentiable.
        kkt_residual: (*batch,) float64: with unit columns of H, the largest |min(W, gradient)| / ‖y‖ (docs/nnls.md).
        iterations: (*batch,) int64, the work that the hardest column of each problem took.
        converged: (*batch,) bool, whether kkt_residual is within what the solver promises, or within what rounding
            leaves, which grows with the size of W.
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
        solver: a name of ``diffnmf.solvers.SOLVERS`` or an instance of a solver, your own too (docs/nnls.md).
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
    rounding = ROUNDING[problem.dtype] * (1.0 + solution_size(problem, W))
    converged = residual <= rounding.clamp(min=solver.tolerance)  # False for NaN
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
