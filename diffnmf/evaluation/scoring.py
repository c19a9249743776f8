"""Scores on groups that a model has not been trained on, and those of the classical rivals on such groups."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffnmf.data import ImageSet, group_matrix
from diffnmf.metrics import summarize
from diffnmf.models import Generator

BATCH = 32
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


def mean_scores(score: Callable[[Tensor], dict[str, Tensor]], images: ImageSet, groups: Tensor) -> Scores:
    """The mean over groups (G, m) of what ``score`` makes of Y (B, n, m), (B,) each; and ``groups``, their number."""
    batches = [score(group_matrix(images, batch)) for batch in groups.split(BATCH)]
    means = {name: torch.cat([batch[name] for batch in batches]).double().mean().item() for name in batches[0]}
    return {**means, "groups": len(groups)}
