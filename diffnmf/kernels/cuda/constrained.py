"""Calling the program for bounds and a sum in Triton."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.kernels.cuda import calling
from diffnmf.kernels.cuda.calling import EPS, column_sizes, where_the_tensors_are
from diffnmf.kernels.cuda.trying import runs


class Walked(NamedTuple):
    """Of N columns: x (N, k), free (N, k) and binds (N,) bool, ended and reached (N,) bool, steps (N,) int64."""

    x: Tensor
    free: Tensor
    binds: Tensor
    ended: Tensor
    reached: Tensor
    steps: Tensor


def available(A: Tensor, c: Tensor) -> bool:
    """Whether ``walk`` can take columns (N, k) of these Gram matrices."""
    return calling.available(c.shape[-1], A, c) and runs(_attempt, c.device, c.shape[-1])


def _attempt(device: torch.device, k: int) -> bool:
    """Whether x is the unconstrained minimum where that meets all constraints: 1 where A is the identity and c is 1."""
    one = torch.ones(2, k, dtype=torch.float64, device=device)
    A = torch.eye(k, dtype=torch.float64, device=device).expand(2, k, k)
    bounds = torch.zeros_like(one), 2 * one
    found = [walk(A, one, one, *bounds, a, t, 10 * k + 20) for a, t in ((None, None), (one, one.sum(-1)))]
    return bool(max((walked.x - 1).abs().max() for walked in found) <= 1e-12)


@where_the_tensors_are
def walk(
    A: Tensor, weight: Tensor, c: Tensor, lower: Tensor, upper: Tensor, a: Tensor | None, t: Tensor | None, most: int
) -> Walked:
    """Principal pivoting from the data, in one launch and without a wait; arguments as in ``kernels.constrained``.

    x is what the walk leaves: the last refinement, and whether it is good, are for who calls.
    """
    from diffnmf.kernels.cuda import bounded

    A, weight, c, lower, upper = (v.contiguous() for v in (A, weight, c, lower, upper))
    columns, k = c.shape
    x, free = torch.empty_like(c), c.new_empty(columns, k, dtype=torch.bool)
    binds = c.new_empty(columns, dtype=torch.bool)
    state, steps = c.new_empty(columns, dtype=torch.int32), c.new_empty(columns, dtype=torch.int32)
    share, total = (c, c) if a is None or t is None else (a.contiguous(), t.contiguous())
    if columns:
        bounded.walk[(columns,)](
            *(A, weight, c, lower, upper, share, total, x, free.view(torch.int8), binds.view(torch.int8)),
            *(state, steps, columns // len(A), most, 2 * k * EPS),
            **column_sizes(k),
            SUM=a is not None,
        )
    return Walked(x, free, binds, state == 0, state != 2, steps.long())
