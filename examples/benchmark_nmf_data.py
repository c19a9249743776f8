"""NMF of a sparse corpus and of a spectrogram (Kullback-Leibler), against scikit-learn: time to the same error.

    python examples/benchmark_nmf_data.py --part corpus        # 11,000 documents, 40,000 words, about 0.4 %, k = 50
    python examples/benchmark_nmf_data.py --part spectrogram   # 513 frequencies, 4,000 frames, k = 20

Both begin from the same factors, on one thread. scikit-learn runs a number of iterations; the other one the least
number after which its error is not larger, which is looked for beforehand and not timed.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import save_csv
from scipy import sparse
from sklearn.decomposition import non_negative_factorization
from sklearn.feature_extraction.text import TfidfTransformer

from diffnmf.factorization import HALS, MU, Factors, factorize
from diffnmf.factorization.sample_arrays import sparse_tensor_of

Error = Callable[[np.ndarray, np.ndarray], float]  # of W (N, k) and H (k, F)


@dataclass(frozen=True)
class Row:
    """A race: iterations and seconds of both, to an error of scikit-learn that ours is not above."""

    data: str
    dtype: str
    method: str
    error: float
    sklearn_iterations: int
    sklearn_seconds: float
    iterations: int
    our_error: float
    seconds: float
    ratio: float


def corpus(documents: int, words: int, topics: int = 60) -> sparse.csr_matrix:
    """Documents drawn from topics over words whose frequencies follow Zipf's law, weighted as tf-idf."""
    random = np.random.default_rng(0)
    frequencies = random.gamma(0.05, 1, (topics, words)) / np.arange(1, words + 1)
    cumulative = (frequencies / frequencies.sum(1, keepdims=True)).cumsum(1)
    rows, columns = [], []
    for document in range(documents):
        mixture = random.dirichlet(np.full(topics, 0.05))
        topic = random.choice(topics, size=int(random.gamma(2, 110)) + 20, p=mixture)
        place = random.random(len(topic))
        for t in np.unique(topic):
            found = np.searchsorted(cumulative[t], place[topic == t])
            columns.append(np.minimum(found, words - 1))
            rows.append(np.full(len(found), document))
    entries = (np.concatenate(rows), np.concatenate(columns))
    counts = sparse.csr_matrix((np.ones(len(entries[0])), entries), shape=(documents, words))
    counts.sum_duplicates()
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts).tocsr()


def spectrogram(frequencies: int, frames: int, sources: int = 20) -> np.ndarray:
    """Power of sources that come and go, with the multiplicative noise of a spectrogram; frames in rows."""
    random = np.random.default_rng(0)
    power = random.gamma(0.3, 1, (frames, sources)) @ random.gamma(0.3, 1, (sources, frequencies))
    return power * random.gamma(2, 0.5, power.shape)


def start(X: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """W and H, with the mean of X."""
    random = np.random.default_rng(1)
    scale = 2 * np.sqrt(X.mean() / k)
    W, H = (scale * (random.random(shape) + 0.01) for shape in ((X.shape[0], k), (k, X.shape[1])))
    return W.astype(X.dtype), H.astype(X.dtype)


def frobenius(X: sparse.csr_matrix) -> Error:
    square = float(X.power(2).sum())

    def error(W: np.ndarray, H: np.ndarray) -> float:
        W, H = W.astype(np.float64), H.astype(np.float64)
        inner, outer = ((X @ H.T) * W).sum(), ((W.T @ W) * (H @ H.T)).sum()
        return float(np.sqrt(max(square - 2 * inner + outer, 0) / square))

    return error


def kullback_leibler(X: np.ndarray) -> Error:
    X = X.astype(np.float64)

    def error(W: np.ndarray, H: np.ndarray) -> float:
        P = np.maximum(W.astype(np.float64) @ H.astype(np.float64), 1e-9)
        return float(np.sqrt(2 * (X * np.log(np.maximum(X, 1e-300) / P) - X + P).sum()))

    return error


def race(data: str, X: Any, k: int, iterations: int, solver: str, methods: dict[str, Any], error: Error) -> list[Row]:
    """scikit-learn's solver for a number of iterations, and each method to the same error."""
    W0, H0 = start(X, k)
    loss = {"beta_loss": 1} if solver == "mu" else {}
    options: dict[str, Any] = {"n_components": k, "init": "custom", "tol": 0, "max_iter": iterations, **loss}
    begun = time.perf_counter()
    W, H, _ = non_negative_factorization(X, W0.copy(), H0.copy(), solver=solver, **options)
    their_seconds, target = time.perf_counter() - begun, error(W, H)
    Y = sparse_tensor_of(X).mT if sparse.issparse(X) else torch.from_numpy(X).mT
    first: dict[str, Any] = {"H0": torch.from_numpy(H0).T, "W0": torch.from_numpy(W0).T}
    rows = []
    for name, method in methods.items():
        needed = 0

        def reached(iteration: int, H: torch.Tensor, W: torch.Tensor) -> bool:
            nonlocal needed
            needed = iteration
            return error(W.T.numpy(), H.T.numpy()) <= target

        factorize(Y, k, method=method, tol=0.0, max_iter=2 * iterations, callback=reached, **first)
        begun = time.perf_counter()
        found: Factors = factorize(Y, k, method=method, tol=0.0, max_iter=needed, **first)
        seconds = time.perf_counter() - begun
        reached_error = error(found.W.T.numpy(), found.H.T.numpy())
        ratio = their_seconds / seconds
        row = Row(data, str(X.dtype), name, target, iterations, their_seconds, needed, reached_error, seconds, ratio)
        print(
            f"| {data} | {row.dtype} | {target:.6g} | {iterations}, {their_seconds:.2f} s | {name} |"
            f" {needed}, {seconds:.2f} s | {ratio:.1f} |",
            flush=True,
        )
        rows.append(row)
    return rows


def main(part: str = "all", small: bool = False, output: Path | None = None) -> list[Row]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| data | dtype | error | scikit-learn | method | the same error | times faster |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for dtype in (np.float64, np.float32):
        if part in ("corpus", "all"):
            X = corpus(*((300, 800) if small else (11_000, 40_000))).astype(dtype)
            name = f"corpus, {X.shape[0]}×{X.shape[1]}, {X.nnz / np.prod(X.shape):.2%}"
            rows += race(name, X, 8 if small else 50, 40, "cd", {"hals": HALS()}, frobenius(X))
        if part in ("spectrogram", "all"):
            Z = spectrogram(*((60, 200) if small else (513, 4000))).astype(dtype)
            methods = {"mu": MU("kullback-leibler"), "mu, extrapolated": MU("kullback-leibler", extrapolate=True)}
            name = f"spectrogram, {Z.shape[1]}×{Z.shape[0]}"
            rows += race(name, Z, 5 if small else 20, 100, "mu", methods, kullback_leibler(Z))
    if output is not None:
        save_csv(rows, output)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("corpus", "spectrogram", "all"), default="all")
    parser.add_argument("--small", action="store_true", help="small data, to see that it runs")
    parser.add_argument("--output", type=Path, help="a CSV file")
    main(**vars(parser.parse_args()))
