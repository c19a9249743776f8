"""Scores of groups and their means; those of a generator on groups that it has not been trained on."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from diffnmf.data import ImageSet, group_matrix
from diffnmf.metrics import column_error, relative_error, summarize
from diffnmf.metrics.names import with_both_names
from diffnmf.models import Generator
from diffnmf.models.evaluation_mode import evaluation_mode

BATCH = 32  # groups
Scores = dict[str, float]


@torch.no_grad()
def score_generator(generator: Generator, images: ImageSet, groups: Tensor) -> Scores:
    """The mean over the groups of every score of ``diffnmf.metrics.summarize``.

    Arguments:
        generator: used in evaluation mode, and left in the mode it was in.
        images: what the groups index.
        groups: (G, m) indices, on the device of the generator.

    Returns:
        score -> mean, the column error also as ``eps``; and ``groups``, their number.

    Example:
        >>> from diffnmf.data import GroupSampler, load_dataset
        >>> from diffnmf.evaluation import score_generator
        >>> from diffnmf.models import GANUNMF
        >>> model, images = GANUNMF.pretrained("digits-k16"), load_dataset("digits").test
        >>> groups = GroupSampler(images, model.config.m, limit=5).epoch(0)
        >>> scores = score_generator(model.generator, images, groups)
        >>> scores["groups"], scores["relative_error"] < 0.4
        (5, True)
    """

    def score(Y: Tensor) -> dict[str, Tensor]:
        result = generator(Y)
        return summarize(Y, result.H, result.W)

    with evaluation_mode(generator):
        return mean_scores(score, images, groups)


def mean_scores(score: Callable[[Tensor], dict[str, Tensor]], images: ImageSet, groups: Tensor) -> Scores:
    """The mean of every score over groups, and ``groups``, their number.

    Arguments:
        score: Y (B, n, m) to scores (B,) by name.
        images: what the groups index.
        groups: (G, m) indices.
    """
    return {**mean_of(score(group_matrix(images, batch)) for batch in groups.split(BATCH)), "groups": len(groups)}


def mean_of(batches: Iterable[Mapping[str, Tensor]]) -> Scores:
    """The mean of every score over the groups of all batches, for files: the column error also as ``eps``.

    Arguments:
        batches: name -> scores (B,), with the same names in every batch; B may differ. At least one.
    """
    batches = list(batches)
    means = {name: torch.cat([batch[name] for batch in batches]).double().mean().item() for name in batches[0]}
    return with_both_names(means)


def reconstruction_errors(Y: Tensor, Y_hat: Tensor) -> dict[str, Tensor]:
    """The scores that need no H and W, under the names that ``summarize`` has for them.

    Arguments:
        Y: (B, n, m).
        Y_hat: (B, n, m).

    Returns:
        ``column_error`` and ``relative_error``, (B,) each.
    """
    return {"column_error": column_error(Y, Y_hat), "relative_error": relative_error(Y, Y_hat)}
