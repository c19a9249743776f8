"""The layer with the kernels in Triton, in Triton's interpreter, beside the operations of torch: differences as JSON.

A program of its own: Triton decides once in a process whether it compiles or interprets.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")  # ``executed_programs.py`` has them compiled

import torch
from nnls_problems import kkt, random_problem, with_condition
from torch import Tensor

from diffnmf.kernels import library
from diffnmf.kernels.cuda import calling
from diffnmf.kernels.cuda import constrained as constrained_calling
from diffnmf.kernels.cuda import hals as hals_calling
from diffnmf.layers import NNLSLayer

torch.set_num_threads(1)
library._remember(library.Kernel("torch", "the kernels in C would come first"))


def duplicates() -> tuple[Tensor, Tensor]:
    H, Y = random_problem(2, n=30, k=8, m=4, seed=1)
    H[0, :, 3] = H[0, :, 6]
    return H, Y


def zero_columns() -> tuple[Tensor, Tensor]:
    H, Y = random_problem(2, n=30, k=6, m=4, seed=2)
    H[0, :, 3], H[1, :, 0], Y[1, :, 2] = 0.0, 0.0, 0.0
    return H, Y


def not_finite() -> tuple[Tensor, Tensor]:
    H, Y = random_problem(3, n=30, k=6, m=4, seed=3)
    Y[0, 2, 1], H[1, 3, 3] = torch.nan, torch.inf
    return H, Y


def rank_deficient() -> tuple[Tensor, Tensor]:
    H, Y = random_problem(n=30, k=6, m=4, seed=5)
    mixing = torch.rand(6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return H @ mixing, Y


def strided() -> tuple[Tensor, Tensor]:
    H, Y = random_problem(2, n=20, k=5, m=3, seed=4)
    return H.mT.contiguous().mT, Y.movedim(0, -1).contiguous().movedim(-1, 0)


PROBLEMS: dict[str, tuple[Tensor, Tensor]] = {
    "float64": random_problem(2, n=40, k=10, m=5),
    "float32": random_problem(2, n=40, k=10, m=5, dtype=torch.float32),
    "bfloat16": random_problem(2, n=40, k=5, m=4, dtype=torch.bfloat16),
    "one of each": random_problem(1, n=1, k=1, m=1),
    "k > n": random_problem(1, n=6, k=9, m=4),
    "k = 40": random_problem(1, n=60, k=40, m=2),
    "rank-deficient": rank_deficient(),
    "condition 1e5": (with_condition(40, 10, 1e5), random_problem(n=40, m=5)[1]),
    "duplicates": duplicates(),
    "zero columns": zero_columns(),
    "not finite": not_finite(),
    "strided": strided(),
    "tiny": tuple(x * 1e-200 for x in random_problem(1, n=12, k=4, m=3)),
    "out of range": tuple(x * 1e-290 for x in random_problem(1, n=12, k=4, m=3)),
}  # fmt: skip
OPTIONS: dict[str, dict[str, object]] = {
    "ridge and l1": {"ridge": 0.3, "l1": 0.2},
    "ridge and l1 a problem": {
        "ridge": torch.tensor([0.3, 0.0])[:, None, None],
        "l1": torch.tensor([0.0, 0.4])[:, None, None],
    },
    "allowed": {"allowed": torch.rand(6, 4, generator=torch.Generator().manual_seed(7)) > 0.3},
}


UPPER = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64) * 0.4
SIGNED = torch.arange(6)[:, None] % 3 == 0
CONSTRAINTS: dict[str, dict[str, object]] = {
    "sum": {"total": 1.0},
    "sum at most": {"total": 0.5, "total_kind": "at_most"},
    "upper": {"upper": UPPER},
    "signed": {"signed": SIGNED},
    "sum, upper": {"total": 0.7, "upper": UPPER + 0.1},
    "sum, signed": {"total": 1.0, "signed": SIGNED},
    "sum at most, upper, signed": {"total": 0.6, "total_kind": "at_most", "upper": UPPER, "signed": SIGNED},
    "sum, allowed": {"total": 1.0, "allowed": torch.rand(6, 2, generator=torch.Generator().manual_seed(7)) > 0.3},
    "sum, l1, ridge": {"total": 1.0, "l1": 0.2, "ridge": 0.3},
}


def on(device: str) -> None:
    """cpu: the programs take tensors of the CPU, the interpreter runs them. cuda: torch does the work."""
    calling.DEVICES.clear()
    calling.DEVICES.add(device)


def solve(H: Tensor, Y: Tensor, *, triton: bool, solver: str = "unrolled", **options: object) -> list[Tensor]:
    """W and the gradients towards H and Y."""
    on("cpu" if triton else "cuda")
    H, Y = H.clone().requires_grad_(), Y.clone().requires_grad_()
    W = NNLSLayer(solver)(H, Y, **options)
    gradients = torch.autograd.grad(W.nan_to_num().double().square().sum(), (H, Y))
    return [W.detach(), *gradients]


def compared(H: Tensor, Y: Tensor, **options: object) -> dict[str, object]:
    """The largest differences from torch in units of the largest entry, and the KKT residual where it is plain."""
    used.clear()
    mine, theirs = (solve(H, Y, triton=triton, **options) for triton in (True, False))
    scale = [float(x.nan_to_num().abs().max()) or 1.0 for x in theirs]
    differences = [
        float((a.double() - b.double()).nan_to_num(nan=0.0).abs().max()) / s
        for a, b, s in zip(mine, theirs, scale, strict=True)
    ]
    same_nan = all(torch.equal(a.isnan(), b.isnan()) for a, b in zip(mine, theirs, strict=True))
    row: dict[str, object] = dict(zip(("W", "grad H", "grad Y"), differences, strict=True))
    row |= {"NaN where they are": same_nan, "codes": sorted(set(used))}
    if not options and bool(H.isfinite().all()) and bool(Y.isfinite().all()):
        parts = zip(*(x.reshape(-1, *x.shape[-2:]) for x in (H, Y, mine[0])), strict=True)
        row["KKT"] = max(kkt(*part) for part in parts)
    return row


used: list[int] = []
_direct = calling.direct


def _spied(*args: object) -> calling.OnDevice:
    result = _direct(*args)  # type: ignore[arg-type]
    used.extend(result.code.tolist())
    return result


calling.direct = _spied  # type: ignore[assignment]


walked: list[bool] = []
_walk = constrained_calling.walk


def _spied_walk(*args: object, **options: object) -> constrained_calling.Walked:
    result = _walk(*args, **options)  # type: ignore[arg-type]
    walked.extend(result.ended.tolist())
    return result


constrained_calling.walk = _spied_walk


def constrained(**options: object) -> dict[str, object]:
    """With bounds and sums, and the number of columns that the program has walked to the end."""
    walked.clear()
    rows = [compared(*random_problem(2, n=20, k=6, m=2, seed=8), **options)]
    rows += [compared(*random_problem(2, n=4, k=6, m=2, seed=9), **{"ridge": 0.1, **options})]
    names = ("W", "grad H", "grad Y")
    worst: dict[str, object] = {name: max(float(row[name]) for row in rows) for name in names}  # type: ignore[arg-type]
    return {**worst, "columns": len(walked), "ended": sum(walked)}


def reach() -> dict[str, object]:
    """Columns whose upper bounds are not enough for the sum, are just enough, leave one entry, or leave none at all."""
    from diffnmf.solvers.constrained.columns import BoundedColumns
    from diffnmf.solvers.constrained.pivoting import principal_pivoting

    A = torch.eye(3, dtype=torch.float64)[None] + 0.1
    upper = torch.tensor([[0.1, 0.2, 0.3], [0.25, 0.5, 0.25], [0.0, torch.inf, 0.0], [1.0, 1.0, 1.0]]).double()
    c, a, t = torch.ones(4, 3).double(), torch.ones(4, 3).double(), torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
    columns = BoundedColumns(A, torch.ones(1, 3).double(), c, torch.zeros_like(c), upper, a, t)
    found = {}
    for device in ("cpu", "cuda"):
        on(device)
        found[device] = principal_pivoting(columns, None)
    mine, theirs = found["cpu"], found["cuda"]
    return {
        "W": float((mine.x - theirs.x).abs().max()),
        "binds": torch.equal(mine.binds, theirs.binds),
        "solved": torch.equal(mine.solved, theirs.solved) and mine.solved.tolist() == [False, True, True, True],
        "columns": len(mine.x),
    }


def attempts() -> dict[str, object]:
    """What says on a new device whether programs run there."""
    on("cpu")
    tried = (calling._attempt, constrained_calling._attempt, hals_calling._attempt)
    return {f"{attempt.__module__}, k = {k}": attempt(torch.device("cpu"), k) for attempt in tried for k in (1, 7, 64)}


def far_apart() -> dict[str, object]:
    """Rows or columns of H and Y, rows of l1, 2³⁰ numbers apart in memory nobody wrote to: places beyond 32 bits."""
    H, Y = random_problem(1, n=3, k=3, m=3)
    l1 = torch.full((1, 3, 3), 0.1, dtype=torch.float64)
    expected = solve(H, Y, l1=l1, triton=False)
    off = []
    for apart in (1, 2):
        on("cpu")
        with tempfile.TemporaryDirectory() as folder:
            far_H = _far(H, apart, f"{folder}/H").requires_grad_()
            far_Y = _far(Y, 3 - apart, f"{folder}/Y").requires_grad_()
            W = NNLSLayer()(far_H, far_Y, l1=_far(l1, 1, f"{folder}/l1"))
            found = [W.detach(), *torch.autograd.grad(W.double().square().sum(), (far_H, far_Y))]
        off += [float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)]
    return {"off by": max(off)}


def _far(x: Tensor, dim: int, path: str) -> Tensor:
    """A copy in a sparse file, the entries along a dimension far apart."""
    strides = [1, 1, 1]
    strides[dim] = 2**30
    strides[3 - dim] = 8
    numbers = sum((size - 1) * stride for size, stride in zip(x.shape, strides, strict=True)) + 1
    Path(path).touch()
    os.truncate(path, numbers * x.element_size())
    return torch.from_file(path, shared=True, size=numbers, dtype=x.dtype).as_strided(x.shape, strides).copy_(x)


def warm_start() -> dict[str, object]:
    """From the solution itself, and from everything free: fewer steps, the same W."""
    H, Y = random_problem(1, n=40, k=10, m=5)
    W = solve(H, Y, triton=False)[0]
    rows = [compared(H, Y, W0=start) for start in (W, torch.ones_like(W))]
    return {"W": max(float(row["W"]) for row in rows), "grad H": max(float(row["grad H"]) for row in rows)}  # type: ignore[arg-type]


def form_and_systems() -> dict[str, object]:
    """The two other places of the seam: a search on a Gram form, and a system for another right-hand side."""
    from diffnmf.solvers.exact.columns import GramColumns
    from diffnmf.solvers.exact.masked import as_columns, factorize_masked
    from diffnmf.solvers.exact.search import search
    from diffnmf.solvers.exact.systems import FreeSystems
    from diffnmf.solvers.gram import gram_form
    from diffnmf.solvers.problem import make_problem

    form = gram_form(make_problem(*random_problem(2, n=30, k=7, m=4)))
    columns, start = GramColumns(form.A, as_columns(form.C)), torch.rand(8, 7, dtype=torch.float64) - 0.5
    found = {}
    for device in ("cpu", "cuda"):
        on(device)
        solution, rest = search(columns, start.clamp(min=0), 10)
        rest()
        found[device] = solution
    on("cpu")
    b = torch.randn(2, 7, 4, dtype=torch.float64)
    v = FreeSystems(form.A, found["cpu"].factor).solve(b)
    expected = factorize_masked(form.A, found["cpu"].factor.free).solve(as_columns(b))
    return {
        "W": float((found["cpu"].x - found["cuda"].x).abs().max()),
        "solved": bool(found["cpu"].solved.all()),
        "systems": float((as_columns(v) - expected).abs().max() / expected.abs().max()),
    }


SWEEPS: dict[str, dict[str, object]] = {
    "sweeps": {},
    "sweeps, float32": {"dtype": torch.float32},
    "sweeps, no extrapolation": {"extrapolate": False},
    "sweeps, k = 70": {"k": 70, "width": 5},
    "sweeps, one of each": {"k": 1, "width": 1},
    "sweeps, strided": {"strided": True},
}


def swept(
    k: int = 12, width: int = 37, dtype: torch.dtype = torch.float64, extrapolate: bool = True, strided: bool = False
) -> dict[str, object]:
    """Two sweeps of HALS from the same start, one row of which has no curvature, beside those of torch."""
    from diffnmf.factorization.hals import sweep_

    g = torch.Generator().manual_seed(0)
    M = torch.randn(3, k + 3, k, generator=g, dtype=dtype)
    C, start, last = (torch.randn(3, k, width, generator=g, dtype=dtype) for _ in range(3))
    M[:, :, k // 2] = 0.0
    C[:, k // 2] = 0.0
    A, beta = M.mT @ M, torch.tensor([0.3, 0.0, 1.0], dtype=dtype)[:, None, None]
    if strided:
        A, C = A.mT.contiguous().mT, C.mT.contiguous().mT
    found = {}
    for device in ("cpu", "cuda"):
        on(device)
        X, past = start.clamp(min=0), last.clamp(min=0)
        calls.clear()
        sweep_(A, C, X, 2, *((past, beta) if extrapolate else ()))
        found[device] = (X, past, len(calls))
    (X, past, taken), (X_, past_, of_torch) = found["cpu"], found["cuda"]
    difference = max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in ((X, X_), (past, past_)))
    zeros = bool(((X == 0) == (X_ == 0)).all()) and bool((X >= 0).all())
    return {"X": difference, "zeros": zeros, "launches": taken - of_torch}


def factorized(dtype: torch.dtype, **options: object) -> dict[str, object]:
    """A whole factorization, and how often a half-step went through the program."""
    from diffnmf.factorization import factorize

    Y = torch.rand(2, 20, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = {}
    for device in ("cpu", "cuda"):
        on(device)
        calls.clear()
        found[device] = (factorize(Y, 4, init="spa", max_iter=5, tol=0.0, **options), len(calls))  # type: ignore[arg-type]
    (mine, taken), (theirs, of_torch) = found["cpu"], found["cuda"]
    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in ((mine.H, theirs.H), (mine.W, theirs.W)))
    return {"factors": difference, "launches": taken - of_torch}


calls: list[int] = []
_half = hals_calling.half_


def _spied_half(*args: object) -> None:
    calls.append(1)
    _half(*args)  # type: ignore[arg-type]


hals_calling.half_ = _spied_half


def rows() -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, object]] = {name: compared(*problem) for name, problem in PROBLEMS.items()}
    pair = random_problem(2, n=20, k=6, m=4)
    rows |= {name: compared(*pair, **options) for name, options in OPTIONS.items()}
    rows |= {f"solver {name}": compared(*pair, solver=name) for name in ("bpp", "hals")}
    rows |= {name: constrained(**options) for name, options in CONSTRAINTS.items()}
    rows |= {"warm start": warm_start(), "form and systems": form_and_systems(), "reach": reach()}
    rows |= {"far apart": far_apart(), "attempts": attempts()}
    rows |= {name: swept(**options) for name, options in SWEEPS.items()}  # type: ignore[arg-type]
    rows |= {"factorize, float64": factorized(torch.float64), "factorize, float32": factorized(torch.float32)}
    rows |= {"factorize, hoyer": factorized(torch.float64, method="unit_columns")}
    return rows


if __name__ == "__main__":
    print(json.dumps(rows(), indent=1))
