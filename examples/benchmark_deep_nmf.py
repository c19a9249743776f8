"""A step of deep NMF: ``DeepNMF`` against a loop over scipy.optimize.nnls, with the same gradient.

    python examples/benchmark_deep_nmf.py            # about half a minute on one core

Flenner and Hunter (2017) and Gao et al. (2019) solve for the codes of a deep NMF column by column, with scipy's NNLS,
and differentiate on the support of each column. So do the two rivals here: one with the pseudo-inverse of the support
and the gradient of the dictionary summed up column by column, as the formula says it; the other with one small system a
column, from a Gram matrix, and everything else in products of matrices, which is the best that we could make of the
loop. All take the same step: codes of two levels, the loss on both, and the gradients of both dictionaries, which must
agree. They take turns in one run; what counts is the ratio of the medians.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from diffnmf.autoencoders.deep_nmf import level_errors
from diffnmf.interrupts import interruptible
from diffnmf.studies.report import markdown_table

Errors = Callable[[Tensor, list[Tensor]], Tensor]


class ColumnByColumn(torch.autograd.Function):
    """W = argmin ‖Y − HW‖, W ≥ 0: H (n, k), Y (n, m), float64; a loop over the columns, forward and backward."""

    @staticmethod
    def forward(ctx: Any, H: Tensor, Y: Tensor) -> Tensor:
        A, W = H.numpy(), np.empty((H.shape[1], Y.shape[1]))
        for j, y in enumerate(np.ascontiguousarray(Y.numpy().T)):
            W[:, j] = nnls(A, y)[0]
        weights = torch.from_numpy(W)
        ctx.save_for_backward(H, Y, weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """With v = (H_FᵀH_F)⁻¹ g on the support F of a column: ∂Y = Hv, ∂H = (y − Hw) vᵀ − (Hv) wᵀ."""
        H, Y, W = ctx.saved_tensors
        G, V = (H.T @ H).numpy(), np.zeros(W.shape)
        for j, (w, g) in enumerate(zip(W.numpy().T, grad.numpy().T, strict=True)):
            free = w > 0
            V[free, j] = np.linalg.solve(G[np.ix_(free, free)], g[free])
        adjoint = torch.from_numpy(V)
        HV = H @ adjoint
        return (Y - H @ W) @ adjoint.T - HV @ W.T, HV


class ByPseudoInverse(ColumnByColumn):
    """The same, with the pseudo-inverse of each support."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """With P = H_F⁺: ∂y = Pᵀg, ∂H_F = (y − Hw) (PPᵀg)ᵀ − ∂y w_Fᵀ."""
        H, Y, W = (x.numpy() for x in ctx.saved_tensors)
        dH, dY = np.zeros(H.shape), np.zeros(Y.shape)
        for j, g in enumerate(grad.numpy().T):
            free = W[:, j] > 0
            P = np.linalg.pinv(H[:, free])
            dY[:, j] = P.T @ g[free]
            dH[:, free] += np.outer(Y[:, j] - H @ W[:, j], P @ dY[:, j]) - np.outer(dY[:, j], W[free, j])
        return torch.from_numpy(dH), torch.from_numpy(dY)


def in_a_loop(solve: type[ColumnByColumn]) -> Errors:
    """``level_errors`` with the codes of a rival, in samples as columns, as the formulas say it."""

    def errors(X: Tensor, dictionaries: list[Tensor]) -> Tensor:
        Y = codes = X.T
        product, found = torch.eye(len(Y), dtype=Y.dtype), []
        for level, A in enumerate(dictionaries):
            codes = solve.apply(A.T, codes)
            product = A.T if level == 0 else product @ A.T
            found.append((Y - product @ codes).square().sum())
        return torch.stack(found)

    return errors


def step(errors: Errors, X: Tensor, dictionaries: list[Tensor]) -> tuple[list[Tensor], float]:
    """The gradients of the dictionaries (k₀, n), (k₁, k₀) for X (m, n), and the seconds that they took."""
    start = time.perf_counter()
    leaves = [A.to(X, copy=True).requires_grad_() for A in dictionaries]
    errors(X, leaves).mean().backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    return gradients, time.perf_counter() - start


def compare(n: int, m: int, sizes: list[int], repeats: int) -> list[list[Any]]:
    """A row for each way: name, median milliseconds, least, and the error of its gradients, of the largest entry."""
    generator = torch.Generator().manual_seed(0)
    lengths = (n, *sizes)
    pairs = zip(sizes, lengths, strict=False)
    dictionaries = [torch.rand(*pair, generator=generator, dtype=torch.float64) for pair in pairs]
    X = torch.rand(m, n, generator=generator, dtype=torch.float64)
    X = X * (torch.rand(m, n, generator=generator) < 0.3)  # sparse as counts of words, and no product of dictionaries

    def ours(X: Tensor, dictionaries: list[Tensor]) -> Tensor:
        return level_errors(X, dictionaries)[0]

    ways: dict[str, tuple[Errors, Tensor]] = {
        "DeepNMF, float32": (ours, X.float()),
        "DeepNMF, float64": (ours, X),
        "scipy loop, small systems": (in_a_loop(ColumnByColumn), X),
        "scipy loop, pseudo-inverses": (in_a_loop(ByPseudoInverse), X),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[Tensor]] = {}
    for _ in range(repeats):
        for name, (errors, samples) in ways.items():  # in turns, so that all meet the same neighbours
            found[name], took = step(errors, samples, dictionaries)
            seconds[name].append(took)
    exact = found["scipy loop, pseudo-inverses"]
    off = {
        name: max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(gradients, exact, strict=True))
        for name, gradients in found.items()
    }
    return [[name, 1000 * median(times), 1000 * min(times), off[name]] for name, times in seconds.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="features")
    parser.add_argument("--m", type=int, default=1000, help="samples, which share the dictionaries")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 10], help="components of each level")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    rows = compare(options.n, options.m, options.sizes, options.repeats)
    ours = rows[0][1]
    table = [[name, typical, least, typical / ours, f"{off:.0e}"] for name, typical, least, off in rows]
    print(markdown_table(["a step with", "median ms", "least ms", "times ours", "gradients off by"], table))


if __name__ == "__main__":
    with interruptible():
        main()
