"""What the factorisations are measured against: each rival goes on from where it was, checkpoint by checkpoint.

A rival is a function from Y (B, n, m), a start H (B, n, k), W (B, k, m) and increasing iteration numbers to a list of
``Snapshot``: the factors after so many iterations and the seconds it took to get there.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Snapshot(NamedTuple):
    """H (B, n, k) and W (B, k, m) after so many iterations, and the seconds since the start, on the clock only."""

    iterations: int
    seconds: float
    H: Tensor
    W: Tensor


Rival = Callable[[Tensor, Tensor, Tensor, Sequence[int], int], list[Snapshot]]


def scikit_learn_cd(Y: Tensor, H: Tensor, W: Tensor, checkpoints: Sequence[int], cores: int) -> list[Snapshot]:
    """scikit-learn's coordinate descent; many matrices are shared among the cores by joblib."""
    return _scikit_learn("cd", Y, H, W, checkpoints, cores)


def scikit_learn_mu(Y: Tensor, H: Tensor, W: Tensor, checkpoints: Sequence[int], cores: int) -> list[Snapshot]:
    """scikit-learn's multiplicative updates, likewise."""
    return _scikit_learn("mu", Y, H, W, checkpoints, cores)


def torchnmf_mu(Y: Tensor, H: Tensor, W: Tensor, checkpoints: Sequence[int], cores: int) -> list[Snapshot]:
    """torchnmf's multiplicative updates, one matrix after the other: it has no batches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import uses what torch deprecates
        from torchnmf.nmf import NMF

    parts: list[list[Snapshot]] = []
    for y, h, w in zip(Y, H, W, strict=True):
        model = NMF(W=w.mT.clone(), H=h.clone()).to(Y.device)
        seconds, done, snapshots = 0.0, 0, []
        for checkpoint in checkpoints:
            start = _now(Y.device)
            model.fit(y, beta=2, tol=-np.inf, max_iter=checkpoint - done)
            seconds += _now(Y.device) - start
            done = checkpoint
            snapshots.append(Snapshot(done, seconds, model.H.detach().clone(), model.W.detach().mT.clone()))
        parts.append(snapshots)
    return _merge(parts, 1)


def _scikit_learn(
    solver: str, Y: Tensor, H: Tensor, W: Tensor, checkpoints: Sequence[int], cores: int
) -> list[Snapshot]:
    from joblib import Parallel, delayed

    problems = [
        (np.ascontiguousarray(y.T), np.ascontiguousarray(h.T), np.ascontiguousarray(w.T))
        for y, h, w in zip(Y.cpu().numpy(), H.cpu().numpy(), W.cpu().numpy(), strict=True)
    ]
    if len(problems) == 1:  # its BLAS has all cores
        return _merge([_one_by_scikit_learn(solver, *problems[0], checkpoints)], 1)
    parts = Parallel(n_jobs=cores)(delayed(_one_by_scikit_learn)(solver, *problem, checkpoints) for problem in problems)
    return _merge(list(parts), cores)


def _one_by_scikit_learn(
    solver: str, X: np.ndarray, components: np.ndarray, weights: np.ndarray, checkpoints: Sequence[int]
) -> list[Snapshot]:
    """In its notation: X = Yᵀ, components = Hᵀ, weights = Wᵀ."""
    from sklearn.decomposition import non_negative_factorization

    seconds, done, snapshots = 0.0, 0, []
    weights, components = weights.copy(), components.copy()
    for checkpoint in checkpoints:
        start = time.perf_counter()
        weights, components, _ = non_negative_factorization(
            X,
            W=weights,
            H=components,
            n_components=len(components),
            init="custom",
            solver=solver,
            tol=0,
            max_iter=checkpoint - done,
        )
        seconds += time.perf_counter() - start
        done = checkpoint
        snapshots.append(
            Snapshot(done, seconds, torch.from_numpy(components.T.copy()), torch.from_numpy(weights.T.copy()))
        )
    return snapshots


def _merge(parts: list[list[Snapshot]], cores: int) -> list[Snapshot]:
    """Problems one by one, with perfect sharing among the cores: no start of processes, no copies between them."""
    return [
        Snapshot(
            same[0].iterations,
            sum(part.seconds for part in same) / cores,
            torch.stack([part.H for part in same]),
            torch.stack([part.W for part in same]),
        )
        for same in zip(*parts, strict=True)
    ]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


RIVALS: dict[str, Rival] = {
    "scikit-learn CD": scikit_learn_cd,
    "scikit-learn MU": scikit_learn_mu,
    "torchnmf MU": torchnmf_mu,
}
