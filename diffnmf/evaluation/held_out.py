"""Scores on groups that a model has not been trained on, and those of the classical rivals on such groups."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffnmf.data import ImageSet, group_matrix
from diffnmf.factorization import factorize, spa, truncated_svd
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import column_error, relative_error, summarize
from diffnmf.models import Generator

BATCH = 32
ANLS_ITERATIONS = 50  # 50 to 100 bring groups of 40 images within 1 % of where they converge to
Scores = dict[str, float]


@torch.no_grad()
def score_generator(generator: Generator, images: ImageSet, groups: Tensor) -> Scores:
    """The mean over the groups of every score of ``diffnmf.metrics.summarize``.

    Arguments:
        generator: used in evaluation mode, and left in the mode it was in.
        images: what the groups index.
        groups: (G, m) indices, on the device of the generator.
    """

    def score(Y: Tensor) -> dict[str, Tensor]:
        result = generator(Y)
        return summarize(Y, result.H, result.W)

    was_training = generator.training
    generator.eval()
    try:
        return mean_scores(score, images, groups)
    finally:
        generator.train(was_training)


def score_rivals(images: ImageSet, groups: Tensor, k: int) -> dict[str, Scores]:
    """What a user would do instead of a network, on each group itself.

    ``anls`` factorises the group; ``spa`` takes k of its images as H, with exact weights; ``svd`` is the best rank-k
    matrix of any sign, a lower bound for the relative error alone. A basis cannot have more columns than the group for
    ``spa``, which is left out for k > m.
    """
    solve = NNLSLayer()

    def score_anls(Y: Tensor) -> dict[str, Tensor]:
        factors = factorize(Y, k, method="anls", max_iter=ANLS_ITERATIONS, tol=0.0)
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


def mean_scores(score: Callable[[Tensor], dict[str, Tensor]], images: ImageSet, groups: Tensor) -> Scores:
    """The mean over groups (G, m) of what ``score`` makes of Y (B, n, m), (B,) each; and ``groups``, their number."""
    batches = [score(group_matrix(images, batch)) for batch in groups.split(BATCH)]
    means = {name: torch.cat([batch[name] for batch in batches]).double().mean().item() for name in batches[0]}
    return {**means, "groups": len(groups)}
