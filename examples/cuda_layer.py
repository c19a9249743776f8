"""The sections of ``check_cuda.py`` about the NNLS layer."""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import nnls_rivals
import torch
from cuda_measuring import Row, Section, images_like, kernels, milliseconds, off_by, peak_mib, waits, without_triton
from torch import Tensor

from diffnmf import nnls
from diffnmf.kernels.cuda import calling
from diffnmf.layers import NNLSLayer

SIZES = [(1, 30), (8, 30), (64, 30), (256, 10), (256, 30), (256, 50), (2048, 30)]  # B and k of 784 × 40 problems
SMALL_SIZES = [(1, 10), (2, 10)]
ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
KKT = {torch.float64: 1e-12, torch.float32: 1e-5}
NO_TRITON = "the kernels in Triton do not run here"


def agreement(device: torch.device) -> Section:
    """W and gradients against those of the CPU, for every dtype, hard bases, NaN, and settings that lower products."""
    rows: Section = {
        f"{name}, {solver}": partial(_compared, device, H, Y, solver, options, 1e4 if "condition" in name else 1.0)
        for name, (H, Y, options) in _problems().items()
        for solver in ("unrolled", "bpp", "hals")
    }
    rows |= {f"KKT residual, {dtype}": partial(_residual, device, dtype) for dtype in KKT}
    return rows | {"TF32 allowed": partial(_with_tf32, device), "autocast": partial(_under_autocast, device)}


def _compared(device: torch.device, H: Tensor, Y: Tensor, solver: str, options: dict[str, Any], hardness: float) -> Row:
    mine, theirs = (_solved(H, Y, place, solver, options) for place in (device, torch.device("cpu")))
    errors = [off_by(a, b) for a, b in zip(mine, theirs, strict=True)]
    row: Row = dict(zip(("W", "gradient of H", "gradient of Y"), errors, strict=True))
    return row | {"ok": max(errors) <= ALLOWED[H.dtype] * hardness}


def _problems() -> dict[str, tuple[Tensor, Tensor, dict[str, Any]]]:
    H, Y = images_like(4)
    found: dict[str, tuple[Tensor, Tensor, dict[str, Any]]] = {
        str(dtype).removeprefix("torch."): (H.to(dtype), Y.to(dtype), {}) for dtype in ALLOWED
    }
    g = torch.Generator().manual_seed(1)
    U, V = (torch.linalg.qr(torch.randn(2, rows, 20, generator=g, dtype=torch.float64))[0] for rows in (60, 20))
    target = torch.randn(2, 60, 30, generator=g, dtype=torch.float64)
    hard = (U * torch.logspace(0, -5, 20, dtype=torch.float64)) @ V.mT
    twins = torch.rand(2, 60, 20, generator=g, dtype=torch.float64)
    twins[..., 3], twins[..., 5] = twins[..., 7], 0.0
    broken = Y.clone()
    broken[1, 3, 5] = torch.nan
    return found | {
        "condition 1e5": (hard, target, {}),
        "twins and zeros": (twins, target, {"ridge": 1e-3}),
        "penalties": (H, Y, {"ridge": 0.1, "l1": 0.5}),
        "sum": (H, Y, {"total": 1.0}),
        "sum at most, upper bounds": (H, Y, {"total": 1.0, "total_kind": "at_most", "upper": 0.2}),
        "upper bounds": (H, Y, {"upper": 0.1}),
        "NaN": (H, broken, {}),
    }


def _solved(H: Tensor, Y: Tensor, place: torch.device, solver: str, options: dict[str, Any]) -> tuple[Tensor, ...]:
    H, Y = (x.detach().clone().to(place).requires_grad_() for x in (H, Y))
    W = NNLSLayer(solver)(H, Y, **options)
    weights = torch.linspace(-1, 1, W.shape[-2], device=place, dtype=W.dtype).unsqueeze(-1)
    return W.detach(), *torch.autograd.grad((W.nan_to_num() * weights).sum(), (H, Y))


