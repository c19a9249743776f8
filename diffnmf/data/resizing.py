"""Images brought to another size."""

import numpy as np
import torch

from diffnmf.data.images import ImageSet


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One image scaled as a whole; its proportions change where those of the size are others.

    Arguments:
        image: (h, w), finite.
        size: (height, width) to come.

    Returns:
        (*size), in the dtype and within the range of the image: averages of its pixels where it is made smaller, linear
        interpolation where it is made larger.
    """
    from PIL import Image

    height, width = size
    # In floating point, since Pillow cannot scale every integer dtype.
    source = Image.fromarray(image.astype(np.float32))
    scaled = np.asarray(source.resize((width, height), Image.Resampling.BILINEAR))
    if image.dtype.kind == "u":
        scaled = np.rint(scaled)
    return scaled.clip(image.min(), image.max()).astype(image.dtype)  # rounding may step over the ends


def resize_images(images: ImageSet, size: tuple[int, int] | None) -> ImageSet:
    """The set with every image scaled by ``resize_image``; the set itself where there is nothing to scale."""
    if size is None or images.image_shape == size:
        return images
    scaled = np.stack([resize_image(image, size) for image in images.images.numpy()])
    return ImageSet(images.name, torch.from_numpy(scaled), images.labels)
