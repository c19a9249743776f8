"""What the study has measured so far, in its folder: scores in related.json, components in parts/."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnmf.errors import RunFolderError
from diffnmf.files import explained_replacing, read_json, write_json
from diffnmf.studies.related.systems import SYSTEMS

Scores = dict[str, float]


class Kept:
    """Scores by system and seed, written down as they come in.

    Arguments:
        output: the folder.
        settings: of the study; an earlier one must have had the same.

    Raises:
        RunFolderError: the folder holds measurements with other settings, or its file is damaged.
    """

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        self.output, self.settings = output, settings
        self.file = output / "related.json"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.file.exists():
            try:
                content = read_json(self.file)
                saved, self.rows = dict(content["settings"]), dict(content["rows"])
            except (ValueError, RecursionError, KeyError, TypeError, OSError) as error:
                raise RunFolderError(
                    f"{self.file}: not the measurements of this study, or damaged: {error!r}"
                ) from error
            saved.setdefault("images", settings["images"])  # an older file is taken on trust
            self._check("the study", saved, settings)

    def check_options(self, name: str) -> None:
        """Raise RunFolderError if the system was measured with other options than it has now."""
        if name in self.rows:
            self._check(SYSTEMS[name].label, self.rows[name]["options"], SYSTEMS[name].options)

    def scores(self, name: str, seed: int) -> Scores | None:
        """What ``add`` was given, or None."""
        scores = self.rows.get(name, {"seeds": {}})["seeds"].get(str(seed))
        return scores if scores is not None and self._parts_file(name, seed).exists() else None

    def components(self, name: str, seed: int) -> Tensor:
        """(k, n), what ``add`` was given."""
        return torch.from_numpy(np.load(self._parts_file(name, seed)))

    def add(self, name: str, seed: int, scores: Scores, components: Tensor) -> None:
        """Write down the scores, and the components (k, n), of a system with a seed."""
        with explained_replacing(self._parts_file(name, seed)) as file:
            np.save(file, components.cpu().numpy())
        row = self.rows.setdefault(name, {"options": SYSTEMS[name].options, "seeds": {}})
        row["seeds"][str(seed)] = scores
        write_json(self.file, {"settings": self.settings, "rows": self.rows})

    def _parts_file(self, name: str, seed: int) -> Path:
        return self.output / "parts" / f"{name}-seed{seed}.npy"

    def _check(self, what: str, saved: dict[str, Any], now: dict[str, Any]) -> None:
        differing = [
            f"{name} is {now.get(name)!r} here and was {saved.get(name)!r}"
            for name in {**saved, **now}
            if saved.get(name) != now.get(name)
        ]
        if differing:
            raise RunFolderError(
                f"{self.file}: {what} was measured with other settings: {'; '.join(differing)} (take another folder)"
            )
