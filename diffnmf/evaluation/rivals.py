"""The rivals of a network, by the names they have in the tables."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_name
from diffnmf.data import ImageSet
from diffnmf.evaluation.protocols import Factorizer
from diffnmf.evaluation.scoring import Scores, mean_scores
from diffnmf.factorization import HALS, PAPER, factorize, spa, truncated_svd
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import column_error, relative_error, summarize

ANLS_ITERATIONS = 50  # 50 to 100 bring groups of 40 images within 1 % of where they converge to
CONVERGED: dict[str, Any] = {
    "method": HALS(),
    "init": "random",
    "max_iter": 200,
    "tol": 0.0,
}  # our own, as far as it goes
CONFIGURED = {**PAPER, "hals, accelerated": CONVERGED}  # what the numbers of a table depend on


def _iterative(options: dict[str, Any], k: int, seed: int, *, double: bool = False) -> Factorizer:
    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        factors = factorize(Y.double() if double else Y, k, seed=seed, **options)
        return factors.H.to(Y), factors.W.to(Y)

    return Factorizer(run)


def _spa(k: int, seed: int) -> Factorizer:
    """k images of the group as H, chosen by successive projection; a choice of more than m there is not."""
    solve = NNLSLayer(backward="detached")

    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        H = spa(Y, min(k, Y.shape[-1]))
        return H, solve(H, Y)

    return Factorizer(run)


def _svd(k: int, seed: int) -> Factorizer:
    """The best rank-k matrix, of any sign: a lower bound for the relative error of all others."""

    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        U, S, Vh = torch.linalg.svd(Y, full_matrices=False)
        return U[..., :k] * S[..., None, :k], Vh[..., :k, :]

    def weights(H: Tensor, Y: Tensor) -> Tensor:
        return torch.linalg.pinv(H) @ Y  # a group of rank below k leaves zero columns

    return Factorizer(run, weights, non_negative=False)


def _mean_image(k: int, seed: int) -> Factorizer:
    """Every image of a group as their mean: what any method has to beat."""

    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        return Y.mean(dim=-1, keepdim=True), Y.new_ones(len(Y), 1, Y.shape[-1])

    return Factorizer(run, lambda H, Y: Y.new_ones(len(Y), 1, Y.shape[-1]))


CLASSICAL: dict[str, Callable[[int, int], Factorizer]] = {
    "ANLS": partial(_iterative, PAPER["anls"]),
    "MU": partial(_iterative, PAPER["mu"]),
    "HALS": partial(_iterative, PAPER["hals"], double=True),  # in float32 even more of its components die
    "HALS, accelerated": partial(_iterative, CONVERGED),
    "spa": _spa,
    "SVD": _svd,
    "mean image": _mean_image,
}
WITHOUT_CHANCE = ("spa", "SVD", "mean image")  # nothing in them depends on a seed


def classical(name: str, k: int, seed: int = 0) -> Factorizer:
    """The method of that name with k components; iterations and starts as in the paper (``PAPER``) for its own three.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError, ValueError: k is no int ≥ 1, or seed no int ≥ 0.
    """
    check_name("method", name, CLASSICAL)
    return CLASSICAL[name](check_count("k", k, at_least=1), check_count("seed", seed))


def score_rivals(images: ImageSet, groups: Tensor, k: int) -> dict[str, Scores]:
    """What a user would do instead of a network, on each group itself.

    ``anls`` factorises the group; ``spa`` takes k of its images as H, with exact weights; ``svd`` is the best rank-k
    matrix of any sign, a lower bound for the relative error alone. A basis cannot have more columns than the group for
    ``spa``, which is left out for k > m.
    """
    k = check_count("k", k, at_least=1)
    solve = NNLSLayer()

    def score_anls(Y: Tensor) -> dict[str, Tensor]:
        factors = factorize(Y, k, method="anls", init="random", max_iter=ANLS_ITERATIONS, tol=0.0)
        return summarize(Y, factors.H, factors.W)

    def score_spa(Y: Tensor) -> dict[str, Tensor]:
        H = spa(Y, k)
        return summarize(Y, H, solve(H, Y))

    def score_svd(Y: Tensor) -> dict[str, Tensor]:
        Y_hat = truncated_svd(Y, k)
        return {"eps": column_error(Y, Y_hat), "relative_error": relative_error(Y, Y_hat)}

    rivals: dict[str, Callable[[Tensor], dict[str, Tensor]]] = {"anls": score_anls, "svd": score_svd}
    if k <= groups.shape[1]:
        rivals["spa"] = score_spa
    return {name: mean_scores(score, images, groups) for name, score in rivals.items()}
