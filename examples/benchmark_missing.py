"""NMF of MNIST with a part of the pixels hidden: the error on the hidden ones, against filling in and a full fit.

    python examples/benchmark_missing.py                 # 2,000 images, 30 % hidden, k = 20
    python examples/benchmark_missing.py --hidden 0.8 --alpha 0.3
    python examples/benchmark_missing.py --count 20000 --batch-size 1024

With missing='unstored' what is known is a sparse matrix, and the rest is never formed. Rivals: scikit-learn's NMF on
zeros or on column means in the place of what is hidden; the same by diffnmf. The full fit has seen the hidden pixels:
nothing that has not can be expected to be better.
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import mnist_or_digits, save_csv
from scipy.sparse import csr_array
from sklearn import decomposition

from diffnmf import NMF, MiniBatchNMF


@dataclass(frozen=True)
class Row:
    """A way to deal with what is hidden: relative errors on hidden and on visible pixels, and the time of the fit."""

    way: str
    hidden_error: float
    visible_error: float
    seconds: float


def main(
    count: int = 2000,
    hidden: float = 0.3,
    k: int = 20,
    alpha: float = 0.0,
    batch_size: int = 256,
    data_dir: str | None = None,
    output: Path | None = None,
) -> list[Row]:
    images = mnist_or_digits(data_dir).images[:count]
    X = images.flatten(1).double().numpy()
    known = np.random.default_rng(0).random(X.shape) >= hidden
    missing = np.where(known, X, np.nan)
    stored = csr_array((X[known], known.nonzero()), shape=X.shape)
    zeros = np.where(known, X, 0.0)
    means = np.where(known, X, np.nan_to_num(zeros.sum(0) / np.maximum(1, known.sum(0))))
    options: dict[str, Any] = {"max_iter": 300, "tol": 1e-4, "random_state": 0}
    held = {**options, "alpha_W": alpha, "alpha_H": alpha}  # where what is missing does not count
    batches = {**held, "batch_size": batch_size}
    ours, theirs = NMF(k, **options), decomposition.NMF(k, init="nndsvda", **options)
    ways = {
        "diffnmf, missing='ignore', hals": (NMF(k, missing="ignore", **held), missing),
        "diffnmf, missing='unstored', hals": (NMF(k, missing="unstored", **held), stored),
        "diffnmf, missing='ignore', mu": (NMF(k, missing="ignore", solver="mu", **held), missing),
        "diffnmf, missing='ignore', in batches": (MiniBatchNMF(k, missing="ignore", **batches), missing),
        "diffnmf, missing='unstored', in batches": (MiniBatchNMF(k, missing="unstored", **batches), stored),
        "scikit-learn, zeros": (theirs, zeros),
        "scikit-learn, means": (theirs, means),
        "diffnmf, zeros": (ours, zeros),
        "diffnmf, means": (ours, means),
        "diffnmf, the full fit, which has seen them": (ours, X),
    }
    rows = []
    print(f"{len(X)} images of {X.shape[1]} pixels, {1 - known.mean():.0%} hidden, k = {k}")
    print("| way | error on hidden pixels | on visible ones | seconds |\n| --- | --- | --- | --- |")
    for way, (model, data) in ways.items():
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            W = model.fit_transform(data)
        seconds = time.perf_counter() - start
        far = W @ model.components_ - X
        errors = [float(np.linalg.norm(far[part]) / np.linalg.norm(X[part])) for part in (~known, known)]
        rows.append(Row(way, errors[0], errors[1], seconds))
        print(f"| {way} | {errors[0]:.4f} | {errors[1]:.4f} | {seconds:.2f} |", flush=True)
    if output is not None:
        save_csv(rows, output)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="images")
    parser.add_argument("--hidden", type=float, default=0.3, help="share of the pixels that is hidden")
    parser.add_argument("--k", type=int, default=20, help="components")
    parser.add_argument("--alpha", type=float, default=0.0, help="ridge of W and H where what is hidden does not count")
    parser.add_argument("--batch-size", type=int, default=256, help="images in a batch of MiniBatchNMF")
    parser.add_argument("--data-dir", help="where MNIST is")
    parser.add_argument("--output", type=Path, help="a CSV file")
    main(**vars(parser.parse_args()))