def _residual(device: torch.device, dtype: torch.dtype) -> Row:
    solution = nnls(*(x.to(device, dtype) for x in images_like(64 if device.type == "cuda" else 2)))
    residual = float(solution.kkt_residual.max())
    return {"largest": residual, "ok": residual <= KKT[dtype] and bool(solution.converged.all())}


def _with_tf32(device: torch.device) -> Row:
    """TF32 may change nothing: the solvers compute in float64."""
    H, Y = (x.to(device, torch.float32) for x in images_like(4))
    W = NNLSLayer()(H, Y)
    torch.set_float32_matmul_precision("high")
    try:
        lowered = off_by(NNLSLayer()(H, Y), W)
    finally:
        torch.set_float32_matmul_precision("highest")
    return {"changes W by": lowered, "ok": lowered <= 1e-5}


def _under_autocast(device: torch.device) -> Row:
    """Nor may autocast."""
    H, Y = (x.to(device, torch.float32) for x in images_like(4))
    W = NNLSLayer()(H, Y)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        under = NNLSLayer()(H, Y)
    cast = off_by(under, W)
    return {"changes W by": cast, "ok": cast <= 1e-5 and under.dtype == torch.float32}


def layer(device: torch.device) -> Section:
    """Times, memory, kernels and waits by size, with the kernels in Triton and without."""
    rows: Section = {}
    for B, k in SIZES if device.type == "cuda" else SMALL_SIZES:
        rows[f"B = {B}, k = {k}"] = partial(_measured, device, B, k)
        rows[f"B = {B}, k = {k}, torch alone"] = partial(_measured_alone, device, B, k)
    B = 256 if device.type == "cuda" else 2
    for name, options in {"sum": {"total": 1.0}, "upper bounds": {"upper": 0.1}}.items():
        rows[f"B = {B}, k = 30, {name}"] = partial(_measured_constrained, device, B, options)
    return rows


def _measured_alone(device: torch.device, B: int, k: int) -> Row:
    with without_triton():
        return _measured(device, B, k)


def _measured_constrained(device: torch.device, B: int, options: dict[str, float]) -> Row:
    return {**_measured(device, B, 30, **options), "ok": None}  # its waits are not few


def _measured(device: torch.device, B: int, k: int, **options: Any) -> Row:
    inputs = [_leaves(device, B, k, seed) for seed in range(3 if B <= 256 else 2)]
    gradient = torch.randn(B, k, 40, device=device)
    solve = NNLSLayer(**options)
    forward: list[Callable[[], object]] = [partial(solve, H.detach(), Y.detach()) for H, Y in inputs]
    both: list[Callable[[], object]] = [partial(_both, solve, H, Y, gradient) for H, Y in inputs]
    where = waits(both[0], device)
    return {
        "forward ms": milliseconds(forward, device),
        "forward and backward ms": milliseconds(both, device),
        "peak MiB": peak_mib(both[0], device),
        "waits": where,
        "launched": kernels(both[0], device),
        "ok": None if where is None else len(where) <= 1,
    }


def _leaves(device: torch.device, B: int, k: int, seed: int = 0) -> tuple[Tensor, ...]:
    return tuple(x.to(device, torch.float32).requires_grad_() for x in images_like(B, k=k, seed=seed))


def _both(solve: NNLSLayer, H: Tensor, Y: Tensor, gradient: Tensor) -> object:
    return torch.autograd.grad(solve(H, Y), (H, Y), gradient)


def rivals(device: torch.device) -> Section:
    """The same problems on the CPU beside the device, and by qpth on the device, where it is installed."""
    B = 256 if device.type == "cuda" else 2
    places = dict.fromkeys((device, torch.device("cpu")))
    rows: Section = {f"this layer on {place}, B = {B}": partial(_on, place, B) for place in places}
    return rows | {f"qpth, B = {B}": partial(_with_qpth, device, B)}


