"""What is measured of a model at the end of a run, and of one that is opened again."""

from collections.abc import Callable
from typing import Any

from diffnmf.evaluation import score_generator, score_rivals
from diffnmf.models import Generator
from diffnmf.runs.parts import RunData

RIVAL_GROUPS = 32  # ANLS on all 223 test groups of MNIST would take minutes


def score_run(
    generator: Generator, data: RunData, announce: Callable[[str], None], *, rivals: bool = True
) -> dict[str, Any]:
    """Scores on the training and the test groups, under ``train`` and ``test``.

    Arguments:
        generator: the model.
        data: the groups.
        announce: told what is about to be done.
        rivals: whether ``test`` has the scores of other methods on some of the groups beside those of the model.
    """
    announce(f"scoring the model on {len(data.test_groups)} groups of test images and as many of training images")
    scores: dict[str, Any] = {
        "train": score_generator(generator, data.split.train, data.train_groups),
        "test": score_generator(generator, data.split.test, data.test_groups),
    }
    if rivals:
        some = data.test_groups[:RIVAL_GROUPS]
        announce(f"scoring its rivals ANLS, merge, spa and SVD on {len(some)} of the test groups")
        scores["test"] |= score_rivals(data.split.test, some, generator.k)
    return scores
