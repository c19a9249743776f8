"""The solution under torch.func, forward mode and torch.compile: find the free set without gradient, solve on it with.

The plain reverse path has a lean autograd function (``gradient.py``). Transforms need more: forward derivatives of any
nesting, batching rules, a graph without Python branches. All of that comes from PyTorch itself once the search for the
free set is one opaque operation without derivative, and what follows is a solve in plain differentiable operations:
differentiating that solve is the implicit function theorem.
"""

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from diffnmf.kernels.calling import has_tangent
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.constrained.operator import solve_constrained_transformed
from diffnmf.solvers.exact.masked import cholesky, mask_matrix
from diffnmf.solvers.gradient import scaled_gram
from diffnmf.solvers.keys import solver_key, solver_of_key
from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.operators import WAITING, in_one_batch
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.registry import name_of_solver

_RECORDERS = (torch._C._TorchDispatchModeKey.PROXY, torch._C._TorchDispatchModeKey.FAKE)  # make_fx, FakeTensorMode


def transformed(problem: Problem) -> bool:
    """Whether a transform is at work that the lean reverse path knows nothing of."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or any(has_tangent(x) for x in problem.tensors)
        or _is_recorded(problem)
    )


def _is_recorded(problem: Problem) -> bool:
    """Whether operations are recorded for other numbers than these, or there are none.

    Then Python must not branch on them: a record would keep the branch, such as the number of exchanges.
    """
    return (
        torch._C._get_tracing_state() is not None  # torch.jit.trace
        or any(torch._C._get_dispatch_mode(mode) is not None for mode in _RECORDERS)
        or any(x.is_meta or isinstance(x, FakeTensor) for x in problem.tensors)
    )


def solve_transformed(problem: Problem, solver: NNLSSolver, backward: str) -> Solved:
    """``solver.solve`` with derivatives of any kind and order.

    Arguments:
        problem: B problems.
        solver: exact, where ``backward`` is "implicit".
        backward: as in ``NNLSSolver.solve``.

    Raises:
        NotImplementedError: the solver has no place under transforms.
    """
    if not solver.transformable:
        raise NotImplementedError(
            f"{name_of_solver(solver)}: has first derivatives in reverse mode only, neither forward mode nor torch.func"
            ' nor torch.compile; use another solver, such as "unrolled"'
        )
    bounded = problem.constraints is not None and not solver.takes_constraints
    if backward == "unrolled" or bounded:
        return solver.solve(problem, backward)  # plain operations already
    if problem.constraints is not None:
        return solve_constrained_transformed(problem, backward)
    inputs = (x.detach() for x in problem.inputs)
    W, iterations = _solution(*inputs, problem.W0, solver_key(solver))
    return Solved(W if backward == "detached" else solve_again(problem, W), iterations)


def solve_again(problem: Problem, W: Tensor) -> Tensor:
    """The value of W (B, k, m), the solution, with the derivatives of the solve on its free set.

    Their relative accuracy is that of the Gram form, cond(H)² times rounding, and all systems are in memory at once:
    the plain reverse path is the better one for ill-conditioned H and for many thousands of columns.
    """
    H, Y = problem.H.double(), problem.Y.double()
    ridge, l1 = problem.ridge.double(), problem.l1.double()
    # Constant scales: any will do for the derivatives, these for the digits.
    row_scale = one_where_zero(H.detach().square().sum(-2).unsqueeze(-1) + ridge.detach()).sqrt()  # (B, k, 1)
    free = (W > 0).mT  # (B, m, k)
    L, regular = cholesky(mask_matrix(scaled_gram(H, problem.ridge, row_scale).unsqueeze(1), free))
    wanted = (free & regular.unsqueeze(-1)).unsqueeze(-1)  # (B, m, k, 1)
    target = torch.where(wanted, ((H.mT @ Y - l1) / row_scale).mT.unsqueeze(-1), 0.0)
    # Two triangular solves: under nested forward mode linalg.solve gives wrong numbers (pytorch#196695).
    z = torch.linalg.solve_triangular(L, target, upper=False)
    x = torch.where(wanted, torch.linalg.solve_triangular(L.mT, z, upper=True), 0.0)
    again = x.squeeze(-1).mT / row_scale  # (B, k, m)
    # W itself has been refined; this solve only lends it its derivatives.
    return (again + (W - again).detach()).to(W.dtype)


@torch.library.custom_op("diffnmf::nnls_solution", mutates_args=(), **WAITING)
def _solution(H: Tensor, Y: Tensor, ridge: Tensor, l1: Tensor, W0: Tensor | None, solver: str) -> tuple[Tensor, Tensor]:
    """W (B, k, m) and the iterations (B,), without derivative."""
    if len(H) == 0:  # under vmap over nothing; no solver is asked
        return H.new_zeros(0, H.shape[2], Y.shape[2]), H.new_zeros(0, dtype=torch.int64)
    problem = Problem(H, Y, ridge, l1, W0, H.shape[:1], H.dtype)
    solved = solver_of_key(solver).solve(problem, "detached")
    # A copy of its own, in the layout that was promised: a solver may return its start, or another dtype.
    W = solved.W.to(H.dtype, copy=True, memory_format=torch.contiguous_format)
    return W, solved.iterations.to(torch.int64).contiguous()


@_solution.register_fake
def _(H: Tensor, Y: Tensor, ridge: Tensor, l1: Tensor, W0: Tensor | None, solver: str) -> tuple[Tensor, Tensor]:
    return H.new_empty(H.shape[0], H.shape[2], Y.shape[2]), H.new_empty(H.shape[0], dtype=torch.int64)


@_solution.register_vmap
def _(info, in_dims, *arguments):  # type: ignore[no-untyped-def]
    return in_one_batch(_solution, arguments, in_dims, info.batch_size)