def _on(place: torch.device, B: int) -> Row:
    H, Y = _leaves(place, B, 30)
    call = partial(_both, NNLSLayer(), H, Y, torch.randn(B, 30, 40, device=place))
    return {
        "forward and backward ms": milliseconds([call], place, 5),
        "threads": torch.get_num_threads() if place.type == "cpu" else None,
    }


def _with_qpth(device: torch.device, B: int) -> Row:
    if importlib.util.find_spec("qpth") is None:
        return {"not run": "not installed"}
    H, Y = (x.detach().double().requires_grad_() for x in _leaves(device, B, 30))

    def call() -> object:
        W = nnls_rivals.qpth(H, Y)
        return torch.autograd.grad(W.sum(), (H, Y))

    return {"forward and backward ms": milliseconds([call], device, 3)}


def warps(device: torch.device) -> Section:
    """The time of the layer by the warps and registers that a column gets, and by how the Gram matrices are cut up."""
    if not calling.available(30, torch.zeros(1, device=device)):
        return {"warps": lambda: {"not run": NO_TRITON}}
    rows: Section = {
        f"k = {k}, {count} warps": partial(_with_sizes, device, k, "column_sizes", {"num_warps": count})
        for k in (10, 30, 50)
        for count in (1, 2, 4, 8)
    }
    # Fewer registers than the tableau wants: some go through memory, but more columns are under way at a time.
    rows |= {
        f"k = 30, {count} warps, {registers} registers": partial(
            _with_sizes, device, 30, "column_sizes", {"num_warps": count, "maxnreg": registers}
        )
        for count, registers in ((1, 168), (1, 128), (2, 128))
    }
    tiles = [{"COLUMNS": 64, "ROWS": n, "num_warps": count} for n in (16, 32) for count in (4, 8)]
    tiles += [{**tile, "COLUMNS": 32} for tile in tiles]
    return rows | {
        f"k = {k}, Gram {', '.join(map(str, tile.values()))}": partial(_with_sizes, device, k, "gram_tile", tile)
        for k in (10, 30, 50)
        for tile in tiles
    }


def _with_sizes(device: torch.device, k: int, name: str, sizes: dict[str, int]) -> Row:
    """The forward pass with some sizes instead of those that a function of ``calling`` gives."""
    H, Y = (x.detach() for x in _leaves(device, 256, k))
    before = getattr(calling, name)
    setattr(calling, name, lambda *args: {**before(*args), **sizes})
    try:
        return {"forward ms": milliseconds([partial(NNLSLayer(), H, Y)], device)}
    finally:
        setattr(calling, name, before)


def graphs(device: torch.device) -> Section:
    """Under torch.compile, and recorded in a CUDA graph."""
    modes = ("default", "reduce-overhead")
    rows: Section = {f"torch.compile, {mode}": partial(_compiled, device, mode) for mode in modes}
    return rows | {"CUDA graph": partial(_recorded, device)}


def _compiled(device: torch.device, mode: str) -> Row:
    H, Y = (x.detach() for x in _leaves(device, 64 if device.type == "cuda" else 2, 30))
    torch._dynamo.reset()
    compiled = torch.compile(NNLSLayer(), mode=mode)
    error = off_by(compiled(H, Y).clone(), NNLSLayer()(H, Y))
    return {"changes W by": error, "ms": milliseconds([partial(compiled, H, Y)], device), "ok": error <= 1e-5}


def _recorded(device: torch.device) -> Row:
    H, Y = (x.detach() for x in _leaves(device, 64 if device.type == "cuda" else 2, 30))
    if not calling.available(30, H):
        return {"not run": NO_TRITON}
    solve = NNLSLayer()
    eager = solve(H, Y)
    torch.cuda.synchronize(device)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        for _ in range(3):
            solve(H, Y)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        W = solve(H, Y)
    graph.replay()
    torch.cuda.synchronize(device)
    error = off_by(W, eager)
    return {"changes W by": error, "ms": milliseconds([graph.replay], device), "ok": error <= 1e-5}
