"""The folder that a run leaves behind: configuration, checkpoint, weights, curves, metrics and pictures."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import nn

from diffnmf.errors import RunFolderError
from diffnmf.files import replacing
from diffnmf.training.config import RunConfig

Row = dict[str, float]


class RunFolder:
    """Reads and writes the files of one run; every file is replaced as a whole or not at all.

    ======================  =====================================================================
    config.yaml             the ``RunConfig``
    checkpoint.pt           everything that training needs to go on (tensors and numbers only)
    generator.safetensors   the weights of the generator
    curves.csv              a row per epoch
    metrics.json            the scores at the end
    pictures/               a group, its H, its reconstruction, the curves
    ======================  =====================================================================
    """

    FILES = ("config.yaml", "checkpoint.pt", "generator.safetensors", "curves.csv", "metrics.json")

    PICTURES = ("group", "basis", "reconstruction", "decomposition", "curves")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file, self.checkpoint_file, self.weights_file, self.curves_file, self.metrics_file = (
            self.path / name for name in self.FILES
        )
        self.pictures = self.path / "pictures"

    def picture_files(self) -> list[Path]:
        """The pictures of a run, whether they exist or not."""
        return [self.pictures / f"{name}.png" for name in self.PICTURES]

    @classmethod
    def check_free(cls, path: str | Path) -> None:
        """Raise RunFolderError where ``path`` holds files of a run, or is no folder; nothing is touched."""
        folder = cls(path)
        if folder.path.exists() and not folder.path.is_dir():
            raise RunFolderError(f"output: expected a folder; {folder.path} is a file")
        found = [name for name in cls.FILES if (folder.path / name).exists()]
        if found:
            raise RunFolderError(
                f"output: {folder.path} already holds a run ({', '.join(found)}); continue it with --resume"
                f" {folder.path}, replace it with --overwrite, or give another folder"
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
            for file in (*(folder.path / name for name in cls.FILES), *folder.picture_files()):
                file.unlink(missing_ok=True)
            folder.pictures.mkdir(parents=True, exist_ok=True)
            folder.save_config(config)
        except OSError as error:
            raise RunFolderError(f"output: cannot write to {folder.path}: {error}") from error
        return folder

    @classmethod
    def open(cls, path: str | Path) -> tuple["RunFolder", RunConfig]:
        """An existing run and its configuration.

        Raises:
            RunFolderError: there is no run in ``path``, or its configuration cannot be read.
        """
        folder = cls(path)
        if not folder.config_file.is_file():
            raise RunFolderError(f"resume: expected a run folder; {folder.path} has no {folder.config_file.name}")
        return folder, RunConfig.from_yaml(folder.config_file)

    def save_config(self, config: RunConfig) -> None:
        """Write config.yaml."""
        with replacing(self.config_file) as file:
            file.write_text(config.to_yaml(), encoding="utf-8")

    def save_checkpoint(self, state: dict[str, Any], generator: nn.Module, rows: list[Row]) -> None:
        """Save after an epoch: curves, weights and, last, the state that says that all of it is there."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        with replacing(self.curves_file) as file, file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(rows)
        with replacing(self.weights_file) as file:
            save_model(generator, str(file))
        with replacing(self.checkpoint_file) as file:
            torch.save(state, file)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, on the CPU; None where the run was stopped before its first.

        Raises:
            RunFolderError: the file is damaged or no checkpoint.
        """
        if not self.checkpoint_file.exists():
            return None
        try:
            # weights_only: a file from elsewhere must not be able to run code.
            state = torch.load(self.checkpoint_file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch and pickle raise many kinds for a damaged file
            raise RunFolderError(f"{self.checkpoint_file}: not a checkpoint, or damaged: {error}") from error
        if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
            raise RunFolderError(f"{self.checkpoint_file}: not a checkpoint of this program")
        return state

    def load_curves(self, epochs: int) -> list[Row]:
        """The rows of the curves up to an epoch.

        Raises:
            RunFolderError: the file is damaged.
        """
        if not self.curves_file.exists():
            return []
        try:
            with self.curves_file.open(newline="", encoding="utf-8") as stream:
                reader = csv.DictReader(stream, strict=True)
                rows = [{name: _number(value) for name, value in row.items() if value} for row in reader]
            if "epoch" not in (reader.fieldnames or ["epoch"]):
                raise ValueError("it has no column named epoch")
            return [row for row in rows if row["epoch"] <= epochs]
        except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError, AttributeError) as error:
            raise RunFolderError(f"{self.curves_file}: not the curves of a run, or damaged: {error!r}") from error

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        with replacing(self.metrics_file) as file:
            file.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def _number(text: str) -> float:
    """A cell of the curves; epochs stay whole numbers."""
    return int(text) if text.isdecimal() else float(text)
