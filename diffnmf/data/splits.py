"""Holding one image in five out for the test, class by class where classes are known."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffnmf.checks import check_count
from diffnmf.data.images import DataSplit, ImageSet

_ONE_IN = 5


def split_images(images: ImageSet, *, seed: int, class_names: Sequence[str] | None = None) -> DataSplit:
    """Split a set 80/20 at random: per class with labels, over all images without.

    Both parts keep the order of the images, and have at least one image of every class.

    Arguments:
        images: N images.
        seed: an int ≥ 0; the same seed gives the same split.
        class_names: what the labels 0, 1, ... are called in an error; the numbers themselves unless given.

    Raises:
        TypeError, ValueError: the seed is not such a number, or a class, or the set without labels, has a single image.
    """
    rng = np.random.default_rng(check_count("seed", seed))
    held_out = torch.zeros(len(images), dtype=torch.bool, device="cpu")
    for name, members in _strata(images, class_names):
        if len(members) < 2:
            raise ValueError(
                f"{name}: expected at least 2 images, one to train and one to test; got {len(members)}; add images"
                + (" or remove the class" if images.labels is not None else "")
            )
        chosen = torch.from_numpy(rng.permutation(len(members)))[: max(1, round(len(members) / _ONE_IN))]
        held_out[members[chosen]] = True
    return DataSplit(images.subset((~held_out).nonzero().squeeze(1)), images.subset(held_out.nonzero().squeeze(1)))


def _strata(images: ImageSet, class_names: Sequence[str] | None) -> list[tuple[str, Tensor]]:
    """What is split by itself: a name and the indices (N_c,) of each class, or of all images without labels."""
    if images.labels is None:
        return [("images", torch.arange(len(images), device="cpu"))]
    labels = images.labels.cpu()
    return [
        (f"class {class_names[c] if class_names else c}", (labels == c).nonzero().squeeze(1))
        for c in labels.unique().tolist()
    ]
