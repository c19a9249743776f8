"""Time the factorisations against scikit-learn and torchnmf: many groups of real images, and one big matrix.

    make bench-venv                                       # torchnmf lives in an environment of its own
    .bench-venv/bin/python examples/benchmark_nmf.py      # tables, benchmark_nmf.csv and benchmark_nmf.png
    .bench-venv/bin/python examples/benchmark_nmf.py --groups 100 --columns 0
    .bench-venv/bin/python examples/benchmark_nmf.py --device cuda

Everyone begins at the same random start, in float32; the rows "HALS from ..." make a start of their own, on the clock
(k-means is scikit-learn's). The target is the mean relative error ‖Y − HW‖ / ‖Y‖ that scikit-learn's coordinate descent
has at the end; the table says when each method passes it, and how far the projected gradient is down by then. Errors
are measured off the clock. diffnmf is called anew for every checkpoint, for so many iterations; rivals go on from one
checkpoint to the next, and with many groups their seconds are shared among the cores without loss. On the CPU, diffnmf
uses all cores through torch's threads.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nmf_rivals
import torch
from benchmark_starts import k_means
from benchmarking import mnist_or_digits, save_csv
from nmf_rivals import Snapshot
from torch import Tensor

from diffnmf import __version__
from diffnmf.data import GroupSampler, group_matrix
from diffnmf.factorization import HALS, Factors, factorize, initialize
from diffnmf.factorization.base import Method
from diffnmf.figures.drawing import COLOURS
from diffnmf.hardware import AUTO, DEVICE_HELP, device_option
from diffnmf.interrupts import interruptible
from diffnmf.metrics import projected_gradient, relative_error

REFERENCE = "scikit-learn CD"
OURS: dict[str, Method | str] = {
    "diffnmf HALS": "hals",
    "diffnmf HALS, not extrapolated": HALS(extrapolate=False),
    "diffnmf ANLS": "anls",
    "diffnmf MU": "mu",
}
STARTS = ("nndsvd", "nndsvda", "spa", "k-means", "merge", "auto")
CHECKPOINTS = (1, 2, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 100, 150, 200)
SLOW = ("torchnmf MU", "diffnmf ANLS", "HALS from k-means")
FEW = 40  # groups for the slow ones; their seconds are scaled up


@dataclass(frozen=True)
class Point:
    """Where a method is after so many iterations: means over the matrices, seconds for all of them."""

    problem: str
    method: str
    iterations: int
    seconds: float
    relative_error: float
    projected_gradient: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=device_option, default=AUTO, help=DEVICE_HELP)
    parser.add_argument("--groups", type=int, default=1355, help="groups of 40 images; 0 leaves this part out")
    parser.add_argument("--k", type=int, default=30, help="components of a group")
    parser.add_argument("--columns", type=int, default=60_000, help="images in the big matrix; 0 leaves it out")
    parser.add_argument("--big-k", type=int, default=50, help="components of the big matrix")
    parser.add_argument("--iterations", type=int, default=200, help="of scikit-learn, and at the most of everyone else")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds for one call, beyond which one is left out"
    )
    parser.add_argument("--threads", type=int, help="CPU cores to use")
    parser.add_argument("--data-dir")
    parser.add_argument("--output", type=Path, default=Path("benchmark"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    print(f"diffnmf {__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    images = mnist_or_digits(options.data_dir)
    problems = []
    if options.groups:
        sampler = GroupSampler(images)
        groups = torch.cat([sampler.epoch(epoch) for epoch in range(-(-options.groups // len(sampler)))])
        problems.append((group_matrix(images, groups[: options.groups]), options.k))
    if options.columns:
        problems.append((group_matrix(images, torch.arange(min(options.columns, len(images)))[None]), options.big_k))
    points: list[Point] = []
    for Y, k in problems:
        points += _compare(Y.contiguous().to(options.device), k, options)
    options.output.mkdir(parents=True, exist_ok=True)
    save_csv(points, options.output / "benchmark_nmf.csv")
    _save_plot(points, options.output / "benchmark_nmf.png")
    print(options.output)


def _compare(Y: Tensor, k: int, options: argparse.Namespace) -> list[Point]:
    """Every method on one batch of matrices, and the table."""
    count, n, m = Y.shape
    problem = f"{count} × {n}×{m}, k = {k}" if count > 1 else f"{n}×{m}, k = {k}"
    print(f"\n{problem}")
    H, W = initialize(Y, k, "random")
    start = _point(problem, "start", Snapshot(0, 0.0, H, W), Y, 1.0)
    checkpoints = [c for c in CHECKPOINTS if c < options.iterations] + [options.iterations]
    curves: dict[str, list[Point]] = {}
    for name, run, sample in _methods(Y, H, W, checkpoints, options):
        curves[name] = []
        for snapshot in run:
            scale = count / sample
            curves[name].append(_point(problem, name, snapshot, Y[:sample], start.projected_gradient, scale))
        print(_line(curves[name], curves[REFERENCE]), flush=True)
    return [point for curve in curves.values() for point in curve]


def _methods(
    Y: Tensor, H: Tensor, W: Tensor, checkpoints: list[int], options: argparse.Namespace
) -> Iterator[tuple[str, Iterator[Snapshot], int]]:
    """Names, what they do, and how many matrices they do it on; the reference first."""
    cores = torch.get_num_threads()
    for name, rival in nmf_rivals.RIVALS.items():
        if name.startswith("torchnmf") and importlib.util.find_spec("torchnmf") is None:
            print("torchnmf is not installed, left out (make bench-venv installs it)")
            continue
        sample = min(len(Y), FEW) if name in SLOW else len(Y)
        yield name, iter(rival(Y[:sample], H[:sample], W[:sample], checkpoints, cores)), sample
    for name, method in OURS.items():
        sample = min(len(Y), FEW) if name in SLOW else len(Y)
        call = partial(factorize, Y[:sample], H.shape[-1], method=method, H0=H[:sample], W0=W[:sample], tol=0.0)
        yield name, _by_factorize(call, checkpoints, options), sample
    for start in STARTS:
        name = f"HALS from {start}"
        sample = min(len(Y), FEW) if name in SLOW else len(Y)
        if start == "spa" and H.shape[-1] > Y.shape[-1]:
            continue
        yield name, _by_factorize(partial(_from, start, Y[:sample], H.shape[-1]), [0, *checkpoints], options), sample


def _from(start: str, Y: Tensor, k: int, max_iter: int) -> Factors:
    """HALS from a start that is made on the clock; without rounds for max_iter=0."""
    if start == "k-means":
        H, W = k_means(Y, k, 0)
        return factorize(Y, k, H0=H, W0=W, max_iter=max_iter, tol=0.0)
    return factorize(Y, k, init=start, max_iter=max_iter, tol=0.0)


def _by_factorize(call: Callable[..., Any], checkpoints: list[int], options: argparse.Namespace) -> Iterator[Snapshot]:
    call(max_iter=1)  # warm
    for checkpoint in checkpoints:
        start = _now(options.device)
        factors = call(max_iter=checkpoint)
        seconds = _now(options.device) - start
        yield Snapshot(checkpoint, seconds, factors.H, factors.W)
        if seconds * 1.5 > options.patience:
            break


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _point(problem: str, name: str, snapshot: Snapshot, Y: Tensor, start_gradient: float, scale: float = 1.0) -> Point:
    H, W = snapshot.H.to(Y), snapshot.W.to(Y)
    errors, gradients = [], []
    for y, h, w in zip(Y.split(64), H.split(64), W.split(64), strict=True):
        errors.append(relative_error(y, h @ w))
        gradients.append(projected_gradient(y, h, w))
    error, gradient = torch.cat(errors).mean().item(), torch.cat(gradients).mean().item()
    return Point(problem, name, snapshot.iterations, snapshot.seconds * scale, error, gradient / start_gradient)


def _line(curve: list[Point], reference: list[Point]) -> str:
    target, bar = reference[-1].relative_error, reference[-1].seconds
    passed = next((point for point in curve if point.relative_error <= target), None)
    last = curve[-1]
    at_target = (
        f"{target:.4f} after {passed.iterations:3d} iterations, {passed.seconds:8.2f} s ({bar / passed.seconds:5.1f}×),"
        f" projected gradient {passed.projected_gradient:.0e}"
        if passed
        else f"{target:.4f} not reached"
    )
    return (
        f"{curve[0].method:31s} {at_target:80s} | end {last.relative_error:.4f}, {last.iterations:3d} iterations,"
        f" {last.seconds:8.2f} s, {last.projected_gradient:.0e}"
    )


def _save_plot(points: list[Point], path: Path) -> None:
    """Error and projected gradient against time, a row for each problem."""
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys(point.problem for point in points))
    methods = list(dict.fromkeys(point.method for point in points))
    figure = Figure(figsize=(13, 4.6 * len(problems)), layout="constrained")
    axes = figure.subplots(len(problems), 2, squeeze=False)
    for (by_error, by_gradient), problem in zip(axes, problems, strict=True):
        here = [point for point in points if point.problem == problem]
        target = [point for point in here if point.method == REFERENCE][-1].relative_error
        by_error.axhline(target, color="0.5", linestyle=":", label=f"{REFERENCE} at its end")
        for number, method in enumerate(methods):
            curve = [point for point in here if point.method == method]
            style: dict[str, Any] = {
                "marker": "osv^D<>pX*hd"[number % 12],
                "markersize": 4,
                "color": COLOURS[number % 7],
            }
            style["linewidth"] = 2.2 if method.startswith("diffnmf") else 1.2
            style["linestyle"] = "--" if method.startswith("HALS from") else "-"
            seconds = [point.seconds for point in curve]
            by_error.plot(seconds, [point.relative_error for point in curve], label=method, **style)
            by_gradient.plot(seconds, [point.projected_gradient for point in curve], **style)
        best = min(point.relative_error for point in here)
        by_error.set(ylabel="relative error", ylim=(0.985 * best, 1.6 * target), yscale="log")
        by_error.yaxis.set_major_formatter("{x:.3f}")
        by_error.yaxis.set_minor_formatter("{x:.3f}")
        by_gradient.set(ylabel="projected gradient / that at the start", yscale="log")
        for ax in (by_error, by_gradient):
            ax.set(xscale="log", xlabel="seconds", title=problem)
            ax.grid(alpha=0.3, which="both")
    axes[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    with interruptible():
        main()
