"""The classical methods that a network is compared with, by their names in the tables."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_name
from diffnmf.data import ImageSet
from diffnmf.evaluation.protocols import Factorizer
from diffnmf.evaluation.scoring import Scores, mean_scores, reconstruction_errors
from diffnmf.factorization import ANLS, HALS, PAPER, Merge, factorize, spa, truncated_svd
from diffnmf.factorization.merging import can_merge
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import summarize

# ANLS is a rival in two places, and the numbers of both are on record: in the studies as the paper ran it, in the table
# of a run from a start of the size of the data. 50 iterations bring groups of 40 images within 1 % of the limit.
ANLS_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": PAPER["anls"],
    "run": {"method": ANLS(), "init": "random", "max_iter": 50, "tol": 0.0},
}
# Our own method, run to its limit.
CONVERGED: dict[str, Any] = {"method": HALS(), "init": "random", "max_iter": 200, "tol": 0.0}
# Merging has no use for iterations; what comes after it is HALS.
MERGING: dict[str, dict[str, Any]] = {
    "bare merging": {"method": Merge(steps=0)},
    "merge": {"method": Merge()},
    "merge + 5 rounds": {"method": HALS(), "init": "merge", "max_iter": 5, "tol": 0.0},
}
# The settings behind the numbers of a study.
CONFIGURED = {**PAPER, "hals, accelerated": CONVERGED, **MERGING}


def _iterative(options: dict[str, Any], k: int, seed: int, *, double: bool = False) -> Factorizer:
    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        factors = factorize(Y.double() if double else Y, k, seed=seed, **options)
        return factors.H.to(Y), factors.W.to(Y)

    return Factorizer(run)


def _spa(k: int, seed: int) -> Factorizer:
    """H is k images of the group, chosen by successive projection; all m of them for k > m."""
    solve = NNLSLayer(backward="detached")

    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        H = spa(Y, min(k, Y.shape[-1]))
        return H, solve(H, Y)

    return Factorizer(run)


def _svd(k: int, seed: int) -> Factorizer:
    """The best matrix of rank k, of any sign: a lower bound for the relative error of all other methods."""

    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        U, S, Vh = torch.linalg.svd(Y, full_matrices=False)
        return U[..., :k] * S[..., None, :k], Vh[..., :k, :]

    def weights(H: Tensor, Y: Tensor) -> Tensor:
        return torch.linalg.pinv(H) @ Y  # a group of rank below k leaves zero columns

    return Factorizer(run, weights, non_negative=False)


def _mean_image(k: int, seed: int) -> Factorizer:
    """Every image of a group is replaced by their mean: a baseline that any method has to beat."""

    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        return Y.mean(dim=-1, keepdim=True), Y.new_ones(len(Y), 1, Y.shape[-1])

    return Factorizer(run, lambda H, Y: Y.new_ones(len(Y), 1, Y.shape[-1]))


CLASSICAL: dict[str, Callable[[int, int], Factorizer]] = {
    "ANLS": partial(_iterative, ANLS_SETTINGS["paper"]),
    "MU": partial(_iterative, PAPER["mu"]),
    "HALS": partial(_iterative, PAPER["hals"], double=True),  # in float32 even more components die
    "HALS, accelerated": partial(_iterative, CONVERGED),
    **{name: partial(_iterative, options) for name, options in MERGING.items()},
    "spa": _spa,
    "SVD": _svd,
    "mean image": _mean_image,
}
WITHOUT_CHANCE = (*MERGING, "spa", "SVD", "mean image")  # their results do not depend on the seed


def classical(name: str, k: int, seed: int = 0) -> Factorizer:
    """A method of ``CLASSICAL`` with k components.

    ANLS, MU and HALS have the iterations and the start of the paper (``PAPER``).

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError, ValueError: k is no int ≥ 1, or seed no int ≥ 0.
    """
    check_name("method", name, CLASSICAL)
    return CLASSICAL[name](check_count("k", k, at_least=1), check_count("seed", seed))


def score_rivals(images: ImageSet, groups: Tensor, k: int) -> dict[str, Scores]:
    """Score what a user would do instead of using a network: each method factorises each group itself.

    Arguments:
        images: what the groups index.
        groups: (G, m) indices.
        k: components.

    Returns:
        The mean scores, by name.
        ``anls``: from a random start. ``merge``: without any iterations. ``merge + 5 rounds``: and five of HALS; both
        are left out for k > max(n, m). ``spa``: k images of the group as H, with exact weights; left out for k > m.
        ``svd``: the best rank-k matrix of any sign, a lower bound for the relative error alone.

    Raises:
        TypeError, ValueError: k is no int ≥ 1.

    Example:
        >>> from diffnmf.data import GroupSampler, load_dataset
        >>> from diffnmf.evaluation import score_rivals
        >>> images = load_dataset("digits").test
        >>> scores = score_rivals(images, GroupSampler(images, 20, limit=2).epoch(0), k=5)
        >>> min(scores, key=lambda name: scores[name]["relative_error"])  # the bound
        'svd'
    """
    k = check_count("k", k, at_least=1)
    rivals: dict[str, Callable[[Tensor], dict[str, Tensor]]] = {
        "anls": _scores_of(_iterative(ANLS_SETTINGS["run"], k, seed=0)),
        # From the Gram matrix: several times faster than the SVD of the studies, which needs H and W.
        "svd": lambda Y: reconstruction_errors(Y, truncated_svd(Y, k)),
    }
    m, (h, w) = groups.shape[1], images.image_shape
    if can_merge(h * w, m, k):
        rivals |= {name: _scores_of(_iterative(MERGING[name], k, seed=0)) for name in ("merge", "merge + 5 rounds")}
    if k <= m:
        rivals["spa"] = _scores_of(_spa(k, seed=0))
    return {name: mean_scores(score, images, groups) for name, score in rivals.items()}


def _scores_of(factorizer: Factorizer) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda Y: summarize(Y, *factorizer.factorize(Y))
