"""The front door of the data: a known name, or a path to a user's own images."""

from collections.abc import Callable
from pathlib import Path

from diffnmf.checks import check_count, check_image_shape
from diffnmf.data.downloads import load_digits, load_faces, load_fashion, load_mnist
from diffnmf.data.images import DataSplit, ImageSet
from diffnmf.data.resizing import resize_images
from diffnmf.data.user_images import load_user_images
from diffnmf.files import from_home

__all__ = ["DATASETS", "DataSplit", "ImageSet", "load_dataset"]

DATASETS: dict[str, Callable[[str | Path | None], DataSplit]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion": load_fashion,
    "faces": load_faces,
}


def load_dataset(
    dataset: str | Path,
    *,
    data_dir: str | Path | None = None,
    seed: int = 0,
    resize: tuple[int, int] | None = None,
) -> DataSplit:
    """Load images and split them into train and test, before any group is drawn from either.

    Arguments:
        dataset: a name in ``DATASETS``, or a path to one's own images (``./digits`` for a folder that is called like a
            name):

            - a folder of image files of one size, unless ``resize`` is given, turned to greyscale; its immediate
              sub-folders are the classes if it has any; hidden files and files of other kinds are ignored;
            - a ``.npy`` file of images (N, h, w);
            - a ``.npz`` file with such an array as ``images``, or as its only one, and optionally ``labels`` (N,).

            Arrays are uint8, uint16, bool, or floats in [0, 1]. Labels are integers or strings.
        data_dir: where the files of ``mnist``, ``fashion`` and ``faces`` are, or are downloaded to. The environment
            variable DIFFNMF_DATA unless given; without that, ``diffnmf`` in the user's cache folder. Where several
            processes start together, let one load first: they would unpack the files over each other.
        seed: which fifth of one's own images is held out for the test. The named data sets have fixed splits.
        resize: (height, width) that every image is scaled to if given; its proportions change where they are not those.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the name is unknown, or the images cannot be used; says which and why.
        DataUnavailableError: the files of a named data set are neither there nor to be had.

    Warns:
        ImageWarning: once, when image files were in colour, or lost some of their depth; says how many.

    Example:
        >>> from diffnmf.data import load_dataset
        >>> split = load_dataset("digits")  # it comes with scikit-learn
        >>> split.train.image_shape, len(split.train) > len(split.test)
        ((8, 8), True)

        Your own images:

        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/mine.npy", np.random.rand(50, 20, 30))
        ...     split = load_dataset(f"{folder}/mine.npy", resize=(10, 15))
        >>> split.train.name, split.train.image_shape, len(split.train), len(split.test)
        ('mine', (10, 15), 40, 10)
    """
    seed = check_count("seed", seed)
    resize = None if resize is None else check_image_shape(resize, "resize")
    if not isinstance(dataset, str | Path):
        raise TypeError(f"dataset: expected a name or a path; got {type(dataset).__name__}")
    if isinstance(dataset, str) and dataset in DATASETS:
        split = DATASETS[dataset](data_dir)
        return DataSplit(resize_images(split.train, resize), resize_images(split.test, resize))
    path = from_home(dataset)
    # An empty string is no path, though pathlib reads it as the current folder.
    if dataset == "" or not path.exists():
        raise ValueError(
            f"dataset: expected one of {', '.join(sorted(DATASETS))}, or the path to an existing folder of images or "
            f"to a .npy or .npz file; got {str(dataset)!r}"
        )
    return load_user_images(path, seed=seed, resize=resize)
