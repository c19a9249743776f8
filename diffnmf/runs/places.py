"""Where the images of a run are, and the run that it starts from, so that they are found from anywhere."""

import hashlib
from dataclasses import replace
from pathlib import Path

from diffnmf.data import DATASETS, DataSplit
from diffnmf.errors import RunFolderError
from diffnmf.files import from_home
from diffnmf.runs.config import DataConfig, RunConfig


def own_images(dataset: str) -> bool:
    """Whether that is a path to a user's own images, and not the name of a data set."""
    return dataset not in DATASETS


def absolute_dataset(dataset: str) -> str:
    """The path of one's own images from anywhere; the name of a data set, and what does not exist, stay as they are."""
    return str(from_home(dataset).absolute()) if own_images(dataset) and _exists(dataset) else dataset


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The same run, to be continued from another folder than the one it was started in."""
    start = config.model.start_from
    if start is not None and _exists(start):
        config = replace(config, model=replace(config.model, start_from=str(from_home(start).absolute())))
    return replace(config, data=replace(config.data, dataset=absolute_dataset(config.data.dataset)))


def moved_to(dataset: str, data: DataConfig) -> str:
    """The new place of the images of a run; ValueError for a named data set, on either side."""
    if (own_images(dataset) and own_images(data.dataset)) or dataset == data.dataset:
        return absolute_dataset(dataset)
    raise ValueError(
        f"dataset: expected, beside resume, the place where the images of the run are now; it was trained on "
        f"{data.dataset!r}; got {dataset!r} (leave it out, or start a new run)"
    )


def check_apart(output: Path, start_from: Path) -> None:
    """Raise ValueError where a run would take the place of the one that it starts from, and has to be resumed with."""
    if output.exists() and start_from.exists() and output.samefile(start_from):
        raise ValueError(
            f"start_from: expected another folder than output; got {start_from} for both (give another output: a run"
            " that is resumed before its first checkpoint reads the run that it starts from once more)"
        )


def check_images_are_there(data: DataConfig, config_file: Path) -> None:
    """Raise RunFolderError where a user has moved the images of a run; names the path that is stored."""
    if own_images(data.dataset) and not _exists(data.dataset):
        raise RunFolderError(
            f"dataset: {config_file} says that the images of the run are in {data.dataset}, which does not exist "
            "(say with --dataset where they are now)"
        )


def fingerprint(split: DataSplit) -> str:
    """Tells whether images are the same: 16 hexadecimal digits from all pixels and labels, whatever the path."""
    digest = hashlib.sha256()
    for part in (split.train, split.test):
        for tensor in (part.images, part.labels):
            if tensor is not None:
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.contiguous().cpu().numpy().data)
    return digest.hexdigest()[:16]


def _exists(path: str) -> bool:
    try:
        return from_home(path).exists()
    except OSError:  # a name that is too long for any file
        return False
