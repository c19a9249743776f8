"""Where NMF begins, and what that is worth: errors of every start, and the estimator against scikit-learn's.

    python examples/benchmark_starts.py                          # everything, as Markdown tables and CSV files
    python examples/benchmark_starts.py --part groups --seeds 3  # groups of 40 unseen images
    python examples/benchmark_starts.py --part starts            # every kind of matrix, one after the other
    python examples/benchmark_starts.py --part defaults          # NMF(k) against sklearn.decomposition.NMF(k), timed

Errors are relative, ‖Y − HW‖ / ‖Y‖, means over the matrices of a batch. ``defaults`` times; run it on an idle machine.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nmf_data import cases, image_groups
from torch import Tensor

from diffnmf import NMF, __version__
from diffnmf.factorization import Merge, factorize, initialize
from diffnmf.files import write_csv
from diffnmf.layers import NNLSLayer

ROUNDS = (0, 1, 2, 5, 10, 20, 50, 200)
GROUP_ROUNDS = (0, 5, 20, 200)
REPEATS = 3  # of a timed call; the fastest counts


def k_means(Y: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Means of clusters of columns as H, and their exact weights: a start for comparison."""
    from sklearn.cluster import KMeans

    centres = [KMeans(k, n_init=1, random_state=seed).fit(y.T.numpy()).cluster_centers_ for y in Y]
    H = torch.from_numpy(np.stack(centres)).mT.to(Y).clamp(min=0)  # their rounding may be negative
    return H, NNLSLayer(backward="detached")(H, Y)


def bare_merging(Y: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """Merging without the steps in Gram space."""
    factors = factorize(Y, k, method=Merge(steps=0))
    return factors.H, factors.W


def named(init: str) -> Callable[[Tensor, int, int], tuple[Tensor, Tensor]]:
    """A start of the library."""
    return lambda Y, k, seed: initialize(Y, k, init, seed)


STARTS = {
    "random": named("random"),
    "nndsvd": named("nndsvd"),
    "nndsvda": named("nndsvda"),
    "spa": named("spa"),
    "k-means": k_means,
    "bare merging": bare_merging,
    "merge": named("merge"),
    "auto": named("auto"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("groups", "starts", "defaults", "all"), default="all")
    parser.add_argument("--groups", type=int, default=100, help="groups of images a seed")
    parser.add_argument("--seeds", type=int, default=3, help="of the groups and of the starts")
    parser.add_argument("--threads", type=int, help="CPU cores to use")
    parser.add_argument("--data-dir")
    parser.add_argument("--output", type=Path, default=Path("benchmark"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    print(f"diffnmf {__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    parts = {"groups": compare_on_groups, "starts": compare_starts, "defaults": compare_estimators}
    for name, part in parts.items():
        if options.part in (name, "all"):
            rows = part(options)
            write_csv(options.output / f"starts_{name}.csv", rows)
    print(options.output)


def compare_on_groups(options: argparse.Namespace) -> list[dict[str, object]]:
    """Groups of 40 unseen images: every start without rounds, and after 5, 20 and 200 rounds of HALS."""
    rows: list[dict[str, object]] = []
    for dataset in ("mnist", "fashion"):
        for k in (30, 20, 10):
            print(f"\n{dataset}, k = {k}: mean over {options.groups} groups, ± over {options.seeds} seeds\n")
            print(_header("start", *(f"{rounds} rounds" for rounds in GROUP_ROUNDS)))
            for name, start in STARTS.items():
                curves = []
                for seed in range(options.seeds):
                    Y = image_groups(dataset, options.groups, seed, options.data_dir)
                    curves.append(_curve(Y, *start(Y, k, seed), GROUP_ROUNDS))
                    numbers = dict(zip(map(str, GROUP_ROUNDS), curves[-1], strict=True))
                    rows.append({"data": dataset, "k": k, "start": name, "seed": seed, **numbers})
                spread = np.std(curves, axis=0, ddof=1) if len(curves) > 1 else np.zeros(len(GROUP_ROUNDS))
                cells = [f"{mean:.4f} ± {std:.4f}" for mean, std in zip(np.mean(curves, axis=0), spread, strict=True)]
                print(_line(name, *cells), flush=True)
    return rows


def compare_starts(options: argparse.Namespace) -> list[dict[str, object]]:
    """Every kind of matrix: the error of every start, round by round."""
    rows: list[dict[str, object]] = []
    for case in cases(options.data_dir):
        Y = case.make()
        print(f"\n{case.name}, k = {case.k}\n")
        print(_header("start", *map(str, ROUNDS)))
        for name, start in STARTS.items():
            if name == "spa" and case.k > Y.shape[2]:
                continue
            curve = _curve(Y, *start(Y, case.k, 0), ROUNDS)
            numbers = dict(zip(map(str, ROUNDS), curve, strict=True))
            rows.append({"data": case.name, "k": case.k, "start": name, **numbers})
            print(_line(name, *(f"{error:.4f}" for error in curve)), flush=True)
    return rows


def compare_estimators(options: argparse.Namespace) -> list[dict[str, object]]:
    """``NMF(k)`` and scikit-learn's, both with their defaults, on one matrix of every kind."""
    from sklearn import decomposition

    rows: list[dict[str, object]] = []
    print()
    print(_header("data", "k", "error", "scikit-learn's", "more", "ms", "scikit-learn's", "times as fast"))
    for case in cases(options.data_dir):
        X = np.ascontiguousarray(case.make()[0].T.numpy())
        error, seconds = _fitted(NMF(case.k), X)
        rival_error, rival_seconds = _fitted(decomposition.NMF(case.k, random_state=0), X)
        more = error / rival_error - 1 if rival_error > 1e-3 else 0.0
        row = {"data": case.name, "k": case.k, "error": error, "rival_error": rival_error}
        rows.append(row | {"seconds": seconds, "rival_seconds": rival_seconds})
        cells = (f"{error:.4f}", f"{rival_error:.4f}", f"{100 * more:+.1f} %")
        times = (f"{1000 * seconds:.0f}", f"{1000 * rival_seconds:.0f}", f"{rival_seconds / seconds:.1f}")
        print(_line(case.name, case.k, *cells, *times), flush=True)
    return rows


def _curve(Y: Tensor, H: Tensor, W: Tensor, rounds: tuple[int, ...]) -> list[float]:
    """The mean relative error after so many rounds of HALS."""
    factors = factorize(Y, H.shape[-1], H0=H, W0=W, max_iter=max(rounds), tol=0.0)
    errors = factors.errors.flatten(1).mean(1)
    return [errors[done].item() for done in rounds]


def _fitted(model: Any, X: np.ndarray) -> tuple[float, float]:
    """The relative error of an estimator, and the seconds of its fastest fit."""
    best = float("inf")
    for _ in range(REPEATS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged after 200 iterations
            start = time.perf_counter()
            weights = model.fit_transform(X)
            best = min(best, time.perf_counter() - start)
    return float(np.linalg.norm(X - weights @ model.components_) / np.linalg.norm(X)), best


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _header(*cells: str) -> str:
    return f"{_line(*cells)}\n{_line('---', *['---:'] * (len(cells) - 1))}"


if __name__ == "__main__":
    main()
