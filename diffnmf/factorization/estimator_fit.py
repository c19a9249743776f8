"""What ``NMF`` and ``non_negative_factorization`` do: check what they are given, factorise Y = Xᵀ, solve for W."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning
from sklearn.utils import check_random_state
from torch import Tensor

from diffnmf.checks import check_count, check_flag, check_number
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization.alphas import Alphas
from diffnmf.factorization.divergence import has_zeros, zeros_refused
from diffnmf.factorization.estimator_start import Starts, check_starts
from diffnmf.factorization.factorize import Factors, factorize, without_complaint
from diffnmf.factorization.far_predictions import warn_of_far_predictions
from diffnmf.factorization.reconstruction import Loss, distance, weights_of
from diffnmf.factorization.replicates import replicate
from diffnmf.factorization.sample_arrays import (
    Samples,
    check_order,
    device_of,
    dtype_of,
    entry_weights,
    loss_of_unstored,
    refuse_stream,
    tensor_of_rows,
)
from diffnmf.factorization.solver_names import solver_named
from diffnmf.factorization.sparse_matrix import batch_of_one
from diffnmf.factorization.validated_rows import validated_rows


class NMFConvergenceWarning(ConvergenceWarning, SklearnConvergenceWarning):
    """What ``NMF`` warns with: filters on the class of this library and on that of scikit-learn both catch it."""


@dataclass(frozen=True)
class Fit:
    """H (F, k), W (k, N), and what the estimator tells of them.

    ``complaint`` is the arguments of a warning; ``norm`` is ‖X‖, where it took a pass to know it.
    """

    H: Tensor
    W: Tensor
    iterations: int
    errors: np.ndarray
    distance: float
    complaint: tuple[str, type[Warning]] | None
    norm: float = math.nan


def checked_samples(model: Any, X: Any, weights: Any, *, reset: bool) -> Samples:
    """X and its weights, checked, where the work is done."""
    device, dtype = device_of(model.device), dtype_of(model.dtype)
    if not isinstance(X, Tensor):
        refuse_stream(X, "MiniBatchNMF takes batches; or put them together")
    rows = tensor_of_rows(validated_rows(model, X, reset=reset))
    observed = model.missing == "unstored"
    if observed and weights is not None:
        raise ValueError("weights: expected None with missing='unstored'; got weights (use a dense X, and NaN)")
    rows = rows.to(device=device, dtype=dtype)
    check_order(weights, X)
    V = entry_weights(weights, rows, missing=model.missing == "ignore")
    return Samples(rows.mT, None if V is None else V.mT, observed)


def warn_of_far_weights(samples: Samples, H: Tensor, W: Tensor) -> None:
    """Warn where components H (F, k) and weights W (k, N) predict too much of what is not known."""
    if samples.partial:
        cure = "raise alpha_W and alpha_H, take fewer components"
        warn_of_far_predictions(H.to(W), W, samples.Y, samples.weights, cure)


def fit(model: Any, samples: Samples, W: Any, H: Any, *, update_H: bool = True) -> Fit:
    """Factorise, with the parameters of ``model``; with ``update_H`` false solve for W alone."""
    if model.checkpoint is not None:  # not passed over: a fit that is thought to be kept would be lost
        raise ValueError(f"checkpoint: expected None for data in memory; got {model.checkpoint!r} (give Blocks(X))")
    starts = check_starts(model, samples.Y, W, H, update_H=update_H)
    if solver_of(model).beta <= 0 and has_zeros(batch_of_one(samples.Y), samples.weights):
        raise zeros_refused("X")
    if not update_H:
        assert starts.H is not None
        weights = fitted_weights(model, samples, starts.H.mT)
        return Fit(starts.H, weights, 1, np.empty(0), np.nan, None)
    factors = factorize_samples(model, samples, starts)
    weights = fitted_weights(model, samples, factors.H.T)
    complaint = None
    if model.tol > 0 and not bool(factors.converged):
        complaint = complaint_of(model)
    beta = solver_of(model).beta
    far = distance(factors.H, weights, samples.Y, samples.weights, beta, observed=samples.observed)
    # A start that needs no iterations counts as one: scikit-learn asks for at least that.
    iterations = max(1, int(factors.iterations))
    return Fit(factors.H, weights, iterations, factors.errors.cpu().numpy(), far, complaint)


def fitted_weights(model: Any, samples: Samples, components: Tensor) -> Tensor:
    """W (k, N) for ``components`` (k, F) alone, so that every way in gives the same."""
    H = components.to(samples.Y.device, samples.Y.dtype).T
    loss = loss_of(model, samples)
    if samples.observed and loss.beta != 2:
        raise loss_of_unstored(model)
    return weights_of(H, samples.Y, samples.weights, loss, observed=samples.observed)


def loss_of(model: Any, samples: Samples) -> Loss:
    """What the weights of samples minimise."""
    l1, ridge = Alphas.of(model).of_W(len(samples.Y))
    return Loss(solver_of(model).beta, l1, ridge)


def solver_of(model: Any, seed: int = 0) -> Any:
    return solver_named(model.solver, model.beta_loss, shuffle=check_flag("shuffle", model.shuffle), seed=seed)


def factorize_samples(model: Any, samples: Samples, starts: Starts, Y: Any = None, **more: Any) -> Factors:
    """The factors, without a warning; of ``Y`` where that is not what ``samples`` hold, with ``more`` options."""
    Y = samples.Y if Y is None else Y
    # What goes on from a checkpoint has to be the same run.
    again = model.random_state is None and more.get("checkpoint") is not None
    random = check_random_state(0 if again else model.random_state)
    seed = int(random.randint(np.iinfo(np.int32).max))
    features, count = samples.Y.shape
    n_init = check_count("n_init", model.n_init, at_least=1)
    options = {
        "method": solver_of(model, seed),
        "tol": check_number("tol", model.tol),
        "max_iter": check_count("max_iter", model.max_iter),
        **Alphas.of(model).penalties(count, features),
        "fixed": starts.fixed,
        "weights": samples.weights,
        "mask": "stored" if samples.observed else None,
    }
    with without_complaint():
        if n_init > 1:
            if starts.H is not None or starts.W is not None:
                raise ValueError(f"n_init: expected 1 with a start of your own; got {n_init} (leave one of them out)")
            found = replicate(Y, starts.k, n_init=n_init, init=starts.init, seed=seed, **options)
            return found.best
        report = _Report() if model.verbose and not more else None
        factors = factorize(
            Y, starts.k, init=starts.init, H0=starts.H, W0=starts.W, seed=seed, callback=report, **options, **more
        )
    if report is not None:
        print(f"Iteration {int(factors.iterations)}: error {float(factors.errors[-1]):.6g}")
    return factors


class _Report:
    """Prints every tenth iteration."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, iteration: int, H: Tensor, W: Tensor) -> None:
        if iteration % 10 == 0:
            print(f"Iteration {iteration} after {time.perf_counter() - self.start:.3f} seconds")


def complaint_of(model: Any) -> tuple[str, type[Warning]]:
    """The warning where ``tol`` has not been met."""
    text = (
        f"Maximum number of iterations {model.max_iter} reached. Increase it to improve convergence. (NMF has not"
        f" converged to tol={model.tol} in max_iter={model.max_iter} iterations; raise one of them)"
    )
    return text, NMFConvergenceWarning
