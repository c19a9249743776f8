"""Time the compiled kernel: against the same calls in torch, an earlier version, and rivals, each in one run.

    make bench-venv
    .bench-venv/bin/python examples/benchmark_kernel.py                      # a table and benchmark_kernel.csv
    git worktree add ../before 21cfbf4                                       # the last version without a kernel
    .bench-venv/bin/python examples/benchmark_kernel.py --before ../before

MNIST groups of 40 (n = 784, H from ten rounds of sweeps, k = 30), float64, and hard problems: bumps that overlap, more
columns than rows, duplicates, ill-conditioned H. All take part in turns, ``--repeats`` times; the fastest call of each
counts. Every version is a process of its own that waits while another one computes. Run it on an idle machine.
"""

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nnls_rivals
import torch
from benchmarking import half_fitted_basis, mnist_or_digits, save_csv
from torch import Tensor

from diffnmf import NMF
from diffnmf import nnls as solve
from diffnmf.data import GroupSampler, group_matrix
from diffnmf.factorization import factorize
from diffnmf.layers import NNLSLayer

Call = Callable[[], object]
LEAST_SECONDS = 0.02  # of a timed repeat: short calls are repeated within it
TABLES = {(30, 10): 2, (100, 20): 5, (200, 64): 10, (500, 50): 8}  # small ones, and their components


@dataclass(frozen=True)
class Row:
    """One case and one who solves it; seconds of a call, KKT residual of the result where there is one."""

    case: str
    who: str
    seconds: float
    kkt_residual: float | None


class Cases:
    """The calls to be timed, by name; what they work on is made once."""

    def __init__(self, data_dir: str | None) -> None:
        images = mnist_or_digits(data_dir)
        sampler = GroupSampler(images)
        self.groups = group_matrix(images, sampler.epoch(0)).double()
        self.all_images = group_matrix(images, torch.arange(len(images))[None])[0]
        self.layer = NNLSLayer()
        self.problems = {name: make() for name, make in self._makers().items()}

    def _makers(self) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
        return {
            "B = 32": lambda: self._mnist(32),
            "B = 8": lambda: self._mnist(8),
            "one column, n = 200": lambda: (_rand(200, 30), _rand(200, 1)),
            "bumps, k = 64": lambda: _bumps(),
            "k > n": lambda: (_rand(8, 20, 64), _rand(8, 20, 40)),
            "duplicates": lambda: (torch.cat((half := _rand(8, 200, 15), half), -1), _rand(8, 200, 40)),
            "dense, k = 64": lambda: (half := _rand(8, 200, 64), half @ _rand(8, 64, 40) + 0.1 * _randn(8, 200, 40)),
            "cond 1e5": lambda: _with_condition(1e5),
            "cond 1e7": lambda: _with_condition(1e7),
        }

    def _mnist(self, batch: int) -> tuple[Tensor, Tensor]:
        Y = self.groups[:batch]
        return half_fitted_basis(Y, 30) + 0.01 * _rand(batch, Y.shape[1], 30), Y

    def ours(self) -> dict[str, Call]:
        """What every version of diffnmf is asked."""
        calls: dict[str, Call] = {}
        for name, (H, Y) in self.problems.items():
            calls[f"forward, {name}"] = partial(self.layer, H, Y)
        calls["forward and backward, B = 32"] = self._backward(*self.problems["B = 32"])
        for name in ("B = 32", "one column, n = 200"):
            calls[f"nnls with diagnostics, {name}"] = partial(solve, *self.problems[name])
        H, Y = self.problems["B = 8"]
        calls["weights of the rows, B = 8"] = partial(self.layer, H, Y, weights=_rand(H.shape[1], 1) + 0.1)
        big = self.all_images.float()
        H = torch.nn.functional.normalize(torch.rand(len(big), 50, generator=_generator()), dim=0)
        calls["forward and backward, all of MNIST, k = 50, float32"] = self._backward(H, big)
        Y, W0 = self.groups[:32].float(), None
        start = factorize(Y, 30, method="hals", init="random", max_iter=10, tol=0.0)
        H0, W0 = start.H, start.W
        calls["ten iterations of ANLS, 32 groups"] = lambda: factorize(
            Y, 30, method="anls", H0=H0, W0=W0, max_iter=10, tol=0.0
        )
        calls["ten iterations of HALS, 32 groups"] = lambda: factorize(
            Y, 30, method="hals", H0=H0, W0=W0, max_iter=10, tol=0.0
        )
        for (n, m), k in TABLES.items():
            calls[f"NMF({k}) on {n}×{m}"] = partial(_fitted, NMF, _rand(n, m).numpy(), k)
        return calls

    def rivals(self) -> dict[str, dict[str, Call]]:
        """By the case: who else can be asked."""
        from scipy.optimize import nnls
        from sklearn import decomposition

        calls: dict[str, dict[str, Call]] = {}
        for name, (H, Y) in self.problems.items():
            loops: dict[str, Call] = {"scipy loop": partial(nnls_rivals.scipy_loop, _batch(H), _batch(Y))}
            if name in ("B = 8", "B = 32", "dense, k = 64"):
                for rival in ("spams", "daqp", "fnnlseigen"):
                    loops[rival] = partial(nnls_rivals.FORWARD_ONLY[rival], H, Y)
            calls[f"forward, {name}"] = loops
        h, y = self.problems["one column, n = 200"]
        h_numpy, y_numpy = h.numpy(), y[:, 0].numpy()
        for case in ("forward", "nnls with diagnostics"):
            calls[f"{case}, one column, n = 200"] = {"scipy": lambda: nnls(h_numpy, y_numpy)}
        calls["forward and backward, B = 32"] = {"forming HᵀH and HᵀY": self._floor(*self.problems["B = 32"])}
        for (n, m), k in TABLES.items():
            fit = partial(_fitted, decomposition.NMF, _rand(n, m).numpy(), k)
            calls[f"NMF({k}) on {n}×{m}"] = {"scikit-learn": fit}
        return calls

    def _backward(self, H: Tensor, Y: Tensor) -> Call:
        leaf, targets = H.clone().requires_grad_(), Y.clone().requires_grad_()
        weights = torch.randn(*Y.shape[:-2], H.shape[-1], Y.shape[-1], generator=_generator()).to(H)
        return lambda: torch.autograd.grad((self.layer(leaf, targets) * weights).sum(), (leaf, targets))

    def _floor(self, H: Tensor, Y: Tensor) -> Call:
        leaf, targets = H.clone().requires_grad_(), Y.clone().requires_grad_()
        k, m = H.shape[-1], Y.shape[-1]
        for_gram = torch.randn(len(H), k, k, generator=_generator()).to(H)
        for_cross = torch.randn(len(H), k, m, generator=_generator()).to(H)
        return lambda: torch.autograd.grad(
            ((leaf.mT @ leaf) * for_gram).sum() + ((leaf.mT @ targets) * for_cross).sum(), (leaf, targets)
        )


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _fitted(kind: Any, X: Any, k: int) -> object:
    """By an estimator, which warns where it ends before it has converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(k, random_state=0).fit_transform(X)


def _rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=_generator(), dtype=torch.float64)


def _randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(), dtype=torch.float64)


def _batch(X: Tensor) -> Tensor:
    return X if X.ndim == 3 else X.unsqueeze(0)


def _bumps() -> tuple[Tensor, Tensor]:
    """64 bumps on 200 points, each as wide as four steps between them: a Gram matrix with few digits."""
    grid, centres = (torch.linspace(0, 1, count, dtype=torch.float64) for count in (200, 64))
    H = torch.exp(-0.5 * ((grid[:, None] - centres) * 64 / 4) ** 2).expand(8, -1, -1).clone()
    return H, H @ _rand(8, 64, 40) + 0.01 * _randn(8, 200, 40)


def _with_condition(condition: float) -> tuple[Tensor, Tensor]:
    U, _, V = torch.linalg.svd(_randn(8, 200, 30), full_matrices=False)
    H = U * torch.logspace(0, -torch.tensor(condition).log10().item(), 30, dtype=torch.float64) @ V
    return H, _randn(8, 200, 40)


def _seconds(call: Call) -> float:
    """Of one call: short ones are repeated, and the mean counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < LEAST_SECONDS or count == 0:
            call()
            count += 1
        return (time.perf_counter() - start) / count


