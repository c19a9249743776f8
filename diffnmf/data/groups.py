"""Groups: the m images that are factorised together, drawn anew for every epoch."""

import numpy as np
import torch
from torch import Tensor

from diffnmf.checks import check_count, check_name, check_optional_count, check_tensor
from diffnmf.data.images import ImageSet

ORDERS = ("class", "random")


class GroupSampler:
    """Draw groups of images at random, without replacement inside an epoch, with balanced classes where they are known.

    With labels every group holds equally many images of each class; a group smaller than the number of classes holds
    one image of each of the first classes. Without labels a group is any m images.

    Arguments:
        images: what is drawn from.
        group_size: images a group, m: a multiple of the number of classes, or fewer than there are classes.
        order: of the columns of a group: "random", permuted for every group by itself, or "class", sorted by class, so
            that a slot keeps its meaning from group to group.
        seed: an int ≥ 0; the same seed and epoch give the same groups.
        limit: groups an epoch at most: the first ones of those that would be drawn without a limit; None for no limit.

    Attributes:
        left_out: images in no group of an epoch: the remainder, what a class has more than the smallest one, the
            classes that are not used. What ``limit`` cuts off is not counted.

    Raises:
        TypeError, ValueError: an argument is not as above, or the images do not fill a single group.

    Example:
        >>> from diffnmf.data import GroupSampler, load_dataset
        >>> images = load_dataset("digits").train
        >>> groups = GroupSampler(images, group_size=20, limit=5).epoch(0)
        >>> groups.shape
        torch.Size([5, 20])
        >>> images.labels[groups[0]].bincount()  # two of each digit
        tensor([2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """

    def __init__(
        self,
        images: ImageSet,
        group_size: int = 40,
        *,
        order: str = "random",
        seed: int = 0,
        limit: int | None = None,
    ) -> None:
        self.images = images
        self.group_size = check_count("group_size", group_size, at_least=1)
        self.order = check_name("order", order, ORDERS)
        self.seed = check_count("seed", seed)
        self.limit = check_optional_count("limit", limit, at_least=1)
        if order == "class" and images.labels is None:
            raise ValueError(f"order: expected 'random' for images without labels ({images.name}); got 'class'")
        # The images of each class that is used, (N_c,); without labels all images are one class.
        self._pools = _pools(images, self.group_size)
        self._share = self.group_size // len(self._pools)
        self._drawn = min(len(pool) for pool in self._pools) // self._share
        if self._drawn == 0:
            raise _too_few(images, self._pools, self.group_size)
        self.left_out = len(images) - self._drawn * self.group_size

    @property
    def remark(self) -> str | None:
        """What is to be known where some images are in no group: whole classes, or more than half of all."""
        m, pools = self.group_size, len(self._pools)
        if self.images.labels is not None and pools < (classes := len(self.images.labels.unique())):
            return (
                f"groups of size {m} hold one image of each of {pools} classes, the first of the {classes} of"
                f" {self.images.name}; no group has images of the others (take groups of a multiple of {classes})"
            )
        if 2 * self.left_out > len(self.images):
            return (
                f"{self.left_out} of {len(self.images)} images of {self.images.name} are in no group of an epoch: the"
                f" smallest of {pools} classes has {min(map(len, self._pools))}, and groups hold as many of each"
            )
        return None

    def __len__(self) -> int:
        """Groups an epoch."""
        return self._drawn if self.limit is None else min(self._drawn, self.limit)

    def epoch(self, epoch: int) -> Tensor:
        """The groups of one epoch as indices of images: Tensor (G, m), int64, with G = ``len(self)``."""
        generator = _generator(self.seed, check_count("epoch", epoch))
        shape = (self._drawn, self._share)
        draws = [
            pool[torch.randperm(len(pool), generator=generator, device="cpu")][: shape[0] * shape[1]]
            for pool in self._pools
        ]
        groups = torch.cat([draw.view(shape) for draw in draws], dim=1)  # (G, m), sorted by class
        if self.order == "random":
            # Sorting random numbers permutes every row by itself, without a loop over groups.
            numbers = torch.rand(groups.shape, generator=generator, dtype=torch.float64, device="cpu")
            groups = groups.gather(1, numbers.argsort(1))
        return groups[: len(self)]


def group_matrix(images: ImageSet, indices: Tensor) -> Tensor:
    """The groups as matrices Y, whose columns are the images flattened row by row.

    Arguments:
        images: of h×w = n pixels.
        indices: (*batch, m), integers: which images are in each group.

    Returns:
        (*batch, n, m), float32 values in [0, 1].

    Raises:
        TypeError, ValueError: the indices are no integers, or a single one.

    Example:
        >>> import torch
        >>> from diffnmf.data import ImageSet, group_matrix
        >>> images = ImageSet("noise", torch.rand(10, 4, 5), labels=None)
        >>> Y = group_matrix(images, torch.tensor([[0, 1, 2], [7, 8, 9]]))  # two groups of three
        >>> Y.shape, torch.equal(Y[1, :, 2], images.images[9].flatten())
        (torch.Size([2, 20, 3]), True)
    """
    if check_tensor("indices", indices, "of integers").ndim == 0:
        raise ValueError(
            "indices: expected at least one dimension (*batch, m); got a single index; add one with [None]"
        )
    return images.pixels(indices).flatten(-2).mT  # (*batch, m, h, w) -> (*batch, m, n) -> (*batch, n, m)


def _generator(seed: int, epoch: int) -> torch.Generator:
    """A stream of its own for every (seed, epoch): seed + epoch would repeat the groups of the neighbouring seed."""
    state = np.random.SeedSequence(seed, spawn_key=(epoch,)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _pools(images: ImageSet, group_size: int) -> list[Tensor]:
    if images.labels is None:
        return [torch.arange(len(images), device="cpu")]
    labels = images.labels.cpu()
    classes = labels.unique()  # sorted
    count = len(classes)
    if group_size > count and group_size % count:
        below = group_size - group_size % count
        raise ValueError(
            f"group_size: expected a multiple of the {count} classes of {images.name}, so that groups are balanced; "
            f"got {group_size}; the nearest are {below} and {below + count}"
        )
    return [(labels == c).nonzero().squeeze(1) for c in classes[:group_size]]


def _too_few(images: ImageSet, pools: list[Tensor], group_size: int) -> ValueError:
    fewest = min(len(pool) for pool in pools)
    what = "images" if images.labels is None else f"images of the smallest of {len(pools)} classes"
    return ValueError(
        f"group_size: expected at most {fewest * len(pools)} for the part of {images.name} of which groups are made, "
        f"{len(images)} images ({fewest} {what}; training and test images have groups of their own); got {group_size}; "
        "make the groups smaller or add images"
    )
