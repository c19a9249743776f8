"""Images of one size in memory, with the class of each where it is known."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_tensor, set_fields

_INTEGER_DTYPES = (torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Greyscale images of one size.

    Attributes:
        name: what the images are called in tables and figures.
        images: (N, h, w), uint8 with values 0 to 255, or floating with values in [0, 1], which is kept as float32.
        labels: (N,), the class of each image, kept as int64; None where no classes are known.

    Raises:
        TypeError, ValueError: the shapes, the dtypes or the values are not these.

    Example:
        >>> import torch
        >>> from diffnmf.data import ImageSet
        >>> bright = torch.full((10, 4, 5), 255, dtype=torch.uint8)
        >>> images = ImageSet("bright", bright, labels=torch.arange(10) % 2)
        >>> len(images), images.image_shape, images.pixels(torch.tensor([3, 7])).mean()
        (10, (4, 5), tensor(1.))
        >>> images.subset(torch.tensor([3, 7])).labels
        tensor([1, 1])
    """

    name: str
    images: Tensor
    labels: Tensor | None

    def __post_init__(self) -> None:
        set_fields(self, images=_checked_images(self.images))  # the same values in the documented dtypes
        if self.labels is not None:
            set_fields(self, labels=_checked_labels(self.labels, len(self.images)))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width (h, w) of every image."""
        _, h, w = self.images.shape
        return h, w

    def pixels(self, indices: Tensor) -> Tensor:
        """The images at these indices as float32 values in [0, 1].

        Arguments:
            indices: (*S), integers: positions in the set, in any shape, the empty shape of a single index included.

        Returns:
            (*S, h, w).
        """
        check_tensor("indices", indices, "of integers")
        if indices.dtype not in (torch.int32, torch.int64):
            # A tensor of bool or uint8 would be taken as a mask, and its result would have another shape.
            raise TypeError(f"indices: expected a tensor of dtype int64; got {indices.dtype}; convert with .long()")
        chosen = self.images[indices.to(self.images.device)]
        return chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen

    def subset(self, indices: Tensor) -> "ImageSet":
        """The set of the images at these indices (N',), in that order."""
        return ImageSet(self.name, self.images[indices], None if self.labels is None else self.labels[indices])


@dataclass(frozen=True, eq=False)
class DataSplit:
    """The images to train on and those held out, which share no image and have one size.

    Attributes:
        train: to train on.
        test: held out.

    Raises:
        ValueError: the two are of different sizes.

    Example:
        >>> import torch
        >>> from diffnmf.data import DataSplit, ImageSet
        >>> images = ImageSet("noise", torch.rand(10, 4, 5), labels=None)
        >>> split = DataSplit(train=images.subset(torch.arange(8)), test=images.subset(torch.arange(8, 10)))
        >>> len(split.train), len(split.test)
        (8, 2)
    """

    train: ImageSet
    test: ImageSet

    def __post_init__(self) -> None:
        if self.train.image_shape != self.test.image_shape:
            raise ValueError(
                f"test: expected images of the size of train, {_size(self.train.image_shape)}; "
                f"got {_size(self.test.image_shape)}; scale them to one size"
            )


def _size(image_shape: tuple[int, int]) -> str:
    return "{}×{}".format(*image_shape)


def _checked_images(images: Tensor) -> Tensor:
    """The images as uint8 or float32, or the error that says what is wrong with them."""
    check_tensor("images", images, "(N, h, w)")
    if images.ndim != 3:
        raise ValueError(
            f"images: expected 3 dimensions (N, h, w); got shape {tuple(images.shape)}; "
            "reshape flattened images, add a dimension to a single one, convert colour images to greyscale"
        )
    if images.numel() == 0:
        raise ValueError(f"images: expected at least one image with pixels; got shape {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise TypeError(
            f"images: expected dtype uint8 (0 to 255) or floats in [0, 1]; got {images.dtype}; "
            "convert with .to(torch.uint8), or divide by the largest possible value"
        )
    _check_range(images)
    return images.float()


def _check_range(images: Tensor) -> None:
    low, high = images.aminmax()  # a NaN anywhere comes out in both
    if not (low.isfinite() and high.isfinite()):
        raise ValueError("images: expected finite values in [0, 1]; got NaN or infinity; remove or replace them")
    # Compared in float32, in which they are kept: rounding above 1 in float64 is no error.
    low, high = low.float(), high.float()
    if low < 0:
        raise ValueError(
            f"images: expected values in [0, 1]; got negative values down to {low:.6g}; "
            "undo the normalisation, or shift and scale them to [0, 1]"
        )
    if high > 1:
        raise ValueError(
            f"images: expected floats in [0, 1]; got values above 1, up to {high:.6g}; "
            "divide by the largest possible value, or store values 0 to 255 as uint8"
        )


def _checked_labels(labels: Tensor, count: int) -> Tensor:
    check_tensor("labels", labels, "(N,), or None")
    if labels.dtype not in (torch.uint8, *_INTEGER_DTYPES):
        raise TypeError(f"labels: expected an integer dtype; got {labels.dtype}; number the classes from 0")
    if labels.shape != (count,):
        raise ValueError(
            f"labels: expected one label for each of the {count} images, shape ({count},); "
            f"got shape {tuple(labels.shape)}; pass None for images without labels"
        )
    return labels.long()
