"""One checked batch of NNLS problems."""

import math
import sys
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffnmf.checks import (
    check_expands,
    check_floating,
    check_in_dtype,
    check_matrix,
    check_number,
    check_same_device,
    check_same_rows,
)
from diffnmf.solvers.constraints import Asked, Constraints

SMALLEST_FLOAT32 = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Problem:
    """B problems min ½‖Y − HW‖² + Σ l1 W + ½ Σ ridge W², W ≥ 0, with one batch dimension.

    Attributes:
        H: (B, n, k), with its autograd history.
        Y: (B, n, m), with its autograd history.
        ridge: (B, 1, 1) or (B, k, 1), ≥ 0; with ``constraints`` it may differ from column to column, too.
        l1: broadcastable to (B, k, m), ≥ 0; with weights, or where float32 would round it to zero, it is float64. So is
            ridge.
        W0: (B, k, m) or None, the warm start, without gradient.
        batch_shape: the shape that B stands for.
        dtype: the dtype that the user gets back (H and Y are float32 or float64).
        allowed: (B, k, m) bool, False for entries that stay zero; None: all may be positive. Solvers see None: to them
            it is an l1 that is large enough.
        constraints: whatever else W has to obey; None for the plain problem. Only solvers that take constraints see
            such a problem.
        squared: H (B, k, k) and Y (B, k, m) are the HᵀH and HᵀY of a problem that nobody knows; only with constraints,
            and without weights.

    Example:
        >>> import torch
        >>> from diffnmf.solvers import Problem, ProjectedGradient
        >>> H, Y = torch.rand(2, 6, 3, requires_grad=True), torch.rand(2, 6, 4)
        >>> none = torch.zeros(2, 1, 1)
        >>> problem = Problem(H, Y, ridge=none, l1=none, W0=None, batch_shape=torch.Size([2]), dtype=H.dtype)
        >>> ProjectedGradient().solve(problem, "implicit").W.requires_grad  # ``nnls`` does this
        True
    """

    H: Tensor
    Y: Tensor
    ridge: Tensor
    l1: Tensor
    W0: Tensor | None
    batch_shape: torch.Size
    dtype: torch.dtype
    allowed: Tensor | None = None
    constraints: Constraints | None = None
    squared: bool = False

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What W of the plain problem depends on: H, Y, ridge and l1."""
        return self.H, self.Y, self.ridge, self.l1

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What W depends on differentiably, with the constraints."""
        return self.inputs if self.constraints is None else self.inputs + self.constraints.tensors

    @property
    def needs_gradient(self) -> bool:
        return torch.is_grad_enabled() and any(x.requires_grad for x in self.tensors)


def make_problem(
    H: Tensor,
    Y: Tensor,
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    W0: Tensor | None = None,
    asked: Asked | None = None,
) -> Problem:
    """Check the arguments of an NNLS call and bring them to one batch dimension.

    Arguments:
        H: (*batch, n, k), floating point.
        Y: (*batch, n, m), floating point, on the device of H. Batch dimensions broadcast as in ``torch.matmul``.
        ridge: ≥ 0, a number or a tensor that broadcasts to W, (*batch, k, m). Tensors are not read back for the sign.
        l1: as ridge.
        W0: (*batch, k, m) or broadcastable to it; non-finite entries count as zero, and so do negative ones.
        asked: the constraints, as the user gave them.

    Raises:
        TypeError: something is not a dense tensor, or not real and floating point.
        ValueError: shapes or devices do not fit, or ridge or l1 is a negative or non-finite number.
    """
    check_matrix("H", H)
    check_matrix("Y", Y)
    check_same_device("Y", Y, "H", H.device)
    check_same_rows("H", H, "Y", Y)
    batch_shape = _batch_shape(H, Y)
    dtype = torch.promote_types(H.dtype, Y.dtype)
    compute_dtype = torch.promote_types(dtype, torch.float32)  # half precision is solved in float32
    (n, k), m = H.shape[-2:], Y.shape[-1]
    size = math.prod(batch_shape)
    # Beside weights, penalties are as small or as large as they are: in the dtype of Y they might be no number.
    weighted = asked is not None and asked.weights is not None
    penalties = [
        _penalty(name, value, (*batch_shape, k, m), H.device, torch.float64 if weighted else compute_dtype)
        for name, value in (("ridge", ridge), ("l1", l1))
    ]
    allowed, constraints = None, None
    if asked is not None:
        allowed, constraints = asked.of_problem(batch_shape, (n, k, m), H.device, compute_dtype)
    if constraints is None and penalties[0].shape[-1] != 1:
        constraints = Constraints()  # a ridge that differs between columns: each has a Gram matrix of its own
    return Problem(
        H=H.to(compute_dtype).expand(*batch_shape, n, k).reshape(size, n, k),
        Y=Y.to(compute_dtype).expand(*batch_shape, n, m).reshape(size, n, m),
        ridge=penalties[0],
        l1=penalties[1],
        W0=None if W0 is None else _warm_start(W0, batch_shape, k, m, H.device),
        batch_shape=batch_shape,
        dtype=dtype,
        allowed=allowed,
        constraints=constraints,
    )


