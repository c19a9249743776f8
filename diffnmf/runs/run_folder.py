"""The folder that a run leaves behind."""

import shlex
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from diffnmf.errors import RunFolderError
from diffnmf.files import explained_errors, explained_replacing, remove_unfinished, write_json
from diffnmf.runs.checkpoints import LAST, PREVIOUS, Checkpoints
from diffnmf.runs.config import RunConfig
from diffnmf.runs.curves import Row, read_curves, rows_until, write_curves


class RunFolder:
    """Reads and writes the files of one run; every file is replaced as a whole or not at all.

    ======================  =====================================================================
    config.yaml             the ``RunConfig``
    model.yaml              what ``GANUNMF.load`` needs beside the weights
    checkpoint.pt           everything that training needs to go on (tensors and plain values only)
    checkpoint-previous.pt  the one before
    generator.safetensors   the weights of the generator, after the last epoch
    ema.safetensors         their moving average
    best.safetensors        those of the two, and of the epoch, that had the lowest test error
    curves.csv              a row per epoch
    metrics.json            the scores at the end
    evaluation.json         what ``diffnmf evaluate`` found
    pictures/               a group, its H, its reconstruction, the curves; the group every few epochs
    tensorboard/            the curves and pictures for TensorBoard
    .lock                   whose run it is, while a process works on it (see ``locked``)
    ======================  =====================================================================

    Arguments:
        path: the folder; nothing is read or written yet.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from diffnmf.runs import RunConfig, RunFolder
        >>> with TemporaryDirectory() as path:
        ...     RunFolder.create(f"{path}/run", RunConfig().with_options(k=16)).save_metrics({"test": {}})
        ...     folder, config = RunFolder.open(f"{path}/run")
        ...     sorted(file.name for file in folder.path.iterdir())
        ['config.yaml', 'metrics.json', 'pictures']
        >>> config.model.k
        16
    """

    FILES = (
        "config.yaml",
        "model.yaml",
        LAST,
        PREVIOUS,
        "generator.safetensors",
        "ema.safetensors",
        "best.safetensors",
        "curves.csv",
        "metrics.json",
        "evaluation.json",
    )
    PICTURES = ("group", "basis", "reconstruction", "decomposition", "curves")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path)
        self.config_file, self.curves_file = self.path / "config.yaml", self.path / "curves.csv"
        self.metrics_file, self.evaluation_file = self.path / "metrics.json", self.path / "evaluation.json"
        self.pictures, self.tensorboard = self.path / "pictures", self.path / "tensorboard"

    def epoch_picture(self, epoch: int) -> Path:
        """The picture of an epoch."""
        return self.pictures / f"epoch-{epoch:04d}.png"

    @classmethod
    def check_free(cls, path: str | Path) -> None:
        """Raise RunFolderError where ``path`` holds files of a run, or is no folder; nothing is touched."""
        folder = cls(path)
        try:
            if folder.path.exists() and not folder.path.is_dir():
                raise RunFolderError(f"output: expected a folder; {folder.path} is a file")
            found = [name for name in cls.FILES if (folder.path / name).exists()]
        except OSError as error:  # a name that is too long, a folder that may not be read
            raise RunFolderError(f"output: cannot write to {folder.path}: {error}") from error
        if found:
            raise RunFolderError(
                f"output: {folder.path} already holds a run ({', '.join(found)}); continue it with --resume"
                f" {shlex.quote(str(folder.path))}, replace it with --overwrite, or give another folder"
            )

    @classmethod
    def create(cls, path: str | Path, config: RunConfig, *, overwrite: bool = False) -> "RunFolder":
        """Start a run in ``path``.

        Arguments:
            path: made with its parents where it does not exist.
            config: saved at once.
            overwrite: remove the files of an earlier run; other files in the folder stay.

        Raises:
            RunFolderError: the folder holds a run and may not be overwritten, or cannot be written.
        """
        if not overwrite:
            cls.check_free(path)
        folder = cls(path)
        try:
            for file in folder._files_of_a_run():
                file.unlink(missing_ok=True)
            folder.pictures.mkdir(parents=True, exist_ok=True)
            folder.clean()
        except OSError as error:
            raise RunFolderError(f"output: cannot write to {folder.path}: {error}") from error
        folder.save_config(config)
        return folder

    @classmethod
    def open(cls, path: str | Path) -> tuple["RunFolder", RunConfig]:
        """An existing run and its configuration.

        Raises:
            RunFolderError: there is no run in ``path``, or its configuration cannot be read.
        """
        folder = cls(path)
        try:
            there = folder.config_file.is_file()
        except OSError as error:  # as above
            raise RunFolderError(f"run (or --resume): cannot read {folder.path}: {error}") from error
        if not there:
            name = folder.config_file.name
            raise RunFolderError(f"run (or --resume): expected a run folder; {folder.path} has no {name}")
        return folder, RunConfig.from_yaml(folder.config_file)

    def clean(self) -> None:
        """Remove what a process that was killed while writing has left."""
        for folder in (self.path, self.pictures):
            remove_unfinished(folder)

    def save_config(self, config: RunConfig) -> None:
        """Write config.yaml."""
        with explained_replacing(self.config_file) as file:
            file.write_text(config.to_yaml(), encoding="utf-8")

    def save_curves(self, rows: list[Row]) -> None:
        """Write curves.csv."""
        write_curves(self.curves_file, rows)

    def load_curves(self, epochs: int) -> list[Row]:
        """The rows of the curves up to an epoch; RunFolderError where the file is damaged."""
        return read_curves(self.curves_file, epochs)

    def rows_until(self, state: dict[str, Any] | None) -> list[Row]:
        """The rows of all epochs that a checkpoint has done, from curves.csv or from the checkpoint itself."""
        return rows_until(self.curves_file, state)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        write_json(self.metrics_file, metrics)

    def remove_scores(self) -> None:
        """Remove metrics.json and evaluation.json, which say how good weights are that will be replaced."""
        with explained_errors(self.metrics_file):
            self.metrics_file.unlink(missing_ok=True)
        self.remove_evaluation()

    def remove_evaluation(self) -> None:
        """Remove evaluation.json: the weights that it judges will be replaced."""
        with explained_errors(self.evaluation_file):
            self.evaluation_file.unlink(missing_ok=True)

    def _files_of_a_run(self) -> list[Path]:
        """What an earlier run may have left, whether it exists or not."""
        pictures = [self.pictures / f"{name}.png" for name in self.PICTURES]
        of_epochs = self.pictures.glob("epoch-[0-9][0-9][0-9][0-9]*.png")
        events = self.tensorboard.glob("events.out.tfevents.*")
        return [*(self.path / name for name in self.FILES), *pictures, *of_epochs, *events]


def fresh_folder(config: RunConfig) -> Path:
    """Make a new folder below runs/, named after the images, the W-solver and the time.

    It is made at once, so that two runs that start in the same second get two.

    Raises:
        RunFolderError: it cannot be made.
    """
    # The images may have a name as long as names can be, and more comes behind it; or one that is not UTF-8.
    name = (Path(config.data.dataset).stem or "images").encode(errors="ignore")[:100].decode(errors="ignore")
    base = f"{name}-{config.model.w_solver}-{datetime.now():%Y%m%d-%H%M%S}"
    for suffix in chain([""], (f"-{number}" for number in count(2))):
        folder = Path("runs") / f"{base}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunFolderError(f"output: cannot write to {folder}: {error}") from error
        break
    return folder
