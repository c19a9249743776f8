"""MiniBatchNMF on MNIST against scikit-learn's: the time to the error at which that one stops.

    python examples/benchmark_mini_batch.py                   # 60,000 images, k = 50, float32
    python examples/benchmark_mini_batch.py --dtype float64
    python examples/benchmark_mini_batch.py --small           # 600 digits, to see that it runs

Both begin with the same W and H and have batches of the same size, on one thread. An error is that of H, with the exact
weights of all images, and is not timed; nor is the start, but in the last two columns: ``fit`` as a whole with default
parameters, from its own start to its own end, weights of all samples included.
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
from benchmarking import mnist_or_digits, save_csv
from sklearn import decomposition

from diffnmf import MiniBatchNMF
from diffnmf.data import group_matrix, load_dataset
from diffnmf.factorization import initialize
from diffnmf.factorization.mini_batch_learner import Learner

STARTS = ("nndsvda", "random")
EARLY = (1, 2, 3, 5, 8, 12, 20, 30, 45)  # steps after which the error is looked at; from then on twice a pass


class ReachedError(Exception):
    """The race is over."""


@dataclass(frozen=True)
class Row:
    """A race from one start: scikit-learn's run to its end, ours until its error is not larger; and both fits."""

    data: str
    dtype: str
    start: str
    start_error: float
    error: float
    sklearn_steps: int
    sklearn_seconds: float
    our_error: float
    steps: int
    seconds: float
    ratio: float
    sklearn_fit_seconds: float
    sklearn_fit_error: float
    fit_seconds: float
    fit_error: float


class Clock:
    """Seconds since the first step, without those that are spent on looking."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.apart, self.steps = 0.0, 0

    def begin(self) -> None:
        self.begun = time.perf_counter() if self.begun is None else self.begun

    @property
    def seconds(self) -> float:
        assert self.begun is not None
        return time.perf_counter() - self.begun - self.apart

    def look(self, what: Callable[[], float]) -> float:
        before = time.perf_counter()
        result = what()
        self.apart += time.perf_counter() - before
        return result


def error_of(X: np.ndarray, H: np.ndarray) -> float:
    """‖X − WH‖ / ‖X‖ with the exact weights, some samples at a time."""
    model = MiniBatchNMF(len(H))
    model.components_, model.n_components_, model.n_features_in_ = H, len(H), H.shape[1]
    parts = [X[start : start + 5000] for start in range(0, len(X), 5000)]
    squares = [float(np.square(x - model.transform(x) @ H, dtype=np.float64).sum()) for x in parts]
    return float(np.sqrt(sum(squares) / np.square(X, dtype=np.float64).sum()))


def their_race(X: np.ndarray, W: np.ndarray, H: np.ndarray, options: dict[str, Any]) -> tuple[int, float, float]:
    """Steps, seconds and the error of scikit-learn's run, which stops by its own rules."""
    clock = Clock()

    class Timed(decomposition.MiniBatchNMF):
        def _minibatch_step(self, *arguments: Any) -> Any:
            clock.begin()
            clock.steps += 1
            cost = super()._minibatch_step(*arguments)
            self.seconds = clock.seconds
            return cost

    model = Timed(len(H), init="custom", **options)
    model.fit(X, W=W.copy(), H=H.copy())
    return clock.steps, model.seconds, error_of(X, model.components_)


def our_race(
    X: np.ndarray, W: np.ndarray, H: np.ndarray, options: dict[str, Any], target: float
) -> tuple[int, float, float]:
    """The same of ours, until its error is not above ``target``."""
    clock, step = Clock(), Learner.step
    half_pass = max(1, -(-len(X) // options["batch_size"]) // 2)
    found = (0, np.nan, np.inf)

    def timed(self: Learner, *arguments: Any, **named: Any) -> Any:
        nonlocal found
        clock.begin()
        result = step(self, *arguments, **named)
        clock.steps += 1
        if clock.steps in EARLY or (clock.steps > EARLY[-1] and clock.steps % half_pass == 0):
            seconds = clock.seconds
            found = (clock.steps, seconds, clock.look(lambda: error_of(X, self.components.numpy())))
            if found[2] <= target:
                raise ReachedError
        return result

    Learner.step = timed  # type: ignore[method-assign]
    try:
        MiniBatchNMF(len(H), init="custom", **options).fit(X, W=W, H=H)
    except ReachedError:
        pass
    finally:
        Learner.step = step  # type: ignore[method-assign]
    return found


def whole_fit(kind: Any, X: np.ndarray, k: int, options: dict[str, Any]) -> tuple[float, float]:
    """Seconds, and the error of the H that comes out."""
    begun = time.perf_counter()
    model = kind(k, random_state=0, **options).fit(X)
    return time.perf_counter() - begun, error_of(X, model.components_)


def main(
    dtype: str = "float32",
    k: int = 50,
    batch_size: int = 1024,
    small: bool = False,
    data_dir: str | None = None,
    output: Path | None = None,
) -> list[Row]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    images = load_dataset("digits").train if small else mnist_or_digits(data_dir)
    X = group_matrix(images, torch.arange(len(images))[None])[0].T.contiguous().numpy().astype(dtype)
    if small:
        X, k, batch_size = X[:600], 8, 100
    options = {"batch_size": batch_size}
    name = f"{images.name} {X.shape[0]}×{X.shape[1]}, k = {k}"
    their_fit, our_fit = (whole_fit(kind, X, k, options) for kind in (decomposition.MiniBatchNMF, MiniBatchNMF))
    rows = []
    for start in STARTS:
        basis, weights = initialize(torch.from_numpy(X).mT, k, start)
        W, H = weights.mT.contiguous().numpy(), basis.mT.contiguous().numpy()
        their_steps, their_seconds, target = their_race(X, W, H, options)
        steps, seconds, reached = our_race(X, W, H, options, target)
        ratio, first = their_seconds / seconds, error_of(X, H)
        race = (first, target, their_steps, their_seconds, reached, steps, seconds, ratio)
        rows.append(Row(name, dtype, start, *race, *their_fit, *our_fit))
        print(
            f"{name}, {dtype}, from {start} ({first:.4f}): scikit-learn stops at {target:.4f} after {their_steps}"
            f" steps, {their_seconds:.2f} s; ours is at {reached:.4f} after {steps} steps, {seconds:.3f} s:"
            f" {ratio:.0f} times faster",
            flush=True,
        )
    print(
        f"fit with default parameters: scikit-learn {their_fit[0]:.1f} s, error {their_fit[1]:.4f}; ours"
        f" {our_fit[0]:.1f} s, error {our_fit[1]:.4f}"
    )
    if output is not None:
        save_csv(rows, output)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--small", action="store_true", help="small data, to see that it runs")
    parser.add_argument("--data-dir", help="where MNIST is, or goes")
    parser.add_argument("--output", type=Path, help="a CSV file")
    main(**vars(parser.parse_args()))
