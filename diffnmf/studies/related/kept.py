"""What the study has measured so far, in its folder: scores in related.json, components in parts/."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnmf.errors import RunFolderError
from diffnmf.evaluation.scoring import Scores
from diffnmf.files import explained_replacing
from diffnmf.studies.measured import Measured, check_scores
from diffnmf.studies.related.report import COLUMNS
from diffnmf.studies.related.systems import SYSTEMS


class Kept:
    """Scores by system and seed, written down as they come in.

    Arguments:
        output: the folder.
        settings: of the study; an earlier one must have had the same.
        shape: (k, n), of the components of every system.

    Raises:
        RunFolderError: the folder holds measurements with other settings, or its file is damaged.
    """

    def __init__(self, output: Path, settings: dict[str, Any], shape: tuple[int, int]) -> None:
        self.output, self.shape = output, shape
        file, what = output / "related.json", "the measurements of this study"
        self.measured = Measured(file, settings, what, subject="the study", newer=("images",), check_row=_check_row)
        self.rows = self.measured.rows

    def check(self, name: str, seeds: Sequence[int]) -> None:
        """Raise RunFolderError if the system had other options than it has now, or if its components are damaged."""
        if name in self.rows:
            self.measured.check(SYSTEMS[name].label, SYSTEMS[name].options, self.rows[name]["options"])
        for seed in seeds:
            if self.scores(name, seed) is not None:
                self.components(name, seed)

    def scores(self, name: str, seed: int) -> Scores | None:
        """What ``add`` was given, or None."""
        scores = self.rows.get(name, {"seeds": {}})["seeds"].get(str(seed))
        return scores if scores is not None and self._parts_file(name, seed).exists() else None

    def components(self, name: str, seed: int) -> Tensor:
        """(k, n), what ``add`` was given.

        Raises:
            RunFolderError: the file is damaged; without it ``scores`` is None, and the system is measured again.
        """
        file = self._parts_file(name, seed)
        try:
            # What np.load says of a damaged file is how to load it unsafely.
            with file.open("rb") as stream:
                components = torch.from_numpy(np.lib.format.read_array(stream, allow_pickle=False))
            if components.shape != self.shape:
                raise ValueError(f"expected the shape {self.shape}; got {tuple(components.shape)}")
        except Exception as error:  # of many kinds: numpy parses a damaged header as a program
            label = SYSTEMS[name].label
            raise RunFolderError(
                f"{file}: not the components of {label}, or damaged: {error} (delete it to measure again)"
            ) from error
        return components

    def add(self, name: str, seed: int, scores: Scores, components: Tensor) -> None:
        """Write down the scores, and the components (k, n), of a system with a seed."""
        with explained_replacing(self._parts_file(name, seed)) as file:
            np.save(file, components.cpu().numpy())
        row = self.rows.setdefault(name, {"options": SYSTEMS[name].options, "seeds": {}})
        row["seeds"][str(seed)] = scores
        self.measured.save()

    def _parts_file(self, name: str, seed: int) -> Path:
        return self.output / "parts" / f"{name}-seed{seed}.npy"


def _check_row(row: Any) -> None:
    dict(row["options"])
    for scores in row["seeds"].values():
        check_scores(scores, COLUMNS)