def _batch_shape(H: Tensor, Y: Tensor) -> torch.Size:
    if H.shape[:-2] == Y.shape[:-2]:  # to broadcast takes a noticeable part of the time of a small problem
        return H.shape[:-2]
    try:
        return torch.broadcast_shapes(H.shape[:-2], Y.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"H and Y: expected batch dimensions that broadcast; got H {tuple(H.shape)} and Y {tuple(Y.shape)}"
            " (give one of them, or one for each)"
        ) from None


def make_gram_problem(
    G: Tensor,
    C: Tensor,
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    W0: Tensor | None = None,
    asked: Asked | None = None,
) -> Problem:
    """As ``make_problem``, from G = HᵀH (*batch, k, k) and C = HᵀY (*batch, k, m)."""
    check_matrix("G", G)
    check_matrix("C", C)
    if G.shape[-2] != G.shape[-1]:
        raise ValueError(f"G: expected square matrices HᵀH, (*batch, k, k); got {tuple(G.shape)}")
    check_same_device("C", C, "G", G.device)
    check_same_rows("G", G, "C", C)
    problem = make_problem(G, C, ridge, l1, W0, asked)
    return replace(problem, constraints=problem.constraints or Constraints(), squared=True)


def check_penalty(name: str, value: object) -> float | Tensor:
    """What ridge or l1 may be: a finite number ≥ 0, or a floating-point tensor (which is not read)."""
    if isinstance(value, Tensor):
        return check_floating(name, value)
    # The usual case first, and against a finite number: torch.compile takes every number that changes to be below
    # infinity, and has no math.isfinite for it.
    # A tuple: torch.compile follows ``int | float`` in newer versions only.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
        return value
    return check_number(name, value, alternative="a tensor")


def _penalty(
    name: str, value: float | Tensor, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """A penalty as (B, k or 1, m or 1), from what broadcasts to the shape of W."""
    value = check_penalty(name, value)
    if isinstance(value, Tensor):
        penalty = value.to(dtype)
    elif torch.compiler.is_compiling():  # a product takes any number; torch.full would make a new graph for each
        penalty = torch.ones((), dtype=dtype, device=device) * value
    else:  # made on the device: copying it there would make the host wait
        value = check_in_dtype(name, value, dtype)
        # Beside an H and Y as small as its root it counts, and in float32 it would be rounded to zero.
        kept = torch.float64 if 0 < value < SMALLEST_FLOAT32 else dtype
        penalty = torch.full((), value, dtype=kept, device=device)
    check_same_device(name, penalty, "H", device)
    check_expands(name, penalty, shape, "the shape of W, (*batch, k, m),", f"one a problem: {name}[..., None, None]")
    rows, columns = (1,) * (2 - penalty.ndim) + penalty.shape[-2:] if penalty.ndim < 2 else penalty.shape[-2:]
    return penalty.expand(*shape[:-2], rows, columns).reshape(math.prod(shape[:-2]), rows, columns)


def _warm_start(W0: Tensor, batch_shape: torch.Size, k: int, m: int, device: torch.device) -> Tensor:
    check_floating("W0", W0)
    check_same_device("W0", W0, "H", device)
    return check_expands("W0", W0.detach(), (*batch_shape, k, m)).reshape(math.prod(batch_shape), k, m)
