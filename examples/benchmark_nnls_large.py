"""All of MNIST in one problem: n = 784, m = 60,000, against scikit-learn's coordinate descent with H fixed.

    python examples/benchmark_nnls_large.py             # k = 50, float32; digits repeated where there is no MNIST

scikit-learn is stopped by its own tolerance, which is lowered tenfold until its KKT residual is no larger than ours, or
until a run of at most 1,000 iterations took longer than --patience seconds. Both compute in float32.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from benchmarking import half_fitted_basis, mnist_or_digits
from sklearn.decomposition import non_negative_factorization
from torch import Tensor

from diffnmf import nnls
from diffnmf.interrupts import interruptible
from diffnmf.layers import NNLSLayer
from diffnmf.solvers.optimality import optimality
from diffnmf.solvers.problem import make_problem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--columns", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--patience", type=float, default=120.0)
    parser.add_argument("--data-dir")
    options = parser.parse_args()

    Y = _columns(options.data_dir, options.columns)
    H = half_fitted_basis(Y[:, :2000], options.k)
    print(
        f"Y {tuple(Y.shape)}, k = {options.k}, {Y.dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    ours = _median(lambda: NNLSLayer()(H, Y), options.repeats)
    solution = nnls(H, Y)
    print(f"diffnmf unrolled      {ours:8.2f} s   KKT {solution.kkt_residual.item():.1e}")
    leaf, target = H.clone().requires_grad_(), Y.clone().requires_grad_()
    both = _median(lambda: NNLSLayer()(leaf, target).sum().backward(), options.repeats)
    print(f"diffnmf with backward {both:8.2f} s")
    for tol in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10):
        start = time.perf_counter()
        W = _scikit_learn(H, Y, tol)
        seconds = time.perf_counter() - start
        residual = optimality(make_problem(H, Y), W.unsqueeze(0)).residual.item()
        print(
            f"scikit-learn {tol:.0e}    {seconds:8.2f} s   KKT {residual:.1e}   {seconds / ours:.1f}× diffnmf",
            flush=True,
        )
        if residual <= solution.kkt_residual.item() or seconds > options.patience:
            break


def _columns(data_dir: str | None, count: int) -> Tensor:
    images = mnist_or_digits(data_dir)
    pixels = images.pixels(torch.arange(count) % len(images))  # (m, h, w)
    return pixels.flatten(1).mT.contiguous()


def _scikit_learn(H: Tensor, Y: Tensor, tol: float) -> Tensor:
    X, components = np.ascontiguousarray(Y.mT.numpy()), np.ascontiguousarray(H.mT.numpy())
    W, _, _ = non_negative_factorization(
        X, H=components, n_components=len(components), update_H=False, solver="cd", tol=tol, max_iter=1000
    )
    return torch.from_numpy(W).mT


def _median(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


if __name__ == "__main__":
    with interruptible():
        main()
