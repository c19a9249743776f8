"""Calling the programs in Triton: which tensors they take, and with what numbers."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from diffnmf.kernels.calling import readable
from diffnmf.kernels.columns import Direct, Search
from diffnmf.kernels.cuda.trying import runs

DEVICES = {"cuda"}  # tests put the CPU in their place: Triton's interpreter computes there
MAX_COMPONENTS = 64  # beyond, the tableau of a column has no place in the registers
MAX_COMPONENTS_OF_OTHERS = 32  # on cards that are not ``DATA_CENTRE``: nor have the sums of ``gram``
LARGEST_K_OF_ONE_WARP = 32
WARPS_BEYOND = 8
BLACKWELL = (10, 0)  # Triton 3.6 would multiply 64 rows of float64 in its tensor memory, and fails
DATA_CENTRE = {(8, 0), (9, 0), BLACKWELL}  # multiply matrices of float64 in hardware, and hold their sums spread out
INPUTS = (torch.float32, torch.float64)

# As in ``solvers/exact/finish.py`` and nnls.c.
INDEPENDENT_PIVOT, INDEPENDENT_ROW_SUM, NEAR_TIE, LARGE_SOLUTION = 1e-8, 1e8, 1e-9, 1e5
EPS = torch.finfo(torch.float64).eps


Launching = TypeVar("Launching", bound=Callable[..., Any])


class OnDevice(NamedTuple):
    """What ``direct`` finds, and for every column how that went (B·m,) int32: 0 good, 1 wants care, 2 out of range."""

    found: Direct
    code: Tensor


def available(k: int, *tensors: Tensor) -> bool:
    """Whether the programs that hold a tableau of k components can take these tensors."""
    return (
        can_take(*tensors)
        and 0 < k <= most_components(_capability(tensors[0].device))
        and runs(_attempt, tensors[0].device, k)  # last: under a transform it would fail
    )


def can_take(*tensors: Tensor) -> bool:
    """Whether tensors are what programs take: plain ones on a CUDA device, as for ``readable``."""
    return readable(DEVICES, *tensors)


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def _attempt(device: torch.device, k: int) -> bool:
    """Whether the programs say what is plain: that W, V and HV are Y where H is the identity."""
    H = torch.eye(k, dtype=torch.float32, device=device).expand(2, k, k)
    Y = torch.ones(2, k, 1, dtype=torch.float32, device=device)
    none = torch.zeros(2, k, 1, dtype=torch.float64, device=device)
    found = direct(H, Y, none, none, None, 0.0).found
    V = solve(found.A, found.free.view(-1, k), Y.double())
    _, grad_Y = gradients(H, Y, found.W.mT, V, wants_H=True, wants_Y=True)
    assert grad_Y is not None  # asked for
    return bool((torch.stack((found.W.mT, V, grad_Y.double())) - 1).abs().max() <= 1e-6)


def where_the_tensors_are(function: Launching) -> Launching:
    """Triton launches on the current device, whatever device its tensors are on."""

    @wraps(function)
    def wrapped(x: Tensor, *args: Any, **options: Any) -> Any:
        if x.device.type != "cuda":
            return function(x, *args, **options)
        with torch.cuda.device(x.device):
            return function(x, *args, **options)

    return wrapped  # type: ignore[return-value]


@where_the_tensors_are
def search(A: Tensor, C: Tensor, guess: Tensor | None) -> Search:
    """``diffnmf.kernels.columns.search``: A (B, k, k) of unit diagonal, C (N, k), guess (N, k) bool or None."""
    from diffnmf.kernels.cuda import programs

    A, C = A.contiguous(), C.contiguous()
    columns, k = C.shape
    x, free = torch.empty_like(C), C.new_empty(columns, k, dtype=torch.bool)
    pivot, steps = C.new_empty(columns), C.new_empty(columns, dtype=torch.int32)
    code = torch.empty_like(steps)
    if columns:
        m = columns // len(A)
        given = None if guess is None else guess.contiguous().view(torch.int8)
        programs.search[(columns,)](
            *(A, C, A if given is None else given, A, A, A, A, A),
            *(x, free.view(torch.int8), pivot, steps, code, m, 0, 0, 0),
            *_limits(k, 0.0),
            **column_sizes(k),
            RAW=False,
            GUESSED=given is not None,
        )
    return Search(x, free, pivot, code == 0, steps.long())


@where_the_tensors_are
def solve(A: Tensor, free: Tensor, b: Tensor) -> Tensor:
    """``diffnmf.kernels.columns.solve``: A (B, k, k), free (B·m, k) bool, b (B, k, m); v (B, k, m)."""
    from diffnmf.kernels.cuda import programs

    batch, k, m = b.shape
    v = b.new_empty(batch, m, k)
    if batch * m:
        flags = free.contiguous().view(torch.int8)
        programs.solve[(batch * m,)](A.contiguous(), flags, b, v, m, *b.stride(), 2 * k * EPS, **column_sizes(k))
    return v.mT


@where_the_tensors_are
def direct(H: Tensor, Y: Tensor, ridge: Tensor, l1: Tensor, guess: Tensor | None, least_pivot: float) -> OnDevice:
    """``diffnmf.kernels.columns.direct``, in three launches and without a wait: nothing is read back.

    Arguments:
        H: (B, n, k), float32 or float64, of any strides.
        Y: (B, n, m), likewise.
        ridge: (B, k, 1) float64, of any strides.
        l1: (B, k, m) float64, of any strides.
        guess: (B, m, k) bool, the first free sets, or None.
        least_pivot: a column whose free set is less independent than this wants more care.
    """
    from diffnmf.kernels.cuda import programs

    (batch, n, k), m = H.shape, Y.shape[2]
    new = torch.empty((), dtype=torch.float64, device=H.device).new_empty
    found = Direct(
        new(batch, m, k),
        new(batch, m, k, dtype=torch.bool),
        new(batch, m),
        new(batch, m, dtype=torch.int32),
        new(batch, m, dtype=torch.bool),
        new(batch, k, k),
        new(batch, k),
    )
    G, C, squares = new(batch, k, k), new(batch, m, k), new(batch, m)
    any_h, any_y = new(batch, k, dtype=torch.int8), new(batch, m, dtype=torch.int8)
    state = new(batch, dtype=torch.int32)
    code = new(batch * m, dtype=torch.int32)
    tile = gram_tile(k, m, _capability(H.device))
    programs.gram[(batch * -(-m // tile["COLUMNS"]),)](
        *(H, Y, G, C, squares, any_h, any_y, n, m, *H.stride(), *Y.stride()), **tile
    )
    limits = INDEPENDENT_PIVOT, INDEPENDENT_ROW_SUM, 2 * k * EPS
    programs.prepare[(batch,)](
        G, ridge, any_h, found.A, found.scale, state, *ridge.stride()[:2], *limits, **column_sizes(k)
    )
    given = None if guess is None else guess.contiguous().view(torch.int8)
    programs.search[(batch * m,)](
        *(found.A, C, found.A if given is None else given, l1, found.scale, squares, any_y, state),
        *(found.W, found.free.view(torch.int8), found.pivot, found.steps, code, m, *l1.stride()),
        *_limits(k, least_pivot),
        **column_sizes(k),
        RAW=True,
        GUESSED=given is not None,
    )
    return OnDevice(found, code)


@where_the_tensors_are
def gradients(
    H: Tensor, Y: Tensor, W: Tensor, V: Tensor, *, wants_H: bool, wants_Y: bool
) -> tuple[Tensor | None, Tensor | None]:
    """∂L/∂H (B, n, k) and ∂L/∂Y (B, n, m), as in ``solvers/gradient.py``, for W and V (B, k, m) in float64."""
    from diffnmf.kernels.cuda import programs

    (batch, n, k), m = H.shape, Y.shape[2]
    grad_H = torch.empty_like(H, memory_format=torch.contiguous_format) if wants_H else None
    grad_Y = torch.empty_like(Y, memory_format=torch.contiguous_format) if wants_Y else None
    cross = W @ V.mT
    columns = V.mT.contiguous()  # (B, m, k)
    tile = gradients_tile(k, _capability(H.device))
    programs.gradients[(batch * -(-n // tile["ROWS"]),)](
        *(H, Y, columns, (cross + cross.mT).contiguous(), H if grad_H is None else grad_H),
        *(Y if grad_Y is None else grad_Y, n, m, *H.stride(), *Y.stride()),
        **tile,
        WANTS_H=wants_H,
        WANTS_Y=wants_Y,
    )
    return grad_H, grad_Y


def most_components(capability: tuple[int, int]) -> int:
    """Up to which k the programs stay in the registers of such a card (tests compile them)."""
    return MAX_COMPONENTS if capability in DATA_CENTRE else MAX_COMPONENTS_OF_OTHERS


def gram_tile(k: int, m: int, capability: tuple[int, int]) -> dict[str, int]:
    """How ``gram`` cuts a problem up, so that its sums have room in the registers (tests compile it)."""
    tile = {"k": k, "K": padded(k), "num_warps": 8, "enable_fp_fusion": True}
    if capability not in DATA_CENTRE:
        return {**tile, "COLUMNS": 16, "ROWS": 16}
    columns = 16 if m <= 16 else 32 if m <= 32 or capability == BLACKWELL else 64
    return {**tile, "COLUMNS": columns, "ROWS": 16 if k > 32 or capability == BLACKWELL else 32, "maxnreg": 255}


def gradients_tile(k: int, capability: tuple[int, int]) -> dict[str, int]:
    """As ``gram_tile``, for ``gradients``."""
    rows = 64 if k <= 32 and capability != BLACKWELL else 32
    tile = {"k": k, "K": padded(k), "COLUMNS": 16, "ROWS": rows, "num_warps": 4, "enable_fp_fusion": True}
    return {**tile, "maxnreg": 255} if capability in DATA_CENTRE else tile


def column_sizes(k: int) -> dict[str, int]:
    """The number of components, and the warps that a tableau of that size needs not to leave the registers.

    Threads hold copies of a sum, and decide by them. Were a·b + c rounded once, as compilers like it, the one that adds
    a·b to its neighbour's c·d and the one that adds c·d to a·b would find different last bits, and part.
    """
    warps = 1 if k <= LARGEST_K_OF_ONE_WARP else WARPS_BEYOND
    return {"k": k, "K": padded(k), "num_warps": warps, "maxnreg": 255, "enable_fp_fusion": False}


def padded(k: int) -> int:
    """Triton's tiles have a power of two of rows, and its products at least 16."""
    return max(16, 1 << (k - 1).bit_length())


def _limits(k: int, least_pivot: float) -> tuple[int | float, ...]:
    """Steps by the steepest entry and at all, and what counts as zero; as in ``exact/columns.py``."""
    rounding = 2 * k * EPS
    return 5 * k, 10 * k + 20, rounding, rounding, least_pivot, NEAR_TIE, INDEPENDENT_PIVOT, LARGE_SOLUTION
