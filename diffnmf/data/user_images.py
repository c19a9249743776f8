"""A user's own images: a folder of image files, or an array in a ``.npy`` or ``.npz`` file."""

from pathlib import Path

import numpy as np
import torch

from diffnmf.checks import check_image_shape
from diffnmf.data.image_files import IMAGE_SUFFIXES, read_image_files
from diffnmf.data.images import DataSplit, ImageSet
from diffnmf.data.resizing import resize_images
from diffnmf.data.splits import split_images
from diffnmf.files import from_home

ARRAY_SUFFIXES = (".npy", ".npz")


def load_user_images(path: Path, *, seed: int, resize: tuple[int, int] | None = None) -> DataSplit:
    """Read a folder or an array file and split it 80/20.

    Arguments:
        path: a folder, whose immediate sub-folders are the classes where it has any, or a ``.npy`` or ``.npz`` file.
        seed: which images are held out for the test.
        resize: as for ``load_dataset``.

    Raises:
        ValueError: names the file, or the folder, and what is wrong with it.
    """
    image_set, classes = _read(path, resize)
    try:
        return split_images(image_set, seed=seed, class_names=classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_images(path: str | Path, *, resize: tuple[int, int] | None = None) -> ImageSet:
    """Read a folder or an array file, all of it, in the order of its files or of the array.

    Arguments:
        path: as for ``load_dataset``.
        resize: as for ``load_dataset``.

    Returns:
        The images, with the classes as numbers from 0, in the order of their names.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: names the file, or the folder, and what is wrong with it.

    Warns:
        ImageWarning: as ``load_dataset``.

    Example:
        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> from diffnmf.data import load_images
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/mine.npz", images=np.random.rand(3, 8, 8), labels=["b", "a", "b"])
        ...     load_images(f"{folder}/mine.npz").labels
        tensor([1, 0, 1])
    """
    resize = None if resize is None else check_image_shape(resize, "resize")
    expected = "images: expected the path to a folder of images, or to a .npy or .npz file"
    if not isinstance(path, str | Path):
        raise TypeError(f"{expected}; got {type(path).__name__}")
    path = from_home(path)
    if not path.exists():
        raise ValueError(f"{expected}; {path} does not exist")
    return _read(path, resize)[0]


def names_of_images(folder: Path) -> list[str]:
    """The files of a folder, in the order in which ``load_images`` reads them, as they are called from there."""
    loose = _image_files(folder)
    files = loose or [file for sub in _visible(folder) if sub.is_dir() for file in _image_files(sub)]
    return [file.relative_to(folder).as_posix() for file in files]


def _read(path: Path, resize: tuple[int, int] | None) -> tuple[ImageSet, list[str] | None]:
    """The images, and the names of their classes."""
    images, labels = _read_folder(path, resize) if path.is_dir() else _read_array_file(path)
    # Every label becomes a number 0 to C-1, in the sorted order of the names.
    classes, numbers = (None, None) if labels is None else np.unique(labels, return_inverse=True)
    try:
        pixels = torch.from_numpy(_as_pixels(images))
        image_set = ImageSet(path.stem, pixels, None if numbers is None else torch.from_numpy(numbers))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return resize_images(image_set, resize), None if classes is None else [str(c) for c in classes]


def _as_pixels(array: np.ndarray) -> np.ndarray:
    """The same array (N, h, w) as uint8, or as floats, in the byte order of this machine."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    if array.dtype.kind == "u" and array.itemsize == 2:
        return array.astype(np.float32) / 65535
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, dtype=f"f{min(array.itemsize, 8)}")
    raise ValueError(
        f"images: expected dtype uint8, uint16, bool or floating; got {array.dtype}; "
        "save values 0 to 255 as uint8, or divide by the largest possible value and save floats in [0, 1]"
    )


def _read_array_file(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The images (N, h, w) and, from a ``.npz``, the labels (N,)."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        raise ValueError(
            f"{path}: expected a folder of images, a .npy or a .npz file; got a file of another kind; "
            "for a single image name its folder"
        )
    try:
        # Opened here, not by NumPy, which leaves the files open that turn out to be damaged.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None
            images = loaded[_image_key(loaded.files)]
            labels = loaded["labels"] if "labels" in loaded.files else None
    # NumPy, zipfile and zlib each have their own errors for a damaged file, and so has an array of Python objects.
    except Exception as cause:
        raise ValueError(
            f"{path}: expected plain numbers, saved by numpy.save, or by numpy.savez as images and, if known, labels; "
            f"reading it failed ({type(cause).__name__}: {cause}); save it anew that way, without Python objects in it"
        ) from cause
    images = np.asarray(images)  # a member of the archive that is no array comes as bytes
    return images, _checked_labels(path, labels, images.shape[:1])


def _image_key(keys: list[str]) -> str:
    others = [key for key in keys if key != "labels"]
    if "images" in others:
        return "images"
    if len(others) == 1:
        return others[0]
    raise ValueError(f"expected an array called images, or a single one beside labels; got {', '.join(keys) or 'none'}")


def _checked_labels(path: Path, labels: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.shape != shape:
        raise ValueError(
            f"{path}: labels: expected one for each image, shape {shape}; got shape {labels.shape}; "
            "save one label an image, or no labels"
        )
    if labels.dtype.kind not in "iubUS":
        raise ValueError(
            f"{path}: labels: expected integers or strings; got dtype {labels.dtype}; convert with .astype(int)"
        )
    return labels


def _read_folder(folder: Path, resize: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The images (N, h, w) of a folder, sorted by path, and the names of their sub-folders (N,)."""
    files = _image_files(folder)
    by_class = {sub: _image_files(sub) for sub in _visible(folder) if sub.is_dir()}
    for sub, members in by_class.items():
        # Left out in silence, nobody would know of them.
        if (members or files) and (deeper := _first_below(sub)):
            raise ValueError(
                f"{folder}: expected images in the folder, or in its immediate sub-folders, one a class; found some"
                f" further down, such as {deeper.relative_to(folder)}; move them up, or name the folder above them"
            )
    if not files and not any(by_class.values()):
        raise ValueError(
            f"{folder}: expected image files ({', '.join(IMAGE_SUFFIXES)}) in the folder or in its immediate "
            "sub-folders; found none; name a folder with images"
        )
    if not any(by_class.values()):
        return read_image_files(files, folder, resize=resize), None
    if files:
        raise ValueError(
            f"{folder}: expected images either in the folder or in sub-folders, one a class; found both, such as "
            f"{files[0].name}; move the loose images into a sub-folder"
        )
    if empty := [sub.name for sub, members in by_class.items() if not members]:
        # Left out in silence, its images could be one level further down, and nobody would know.
        raise ValueError(
            f"{folder}: expected images in every sub-folder, one a class; found none in {', '.join(empty)}; "
            "remove it, or move its images up into it"
        )
    names = [sub.name for sub, members in by_class.items() for _ in members]
    in_order = [file for members in by_class.values() for file in members]
    return read_image_files(in_order, folder, resize=resize), np.array(names)


def _first_below(folder: Path) -> Path | None:
    """An image in a sub-folder of the folder, however deep."""
    for sub in _visible(folder):
        if sub.is_dir() and not sub.is_symlink():  # links may lead round in circles
            found = next(iter(_image_files(sub)), None) or _first_below(sub)
            if found is not None:
                return found
    return None


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    files = [file for file in _visible(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
    if broken := [file for file in files if file.is_symlink() and not file.exists()]:
        raise ValueError(
            f"{folder}: expected links to existing files; {broken[0].name} leads nowhere, as {len(broken)} of "
            f"{len(files)} images do (mend or remove the links)"
        )
    return [file for file in files if file.is_file()]