def serve(options: argparse.Namespace) -> None:
    """Answer with seconds: a line with the name of a case comes in, and a number goes out."""
    calls = Cases(options.data_dir).ours()
    print(*calls, sep="\t", flush=True)
    for line in sys.stdin:
        try:
            print(_seconds(calls[line.strip()]), flush=True)
        except Exception as error:
            print(f"failed: {error}".splitlines()[0], flush=True)


class Version:
    """Another version of diffnmf, or this one in torch, in a process of its own."""

    def __init__(self, name: str, folder: Path, kernel: str, options: argparse.Namespace) -> None:
        self.name = name
        environment = os.environ | {"PYTHONPATH": str(folder.resolve()), "DIFFNMF_KERNEL": kernel}
        command = [sys.executable, __file__, "--serve", "--threads", str(torch.get_num_threads())]
        command += ["--data-dir", options.data_dir] if options.data_dir else []
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        while "\t" not in self._read():  # the names of the cases; what comes before is about the data
            pass

    def seconds(self, case: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--before-kernel", choices=("torch", "c"), default="torch", help="what it computes with")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--data-dir", default=os.environ.get("DIFFNMF_DATA"))
    parser.add_argument("--output", type=Path, default=Path("benchmark"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.serve:
        serve(options)
        return
    here = Path(__file__).parents[1]
    versions = [Version("C", here, "c", options), Version("torch", here, "torch", options)]
    if options.before:
        versions.append(Version("before", options.before, options.before_kernel, options))
    cases = Cases(options.data_dir)
    rivals, ours = cases.rivals(), cases.ours()
    rows: list[Row] = []
    print(f"torch {torch.__version__}, {options.threads} threads, fastest of {options.repeats}; milliseconds\n")
    for case in ours:
        if options.only not in case:
            continue
        best: dict[str, float] = {}
        for _ in range(options.repeats):
            for version in versions:
                best[version.name] = min(best.get(version.name, float("inf")), version.seconds(case))
            for name, call in dict(rivals.get(case, {})).items():
                try:
                    best[name] = min(best.get(name, float("inf")), _seconds(call))
                except Exception as error:  # not installed, or it gives up
                    best[name] = float("nan")
                    print(f"{name}: {str(error).splitlines()[0]}")
        problem = cases.problems.get(case.removeprefix("forward, "))
        residual = solve(*problem).kkt_residual.max().item() if problem else None
        rows += [Row(case, name, seconds, residual if name == "C" else None) for name, seconds in best.items()]
        times = ", ".join(f"{name} {1e3 * s:.3f} ({s / best['C']:.2f}×)" for name, s in best.items())
        print(f"{case}: {times}" + (f"; KKT {residual:.0e}" if residual is not None else ""), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    save_csv(rows, options.output / "benchmark_kernel.csv")


if __name__ == "__main__":
    main()
