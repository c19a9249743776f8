"""Time the NNLS layer against its rivals on groups of real images.

    make bench-venv                                        # the rivals live in an environment of their own
    .bench-venv/bin/python examples/benchmark_nnls.py      # a table, benchmark_nnls.csv and benchmark_nnls.png
    .bench-venv/bin/python examples/benchmark_nnls.py --device cuda

Each row: median time of the forward pass and of forward and backward (after a warm-up), the KKT residual, the error of
the gradient with respect to H against the exact formula, and the peak of the memory above what was in use before.
Rivals that are not installed are left out and named; no rival runs at sizes that exceed --patience.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import nnls_rivals
import torch
from benchmarking import half_fitted_basis, mnist_or_digits, save_csv
from torch import Tensor

from diffnmf import __version__
from diffnmf.data import GroupSampler, group_matrix
from diffnmf.hardware import AUTO, DEVICE_HELP, device_option
from diffnmf.interrupts import interruptible
from diffnmf.layers import NNLSLayer
from diffnmf.solvers.optimality import optimality
from diffnmf.solvers.problem import make_problem

OURS = ("unrolled", "bpp", "hals")
FLOOR = "forming HᵀH and HᵀY"
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One method at one size; times in seconds, memory in MiB, None where it does not apply."""

    B: int
    k: int
    method: str
    forward: float
    forward_backward: float | None
    kkt_residual: float | None
    gradient_error: float | None
    peak_mib: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=device_option, default=AUTO, help=DEVICE_HELP)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 256], metavar="B")
    parser.add_argument("--k", type=int, nargs="+", default=[10, 30, 50])
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of which the median is taken")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds that one call of a rival may take")
    parser.add_argument("--paper", type=int, nargs="*", default=[1], metavar="B", help="batches for full cvxpylayers")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--data-dir")
    parser.add_argument("--output", type=Path, default=Path("benchmark"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    images = mnist_or_digits(options.data_dir)
    print(
        f"diffnmf {__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device},"
        f" {options.dtype}, {images.name} groups of 40, median of {options.repeats}"
    )
    missing = [name for name, package in nnls_rivals.PACKAGES.items() if importlib.util.find_spec(package) is None]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (make bench-venv installs them)")
    rows: list[Row] = []
    too_slow: set[str] = set(missing)
    for k in options.k:
        slow_here = set(too_slow)
        for batch in sorted(options.batches):
            H, Y = _problem(images, batch, k, options)
            for name, method, differentiable in _methods(batch, options.paper):
                if name not in slow_here:
                    try:
                        row = _measure(name, method, differentiable, H, Y, options)
                    except Exception as error:  # a rival that fails is a result, too
                        print(f"B={batch:<4d} k={k:<3d} {name:24s}  failed: {str(error).splitlines()[0]}", flush=True)
                        slow_here.add(name)
                        continue
                    rows.append(row)
                    print(_line(row, rows), flush=True)
                    if max(row.forward, row.forward_backward or 0) * 4 > options.patience:
                        slow_here.add(name)  # four times the columns or more would be too much
    options.output.mkdir(parents=True, exist_ok=True)
    save_csv(rows, options.output / "benchmark_nnls.csv")
    _save_plot(rows, options.output / "benchmark_nnls.png")
    print(options.output)


def _problem(images, batch: int, k: int, options: argparse.Namespace) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """Groups Y and bases H from ten rounds of HALS: what a half-trained model asks of the layer."""
    sampler = GroupSampler(images)
    groups = torch.cat([sampler.epoch(epoch) for epoch in range(-(-batch // len(sampler)))])[:batch]
    Y = group_matrix(images, groups).to(options.device, getattr(torch, options.dtype))
    H = half_fitted_basis(Y, k)
    # A trace of noise: sweeps leave columns dead, which some rivals cannot take.
    return H + 0.01 * torch.rand_like(H), Y


def _methods(batch: int, paper: list[int]) -> list[tuple[str, nnls_rivals.Rival, bool]]:
    methods: list[tuple[str, nnls_rivals.Rival, bool]] = [(FLOOR, nnls_rivals.gram_floor, True)]
    methods += [(f"diffnmf {name}", NNLSLayer(name), True) for name in OURS]
    methods += [("diffnmf cvxpylayer", NNLSLayer("cvxpylayer"), True)] if batch <= 8 else []
    methods += [(name, rival, False) for name, rival in nnls_rivals.FORWARD_ONLY.items()]
    return methods + [
        (name, rival, True)
        for name, rival in nnls_rivals.DIFFERENTIABLE.items()
        if name != "cvxpylayers, full H" or batch in paper
    ]


def _measure(
    name: str, method: nnls_rivals.Rival, differentiable: bool, H: Tensor, Y: Tensor, options: argparse.Namespace
) -> Row:
    weights = torch.randn(len(H), H.shape[2], Y.shape[2], generator=torch.Generator().manual_seed(1)).to(H)
    leaf = H.clone().requires_grad_()
    targets = Y.clone().requires_grad_()  # as in a network, where both need gradients

    def forward() -> Tensor:
        with torch.no_grad():
            return method(H, Y)

    def forward_backward() -> tuple[Tensor, Tensor]:
        W = method(leaf, targets)
        return torch.autograd.grad((W * weights).sum(), (leaf, targets))  # type: ignore[return-value]

    W, peak = _with_peak(forward, H.device)
    residual = gradient_error = both = None
    if name != FLOOR:
        residual = optimality(make_problem(H, Y), W).residual.max().item()
    seconds = _median_time(forward, options)
    if differentiable:
        (gradient, _), peak = _with_peak(forward_backward, H.device)
        both = _median_time(forward_backward, options)
        if name != FLOOR:
            exact = _exact_gradient(leaf, Y, weights)
            gradient_error = ((gradient - exact).norm() / exact.norm()).item()
    return Row(len(H), H.shape[2], name, seconds, both, residual, gradient_error, peak)


def _exact_gradient(H: Tensor, Y: Tensor, weights: Tensor) -> Tensor:
    """The implicit gradient in float64 on the exact free set, column by column with a dense solver."""
    H, Y, weights = H.detach().double(), Y.double(), weights.double()
    W = NNLSLayer("bpp")(H, Y)
    gradient = torch.zeros_like(H)
    for b in range(len(H)):
        for j in range(Y.shape[2]):
            free = W[b, :, j] > 0
            basis = H[b][:, free]
            v = torch.linalg.lstsq(basis.mT @ basis, weights[b, free, j, None], driver="gelsd").solution[:, 0]
            residual = Y[b, :, j] - basis @ W[b, free, j]
            gradient[b][:, free] += torch.outer(residual, v) - torch.outer(basis @ v, W[b, free, j])
    return gradient


def _median_time(call: Callable[[], object], options: argparse.Namespace) -> float:
    times: list[float] = []
    while len(times) < options.repeats:
        _synchronize(options.device)
        start = time.perf_counter()
        call()
        _synchronize(options.device)
        times.append(time.perf_counter() - start)
        if sum(times) > 2 * options.patience:
            break  # a rival this slow needs no five repetitions
    return statistics.median(times)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _with_peak(call: Callable[[], T], device: torch.device) -> tuple[T, float | None]:
    """The result, which also warms the method up, and the peak memory of the call in MiB."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = call()
        return result, (torch.cuda.max_memory_allocated() - before) / 2**20
    reset = Path("/proc/self/clear_refs")  # on Linux, writing 5 sets the peak back to the present
    if not reset.exists():
        return call(), None
    reset.write_text("5")
    resident = _status("VmRSS")
    result = call()
    return result, (_status("VmHWM") - resident) / 1024


def _status(entry: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return float(line.split()[1])
    return float("nan")


def _line(row: Row, rows: list[Row]) -> str:
    floor = next(r for r in rows if (r.B, r.k, r.method) == (row.B, row.k, FLOOR))
    cells = [
        f"B={row.B:<4d} k={row.k:<3d} {row.method:24s}",
        f"forward {row.forward * 1e3:9.1f} ms",
        f"with backward {row.forward_backward * 1e3:9.1f} ms" if row.forward_backward else " " * 26,
        f"({row.forward_backward / floor.forward_backward:7.1f}× floor)"
        if row.forward_backward and floor.forward_backward
        else " " * 16,
        f"KKT {row.kkt_residual:.0e}" if row.kkt_residual is not None else "",
        f"gradient error {row.gradient_error:.0e}" if row.gradient_error is not None else "",
        f"{row.peak_mib:.0f} MiB" if row.peak_mib is not None else "",
    ]
    return "  ".join(cells).rstrip()


def _save_plot(rows: list[Row], path: Path) -> None:
    """Growth with the columns B·m at each k, and with k at the largest batch that all sizes share."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    by_columns, by_k = figure.subplots(1, 2)
    methods = list(dict.fromkeys(row.method for row in rows))
    middle = sorted({row.k for row in rows})[len({row.k for row in rows}) // 2]
    batch = 8 if any(row.B == 8 for row in rows) else rows[0].B
    for number, method in enumerate(methods):
        style = {"marker": "osv^D<>pXh*"[number % 11], "label": method, "color": f"C{number % 10}"}
        if method.startswith("diffnmf") or method == FLOOR:
            style["linewidth"] = "2.5"
        for axes, chosen, x in (
            (by_columns, [r for r in rows if r.method == method and r.k == middle], lambda r: 40 * r.B),
            (by_k, [r for r in rows if (r.method, r.B) == (method, batch)], lambda r: r.k),
        ):
            axes.plot([x(r) for r in chosen], [r.forward_backward or r.forward for r in chosen], **style)
    for axes, label, title in (
        (by_columns, "columns B·m", f"k = {middle}"),
        (by_k, "components k", f"B = {batch}"),
    ):
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds", title=f"{title}, n = 784, m = 40")
        axes.grid(alpha=0.3, which="both")
    by_k.legend(
        loc="center left", bbox_to_anchor=(1.02, 0.5), title="forward and backward,\nor forward where that is all"
    )
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    with interruptible():
        main()
