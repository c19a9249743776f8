"""What ``NMF`` and ``non_negative_factorization`` do: check what they are given, factorise Y = Xᵀ, solve for W."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor

from diffnmf.checks import check_count, check_flag, check_name, check_number
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization.alphas import Alphas
from diffnmf.factorization.divergence import has_zeros, zeros_refused
from diffnmf.factorization.estimator_start import Starts, check_starts
from diffnmf.factorization.factorize import Factors, factorize, without_complaint
from diffnmf.factorization.far_predictions import warn_of_far_predictions
from diffnmf.factorization.reconstruction import Loss, distance, weights_of
from diffnmf.factorization.replicates import replicate
from diffnmf.factorization.sample_arrays import (
    check_non_negative,
    check_order,
    check_range,
    device_of,
    dtype_of,
    entry_weights,
    matrix_of,
    not_sparse,
    refuse_stream,
    sparse_tensor_of,
    tensor_of,
    unmasked,
)
from diffnmf.factorization.solver_names import solver_named
from diffnmf.factorization.sparse_matrix import batch_of_one, stored_entries

MISSING = ("error", "ignore", "unstored")


class NMFConvergenceWarning(ConvergenceWarning, SklearnConvergenceWarning):
    """What ``NMF`` warns with: filters on the class of this library and on that of scikit-learn both catch it."""


@dataclass(frozen=True)
class Samples:
    """X as the work is done on it.

    Attributes:
        Y: (F, N), Xᵀ, dense or in torch's CSC layout; NaN where nothing is known.
        weights: (F, N), or None where every entry counts once.
        observed: whether Y is sparse, and known only where it stores something.
    """

    Y: Tensor
    weights: Tensor | None
    observed: bool = False


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
    named = check_name("missing", model.missing, MISSING)
    missing, observed = named == "ignore", named == "unstored"
    device, dtype = device_of(model.device), dtype_of(model.dtype)
    try:
        rows = _checked_rows(model, X, allow_nan=missing, reset=reset)
    except ValueError as error:
        if missing or "contains NaN" not in str(error):
            raise
        # scikit-learn would say that nothing but an imputer helps.
        cure = "missing='ignore' takes a NaN in a dense X for an entry that is not known"
        cure = f"with missing='unstored' leave it out of the sparse X; {cure}" if observed else cure
        raise ValueError(f"X: expected finite numbers; Input X contains NaN or infinity ({cure})") from error
    if rows.layout != torch.strided and bool(rows.values().isnan().any()):
        raise ValueError("X: expected finite numbers in a sparse matrix; Input contains NaN (use a dense X)")
    if observed and rows.layout == torch.strided:
        raise not_sparse("X")
    if observed and weights is not None:
        raise ValueError("weights: expected None with missing='unstored'; got weights (use a dense X, and NaN)")
    check_non_negative(rows)
    check_range(stored_entries(rows), dtype)
    rows = rows.to(device=device, dtype=dtype)
    check_order(weights, X)
    V = entry_weights(weights, rows, missing=missing)
    return Samples(rows.mT, None if V is None else V.mT, observed)


def _checked_rows(model: Any, X: Any, *, allow_nan: bool, reset: bool) -> Tensor:
    """X (N, F) as a tensor, dense or sparse, without gradient."""
    if isinstance(X, Tensor):
        rows = matrix_of(X, allow_nan=allow_nan)
        validate_data(model, X, reset=reset, skip_check_array=True)
        return rows
    refuse_stream(X, "MiniBatchNMF takes batches; or put them together")
    checked = validate_data(
        model,
        unmasked(X),
        reset=reset,
        accept_sparse=("csr", "csc"),
        dtype=[np.float64, np.float32],
        ensure_all_finite="allow-nan" if allow_nan else True,
    )
    return tensor_of(checked) if isinstance(checked, np.ndarray) else sparse_tensor_of(checked)


def warn_of_far_weights(samples: Samples, H: Tensor, W: Tensor) -> None:
    """Warn where components H (F, k) and weights W (k, N) predict too much of what is not known."""
    if samples.observed or samples.weights is not None:
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
        raise ValueError(
            f"beta_loss: expected 'frobenius' with missing='unstored'; got {model.beta_loss!r} (use a dense X with NaN)"
        )
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
