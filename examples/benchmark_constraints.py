"""Time NNLS with constraints: against the plain problem, and against loops over the columns, as users write them now.

    make bench-venv
    .bench-venv/bin/python examples/benchmark_constraints.py --output benchmark_constraints.csv

Cases: unmixing (mixtures of a few of k overlapping spectra, 10,000 columns of 200 bands) on the simplex, with bounds,
and with a sum that is an upper bound; leave-one-out with 65 components and 4,096 spectra of 96 channels, with a mask;
row weights. One thread, float64. All take part in turns, ``--repeats`` times; the fastest call of each counts. Run it
on an idle machine. A loop is timed on its first columns, and scaled up: the table says on how many.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import save_csv
from scipy.optimize import nnls as scipy_nnls
from torch import Tensor

from diffnmf import NNLSLayer, nnls

Call = Callable[[], object]
COLUMNS = 10_000
OF_A_LOOP = 500  # columns that a loop is timed on


@dataclass(frozen=True)
class Row:
    """One case and one who solves it: seconds for all columns, the columns timed, and how wrong the result is."""

    case: str
    who: str
    seconds: float
    columns_timed: int
    kkt_residual: float | None


@dataclass(frozen=True)
class Entry:
    """A call that solves ``timed`` of ``columns`` columns; ``check`` gives the KKT residual, once."""

    call: Call
    timed: int
    columns: int
    check: Callable[[], float] | None = None


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def spectra(k: int, bands: int = 200) -> Tensor:
    """H (bands, k): smooth spectra of one to three overlapping bumps on a common ground."""
    g, x = generator(), torch.linspace(0, 1, bands, dtype=torch.float64)[:, None, None]
    centre, width = torch.rand(k, 3, generator=g).double(), 0.03 + 0.15 * torch.rand(k, 3, generator=g).double()
    height = torch.rand(k, 3, generator=g).double()
    return 0.2 + (height * torch.exp(-(((x - centre) / width) ** 2) / 2)).sum(-1)


def mixtures(H: Tensor, m: int = COLUMNS) -> Tensor:
    """Y (n, m): mixtures of some three of the spectra, which sum to one, and noise."""
    g, k = generator(), H.shape[1]
    weights = -torch.rand(k, m, generator=g).double().log() * (torch.rand(k, m, generator=g) < 3 / k)
    weights[0] += 1e-3
    return H @ (weights / weights.sum(0)) + 0.01 * torch.randn(len(H), m, generator=g).double()


def simplex_rivals(H: Tensor, Y: Tensor) -> dict[str, Entry]:
    """Loops over the columns, and SPAMS, where they are installed."""
    h, y = H.numpy(), np.asfortranarray(Y.numpy())
    k, few = h.shape[1], y[:, :OF_A_LOOP]
    G, C = h.T @ h, h.T @ few
    entries: dict[str, Entry] = {}
    for name, make in (("daqp loop", _daqp), ("quadprog loop", _quadprog), ("cvxopt loop", _cvxopt)):
        try:
            solve = make(G, k)
        except ImportError:
            continue
        entries[name] = Entry(partial(_loop, solve, C), OF_A_LOOP, COLUMNS)
    try:
        import spams
    except ImportError:
        return entries
    fortran = np.asfortranarray(h)
    entries["spams.decompSimplex"] = Entry(
        lambda: spams.decompSimplex(y, fortran, computeXtX=True, numThreads=1), COLUMNS, COLUMNS
    )
    return entries


def _loop(solve: Callable[[np.ndarray], object], C: np.ndarray) -> str:
    """Every column; "failed" where one cannot be solved."""
    for c in C.T:
        try:
            solve(c)
        except Exception:
            return "failed"
    return ""


def _daqp(G: np.ndarray, k: int) -> Callable[[np.ndarray], object]:
    import daqp

    A = np.ones((1, k))
    upper, lower = np.r_[np.full(k, 1e30), 1.0], np.r_[np.zeros(k), 1.0]
    sense = np.r_[np.zeros(k), 5].astype(np.intc)  # the last is an equality
    return lambda c: daqp.solve(G, -c, A, upper.copy(), lower.copy(), sense.copy())


def _quadprog(G: np.ndarray, k: int) -> Callable[[np.ndarray], object]:
    import quadprog

    constraints, bounds = np.c_[np.ones(k), np.eye(k)], np.r_[1.0, np.zeros(k)]
    return lambda c: quadprog.solve_qp(G, c, constraints, bounds, 1)


def _cvxopt(G: np.ndarray, k: int) -> Callable[[np.ndarray], object]:
    from cvxopt import matrix, solvers

    solvers.options["show_progress"] = False
    P, lower, zero = matrix(G), matrix(-np.eye(k)), matrix(np.zeros(k))
    A, b = matrix(np.ones((1, k))), matrix(1.0)
    return lambda c: solvers.qp(P, matrix(-c), lower, zero, A, b)


def unmixing(k: int) -> dict[str, dict[str, Entry]]:
    """The simplex, bounds and a bounded sum against the plain problem, and the rivals."""
    H = spectra(k)
    Y = mixtures(H)
    layer = NNLSLayer()

    def ours(**constraints: Any) -> Entry:
        return Entry(
            lambda: layer(H, Y, **constraints),
            COLUMNS,
            COLUMNS,
            lambda: nnls(H, Y, **constraints).kkt_residual.item(),
        )

    own = {
        "plain": ours(),
        "total = 1": ours(total=1.0),
        "total ≤ 1": ours(total=1.0, total_kind="at_most"),
        "total ≤ 0.9": ours(total=0.9, total_kind="at_most"),
        "upper = 0.5": ours(upper=0.5),
        "total = 1, upper = 0.5": ours(total=1.0, upper=0.5),
        "signed": ours(signed=torch.arange(k)[:, None] < k // 4),
    }
    leaf, targets = H.clone().requires_grad_(), Y.clone().requires_grad_()

    def backward(**constraints: Any) -> Entry:
        return Entry(
            lambda: torch.autograd.grad(layer(leaf, targets, **constraints).square().sum(), (leaf, targets)),
            COLUMNS,
            COLUMNS,
        )

    steps = {"plain": backward(), "total = 1": backward(total=1.0)}
    return {
        f"unmixing, k = {k}": {**own, **simplex_rivals(H, Y)},
        f"unmixing, k = {k}, forward and backward": steps,
    }


def leave_one_out(k: int = 65, n: int = 96, spectra_count: int = 4096) -> dict[str, dict[str, Entry]]:
    """Each spectrum without each component: 65 · 4,096 columns. How mutational signatures are told significant."""
    g = generator()
    H = torch.rand(n, k, generator=g).double() ** 4
    weights = torch.rand(k, spectra_count, generator=g).double() * (torch.rand(k, spectra_count, generator=g) < 0.1)
    Y = (H @ weights * 50).round()
    out = ~torch.eye(k, dtype=torch.bool)[:, :, None]  # problem i is without component i
    h, y = H.numpy(), Y.numpy()

    def loop() -> None:
        for i in range(OF_A_LOOP):
            keep = np.arange(k) != i % k
            scipy_nnls(h[:, keep], y[:, i])

    layer, columns = NNLSLayer(), k * spectra_count
    few = Y[:, :64]
    ours = Entry(
        lambda: layer(H.expand(k, n, k), Y, allowed=out),
        columns,
        columns,
        lambda: nnls(H.expand(k, n, k), few, allowed=out).kkt_residual.max().item(),
    )
    return {"leave one of 65 out": {"diffnmf, allowed": ours, "scipy loop": Entry(loop, OF_A_LOOP, columns)}}


def row_weights(k: int, n: int = 200, m: int = 2000) -> dict[str, dict[str, Entry]]:
    """Weights of every entry of Y, and of its rows."""
    H = spectra(k, n)
    Y = mixtures(H, m)
    weights = 0.1 + torch.rand(n, m, generator=generator()).double()
    h, y, root = H.numpy(), Y.numpy(), weights.sqrt().numpy()

    def loop() -> None:
        for i in range(OF_A_LOOP):
            scipy_nnls(h * root[:, i : i + 1], y[:, i] * root[:, i])

    layer = NNLSLayer()

    def ours(weights: Tensor) -> Entry:
        solve = partial(layer, H, Y, weights=weights)
        return Entry(solve, m, m, lambda: nnls(H, Y, weights=weights).kkt_residual.item())

    rows = weights[:, :1].contiguous()
    own, shared = "diffnmf, weights (n, m)", "diffnmf, weights (n, 1)"
    return {f"row weights, k = {k}": {own: ours(weights), shared: ours(rows), "scipy loop": Entry(loop, OF_A_LOOP, m)}}


def measure(cases: dict[str, dict[str, Entry]], repeats: int) -> list[Row]:
    """The fastest of so many calls in turns."""
    rows = []
    for case, entries in cases.items():
        best = dict.fromkeys(entries, float("inf"))
        failed = set()
        for _ in range(repeats):
            for who, entry in entries.items():
                if who in failed:
                    continue
                start = time.perf_counter()
                result = entry.call()
                seconds = (time.perf_counter() - start) * entry.columns / entry.timed
                if isinstance(result, str) and result:
                    failed.add(who)
                    print(f"{case}: {who} failed on a column")
                best[who] = min(best[who], seconds)
        for who, entry in entries.items():
            if who in failed:
                continue
            residual = None if entry.check is None else entry.check()
            row = Row(case, who, best[who], entry.timed, residual)
            note = "" if residual is None else f"   KKT {residual:.0e}"
            each = row.seconds / entry.columns * 1e6
            print(f"{case:42} {who:24} {row.seconds * 1e3:9.1f} ms {each:8.2f} µs a column{note}")
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="calls of each, in turns (default: %(default)s)")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--output", type=Path, help="a CSV file for the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases: dict[str, dict[str, Entry]] = {}
    for more in (unmixing(10), unmixing(30), leave_one_out(), row_weights(10), row_weights(30)):
        cases |= {name: entries for name, entries in more.items() if arguments.only in name}
    rows = measure(cases, arguments.repeats)
    if arguments.output is not None:
        save_csv(rows, arguments.output)


if __name__ == "__main__":
    main()
