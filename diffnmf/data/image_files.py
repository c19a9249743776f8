"""Image files of any format that Pillow reads, as one array of greyscale images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read_image_files(files: Sequence[Path]) -> np.ndarray:
    """Read image files of one size.

    Parameters
    ----------
    files : sequence of Path
        N files, at least one.

    Returns
    -------
    ndarray (N, h, w)
        uint8; uint16 where every file is 16 bits deep; float32 in [0, 1] where they differ in depth.

    Raises
    ------
    ValueError
        For a file that cannot be read, or that is of another size than the first one; names the files.
    """
    arrays = [_read_grey(files[0])]
    for file in files[1:]:
        array = _read_grey(file)
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"images: expected files of one size; {files[0]} is {_size(arrays[0])} and {file} is {_size(array)} "
                "(width×height); scale or crop them to one size"
            )
        arrays.append(array)
    if len({array.dtype for array in arrays}) > 1:
        # 8 and 16 bits have different whites: brought to one scale before they are mixed.
        arrays = [array.astype(np.float32) / np.iinfo(array.dtype).max for array in arrays]
    return np.stack(arrays)


def _read_grey(file: Path) -> np.ndarray:
    """One image (h, w) as uint8, or as uint16 when that is its depth."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            # Pillow's own conversion to 8 bits would cut these off at 255 or drop their lower half.
            if image.mode.startswith("I;16"):
                return np.asarray(image).astype(np.uint16)
            if image.mode not in ("I", "F"):
                return np.asarray(image.convert("L"))
            mode = image.mode
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damaged files.
    except Exception as cause:
        raise ValueError(
            f"images: expected a readable image file; {file} is not one ({type(cause).__name__}: {cause}); "
            "repair or remove it"
        ) from cause
    raise ValueError(
        f"images: expected 8 or 16 bits a pixel; {file} has 32 (mode {mode}), whose range is unknown; "
        "save the images as floats in [0, 1] in a .npy file"
    )


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"
