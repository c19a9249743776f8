"""Image files as one array of grey images; what they hold beside their grey is put right, refused, or counted."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffnmf.data.resizing import resize_image
from diffnmf.errors import ImageWarning

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Whatever the name of a file says, nothing else is tried: an EPS file, for one, is a program that an interpreter runs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

COLOUR = "were in colour and are now grey (0.299 R + 0.587 G + 0.114 B)"
DEPTH = (
    "had 16 bits a channel in several channels and are read with 8 bits (to keep 16, save their grey values as floats "
    "in [0, 1] in a .npy file)"
)

# Of TIFF files: the numbers of two tags, and a value of the second.
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO = 258, 262, 0


class _RefusedError(Exception):
    """A file that holds something else than one image: what was expected, what the file is, and the remedy."""


def read_image_files(files: Sequence[Path], source: Path, *, resize: tuple[int, int] | None = None) -> np.ndarray:
    """Read image files, turned as a viewer shows them.

    Arguments:
        files: N files, at least one.
        source: where they come from; named in the warning.
        resize: (height, width) that each is scaled to. They must be of one size unless it is given.

    Returns:
        (N, h, w), uint8; uint16 where every file is 16 bits deep; float32 in [0, 1] where they differ in depth.

    Raises:
        ValueError: a file cannot be read, has several frames, transparent pixels or more pixels than Pillow trusts, or
            is of another size than the first one; names the files.

    Warns:
        ImageWarning: once, if files were in colour, or lost some of their depth; says how many.
    """
    arrays: list[np.ndarray] = []
    losses: Counter[str] = Counter()
    for file in files:
        array, lost = _read_grey(file)
        losses.update(lost)
        arrays.append(array if resize is None else resize_image(array, resize))
        if arrays[-1].shape != arrays[0].shape:
            raise ValueError(
                f"images: expected files of one size; {files[0]} is {_size(arrays[0])} and {file} is {_size(array)} "
                "(width×height); scale or crop them to one size, or have them scaled: resize=(height, width), "
                "--resize on the command line"
            )
    if losses:
        counts = "; ".join(f"{count} of {len(files)} files in {source} {what}" for what, count in losses.items())
        warnings.warn(f"images: {counts}", ImageWarning, stacklevel=2)
    if len({array.dtype for array in arrays}) > 1:
        # 8 and 16 bits have different whites: brought to one scale before they are mixed.
        arrays = [array.astype(np.float32) / np.iinfo(array.dtype).max for array in arrays]
    return np.stack(arrays)


def _read_grey(file: Path) -> tuple[np.ndarray, list[str]]:
    """One image (h, w) as uint8, or as uint16 when that is its depth, and what of the file is not in it."""
    from PIL import Image

    try:
        # Opened here, not by Pillow, which reads some of the turned images in TIFF files wrongly by their name.
        with file.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream, formats=FORMATS) as image:
                return _grey(image)
    except _RefusedError as refused:
        expected, found, remedy = refused.args
        raise ValueError(f"images: expected {expected}; {file} {found}; {remedy}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as cause:
        raise ValueError(
            f"images: expected images of at most {Image.MAX_IMAGE_PIXELS} pixels; {file} has more, as a small file "
            "that fills the memory would; scale it down, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from cause
    # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damaged files.
    except Exception as cause:
        raise ValueError(
            f"images: expected a readable image file; {file} is not one of {', '.join(FORMATS)}, whatever its name "
            f"says, or is damaged ({type(cause).__name__}: {cause}); save it as PNG, or remove it"
        ) from cause


def _grey(image: "Image") -> tuple[np.ndarray, list[str]]:
    from PIL import ImageOps

    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise _RefusedError("one image a file", f"has {frames} frames", "save each as a file of its own")
    _check_deep_tiff(image)
    # Both are known before the pixels are read only.
    sixteen_bits, lost = image.mode == "I" and image.format == "PPM", [DEPTH] if _loses_depth(image) else []
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = _opaque(image)
    # Pillow's own conversion to 8 bits would cut these off at 255 or drop their lower half.
    if image.mode.startswith("I;16") or sixteen_bits:
        return np.asarray(image).astype(np.uint16), lost
    if image.mode in ("I", "F"):
        raise _RefusedError(
            "8 or 16 bits a pixel",
            f"has 32 (mode {image.mode}), whose range is unknown",
            "save the images as floats in [0, 1] in a .npy file",
        )
    if image.mode not in ("1", "L"):
        channels = np.asarray(image.convert("RGB"))
        lost += [COLOUR] if (channels != channels[..., :1]).any() else []
    return np.asarray(image.convert("L")), lost


def _check_deep_tiff(image: "Image") -> None:
    """Raise for what Pillow reads from deep grey TIFF files as it stands there, though it means another grey."""
    tags = getattr(image, "tag_v2", {})
    if not image.mode.startswith("I;16") or not tags:
        return
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    if bits != 16:
        raise _RefusedError("8 or 16 bits a pixel", f"has {bits}", "save it with 16 bits, and white as 65535")
    if tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        raise _RefusedError("black as 0 in images of 16 bits", "has white as 0", "save it as PNG")


def _loses_depth(image: "Image") -> bool:
    """Whether several channels are 16 bits deep: Pillow has no mode for them and gives their upper halves."""
    if image.mode.startswith("I"):
        return False
    for codec, _, _, arguments in getattr(image, "tile", ()):
        raw_mode, *more = arguments if isinstance(arguments, tuple) else (arguments,)
        if ";16" in str(raw_mode) or (codec.startswith("ppm") and more[0] > 255):
            return True
    return False


def _opaque(image: "Image") -> "Image":
    """The image without its transparency where no pixel makes use of it."""
    if image.mode.startswith("I;16"):  # one value stands for transparent; Pillow converts this mode to none with alpha
        opaque, transparent = image, bool((np.asarray(image) == image.info["transparency"]).any())
    else:
        opaque = image.convert("RGBA")
        transparent = np.asarray(opaque)[..., 3].min() < 255
    if transparent:
        raise _RefusedError(
            "opaque images",
            "has transparent pixels, whose grey depends on what lies behind them",
            "paste it on a background, black for drawings in white, white for those in black",
        )
    return opaque


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"
