"""The way to W through a kernel, compiled for the CPU or in Triton: one call, and care for the columns that want it.

It gives the same as the operations of torch (``gram.py``, ``exact/finish.py``) to rounding, without the some hundred
small ones of them.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

from diffnmf.kernels import columns as kernels
from diffnmf.kernels.calling import GOOD, OUT_OF_RANGE, available, side_by_side
from diffnmf.kernels.cuda import calling as cuda
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.devices import without_autocast
from diffnmf.solvers.exact.exchanges import ColumnSolution
from diffnmf.solvers.exact.finish import TRUSTED_PIVOT, WELL_CONDITIONED_PIVOT, take_care
from diffnmf.solvers.exact.masked import MaskedFactor, as_columns, from_columns
from diffnmf.solvers.exact.systems import DifficultColumns, FreeSystems
from diffnmf.solvers.gradient import with_implicit_gradient
from diffnmf.solvers.gram import gram_form
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.ranges import with_penalty_for_allowed


def solve_by_kernel(problem: Problem, backward: str) -> Solved | None:
    """W of B problems by the kernel that can take them; None where there is none, or a number is out of range.

    Arguments:
        problem: none of its problems is empty; it need not be in range.
        backward: "implicit" or "detached".
    """
    if _kernel_solves(problem):
        return solve_directly(problem, backward)
    return solve_on_device(problem, backward) if _device_solves(problem) else None


def _kernel_solves(problem: Problem) -> bool:
    """Whether the compiled kernel can take a problem: not on another device, and not under a transform."""
    with torch.no_grad():
        return available(*problem.inputs)


def solve_directly(problem: Problem, backward: str) -> Solved | None:
    """``solve_by_kernel`` with the kernel that is compiled for the CPU."""
    problem = with_penalty_for_allowed(problem)
    H, Y, ridge, l1 = (x.detach() for x in problem.inputs)
    # Asked before: to enter the context takes a noticeable part of the time of a small problem.
    precise = without_autocast(H.device) if torch.is_autocast_enabled("cpu") else nullcontext()
    with torch.no_grad(), precise:
        found = kernels.direct(
            side_by_side(H),
            side_by_side(Y),
            ridge.double().expand(len(H), H.shape[2], 1),
            l1.double().expand(len(H), H.shape[2], Y.shape[2]),
            None if problem.W0 is None else (problem.W0 > 0).mT,
            _least_pivot(H.dtype),
        )
        if found is None:
            return None
        factor, difficult = MaskedFactor(None, found.free.flatten(0, 1), found.pivot.flatten()), None
        if not found.solved.all():
            difficult = _with_care(problem, found, factor, found.solved.flatten())
    return _solved(problem, found, FreeSystems(found.A, factor, difficult), backward)


def _device_solves(problem: Problem) -> bool:
    """Whether the kernels in Triton can take a problem: on a CUDA device, and not under a transform."""
    with torch.no_grad():
        return problem.H.dtype in cuda.INPUTS and cuda.available(problem.H.shape[2], *problem.inputs)


def solve_on_device(problem: Problem, backward: str) -> Solved | None:
    """``solve_by_kernel`` with those in Triton: three launches, and one wait to see whether a column wants care.

    While a CUDA graph is recorded nothing may wait: there, W is NaN in a column that would have wanted care, and so it
    is seen whenever the graph is replayed.
    """
    problem = with_penalty_for_allowed(problem)
    H, Y, ridge, l1 = (x.detach() for x in problem.inputs)
    batch, k, m = len(H), H.shape[2], Y.shape[2]
    with torch.no_grad(), without_autocast(H.device):
        found, code = cuda.direct(
            H,
            Y,
            ridge.double().expand(batch, k, 1),
            l1.double().expand(batch, k, m),
            None if problem.W0 is None else (problem.W0 > 0).mT,
            _least_pivot(H.dtype),
        )
        factor, difficult = MaskedFactor(None, found.free.flatten(0, 1), found.pivot.flatten()), None
        if H.is_cuda and torch.cuda.is_current_stream_capturing():
            found.W.masked_fill_((code != GOOD).reshape(batch, m, 1), torch.nan)
        else:
            worst = int(code.amax())  # the one wait
            if worst == OUT_OF_RANGE:
                return None
            if worst != GOOD:
                difficult = _with_care(problem, found, factor, code == GOOD)
    return _solved(problem, found, FreeSystems(found.A, factor, difficult), backward)


def _solved(problem: Problem, found: kernels.Direct, systems: FreeSystems, backward: str) -> Solved:
    """What a kernel has found, with the gradient that is asked for."""
    W, iterations = found.W.mT, found.steps.amax(1).long()
    if backward == "detached" or not problem.needs_gradient:
        return Solved(W.to(problem.H.dtype), iterations)
    return Solved(with_implicit_gradient(problem, W, systems, found.scale.unsqueeze(-1)), iterations)


def _with_care(
    problem: Problem, found: kernels.Direct, factor: MaskedFactor, solved: Tensor
) -> DifficultColumns | None:
    """Care for the columns that a kernel has marked, not ``solved`` (B·m,); W and the free sets in place."""
    form = gram_form(problem)
    x = as_columns(found.W.mT * form.row_scale / form.column_scale)
    solution = ColumnSolution(x, factor, solved.clone(), found.steps.flatten().long())
    difficult = take_care(problem, form, solution)  # changes the factor, too
    cared = form.unscale(from_columns(solution.x, len(found.W))).mT
    found.W.copy_(torch.where(solved.reshape(*found.W.shape[:2], 1), found.W, cared))
    return difficult


def solve_small(
    H: Tensor,
    Y: Tensor,
    solver: NNLSSolver,
    ridge: float | Tensor,
    l1: float | Tensor,
    backward: str,
    *,
    count: bool = False,
) -> tuple[Tensor, Tensor | None] | None:
    """W (k, m) of one small problem as the user gave it, where no gradient is wanted; None in every other case.

    A check of each argument would cost more than solving it: whatever is not just so is left to those who check.
    With ``count`` the steps that each column took, (m,) int64, come with it.
    """
    if (
        solver.finishes
        and type(H) is type(Y) is Tensor
        and available(H, Y)
        and H.ndim == Y.ndim == 2
        and H.dtype == Y.dtype
        and H.dtype in (torch.float64, torch.float32)
        and H.shape[0] == Y.shape[0]
        and 1 in H.stride()
        and 1 in Y.stride()
        and type(ridge) is type(l1) is float
        and max(ridge, l1) <= torch.finfo(torch.float32).max
        and backward in ("implicit", "detached")
        and 0 < H.shape[0] * H.shape[1] * (H.shape[1] + 2 * Y.shape[1]) <= 2 * kernels.SMALL
        and Y.shape[1] > 0
    ):
        steps = torch.empty(Y.shape[1], dtype=torch.int64, device="cpu") if count else None
        W = kernels.direct_small(H, Y, ridge, l1, _least_pivot(H.dtype), steps)
        return None if W is None else (W.to(H.dtype), steps)
    return None


def _least_pivot(dtype: torch.dtype) -> float:
    """In float32 the last digits are rounded away, and need no refinement."""
    return WELL_CONDITIONED_PIVOT if dtype == torch.float64 else TRUSTED_PIVOT
