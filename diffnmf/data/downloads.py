"""The public data sets: where their files are looked for, how they are read, what is said when they are missing."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffnmf.data.images import DataSplit, ImageSet
from diffnmf.data.splits import split_images
from diffnmf.errors import DataUnavailableError
from diffnmf.files import from_home

DATA_VARIABLE = "DIFFNMF_DATA"

# The splits of digits and faces are part of the data set: scores are comparable only on the same test images.
_SPLIT_SEED = 0


def data_root(data_dir: str | Path | None) -> Path:
    """The folder of the data files: ``data_dir``, else $DIFFNMF_DATA, else ``diffnmf`` in the user's cache folder.

    Raises:
        DataUnavailableError: a folder was named and does not exist: a slip in a path should not start a download
            somewhere else.
    """
    if data_dir is not None:
        return _existing(Path(data_dir), "data_dir")
    if os.environ.get(DATA_VARIABLE):
        return _existing(Path(os.environ[DATA_VARIABLE]), f"the environment variable {DATA_VARIABLE}")
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "diffnmf"


def _existing(folder: Path, origin: str) -> Path:
    folder = from_home(folder)
    if not folder.is_dir():
        came = "is not a folder" if folder.exists() else "does not exist"
        raise DataUnavailableError(
            f"{origin}: expected an existing folder; {folder} {came}; "
            "create it, give another one (--data-dir), or use --dataset digits, which needs no files"
        )
    return folder


def load_digits(data_dir: str | Path | None = None) -> DataSplit:
    """The 8×8 digits that scikit-learn ships: no files, no network, so ``data_dir`` is not looked at."""
    from sklearn.datasets import load_digits as load

    digits = load()
    images = torch.from_numpy(digits.images).float() / 16  # the values are counts 0 to 16
    return split_images(ImageSet("digits", images, torch.from_numpy(digits.target)), seed=_SPLIT_SEED)


def load_mnist(data_dir: str | Path | None = None) -> DataSplit:
    """MNIST: 60000 and 10000 images of 28×28, the official split."""
    from torchvision.datasets import MNIST

    return _load_torchvision("mnist", MNIST, data_root(data_dir))


def load_fashion(data_dir: str | Path | None = None) -> DataSplit:
    """Fashion-MNIST: 60000 and 10000 images of 28×28, the official split."""
    from torchvision.datasets import FashionMNIST

    return _load_torchvision("fashion", FashionMNIST, data_root(data_dir))


def load_faces(data_dir: str | Path | None = None) -> DataSplit:
    """The Olivetti faces, 64×64: of each of 40 people 8 images to train and 2 to test, chosen once at random."""
    from sklearn.datasets import fetch_olivetti_faces

    root = data_root(data_dir)

    def read() -> DataSplit:
        # scikit-learn announces the download on stdout, which belongs to the caller's own output, and warns of every
        # retry, though only the last failure counts.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Retry downloading", category=UserWarning)
            faces = fetch_olivetti_faces(data_home=str(root / "scikit_learn"), shuffle=False)
        images = ImageSet("faces", torch.from_numpy(faces.images).contiguous(), torch.from_numpy(faces.target))
        return split_images(images, seed=_SPLIT_SEED)

    return _or_unavailable("faces", root, "scikit_learn/olivetti_py3.pkz", read)


def _load_torchvision(name: str, dataset: Callable[..., Any], root: Path) -> DataSplit:
    def read(train: bool) -> ImageSet:
        source = dataset(str(root), train=train, download=True)
        return ImageSet(name, source.data, source.targets)

    files = f"{dataset.__name__}/raw/*-ubyte.gz"
    return _or_unavailable(name, root, files, lambda: DataSplit(train=read(True), test=read(False)))


def _or_unavailable(name: str, root: Path, files: str, read: Callable[[], DataSplit]) -> DataSplit:
    """What ``read`` returns, or the error that says what was tried and what to do."""
    try:
        return read()
    # Not only OSError: a damaged pickle or idx file can raise anything, and the remedy is the same for all of it.
    except Exception as cause:
        raise DataUnavailableError(
            f"dataset {name!r}: {root / files} could neither be read nor downloaded "
            f"({type(cause).__name__}: {str(cause).strip()}). Name with --data-dir (data_dir=, or ${DATA_VARIABLE}) a "
            f"writable folder that holds {files} (delete damaged files in it), "
            "or use --dataset digits, which needs no files"
        ) from cause
