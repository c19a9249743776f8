"""The trained models of a study: each is trained once and kept; an interrupted training is resumed."""

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.models import GANUNMF
from diffnmf.options import differences
from diffnmf.runs import RunConfig, RunFolder, resume_experiment, run_experiment
from diffnmf.runs.parts import RunData
from diffnmf.runs.places import absolute_dataset
from diffnmf.studies.progress import Announce

WITHOUT_EFFECT = ("checkpoint_every", "picture_every")


class ModelLibrary:
    """Run folders inside one folder.

    Arguments:
        folder: contains the runs.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be trained, and which training diverged.
        train: False opens the runs that exist, and trains nothing.

    Attributes:
        begin: told what is about to be trained, instead of ``announce``; set it to ``Progress.begin`` to count.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data_dir: str | Path | None = None,
        device: torch.device | str = "cpu",
        announce: Announce = lambda message: None,
        train: bool = True,
    ) -> None:
        self.folder, self.data_dir, self.device = folder, data_dir, device
        self.announce, self.begin, self.train = announce, announce, train

    def is_finished(self, name: str) -> bool:
        """Whether the run of that name has been trained to its end."""
        return RunFolder(self.folder / name).metrics_file.exists()

    def run(self, name: str, config: RunConfig) -> Path | None:
        """The folder of the finished run of that name, trained first where it is missing.

        None where the training diverged, or where the run is missing and ``train`` is False.

        Raises:
            RunFolderError: the run of that name was made with other options; the message names them.
        """
        path = self.folder / name
        if (path / "config.yaml").exists():
            self._check_same(path, config)
            if self.is_finished(name):
                return path
        if not self.train:
            return None
        self.begin(f"training {name}")
        try:
            if (path / "config.yaml").exists():
                resume_experiment(path, data_dir=self.data_dir, device=self.device, brief=True)
            else:
                run_experiment(config, path, data_dir=self.data_dir, device=self.device, brief=True)
        except DivergenceError as error:  # the other trainings go on, and the report says what is missing
            self.announce(f"{name}: {error}")
            return None
        return path

    def _check_same(self, path: Path, config: RunConfig) -> None:
        """Compare all options that change a result, also those that a resumed run may change."""
        _, trained = RunFolder.open(path)
        if others := differences(config.options(), trained.options(), _same):
            raise RunFolderError(f"{path}: was trained with other options: {'; '.join(others)} (take another folder)")


def names_of_runs(runs: Sequence[str | Path], rows: Collection[str]) -> list[str]:
    """What runs are called beside rows of other names: as their folders, or by their paths where that is no one's own.

    Raises:
        ValueError: a run is given twice.
    """
    check_each_once(runs)
    paths = [Path(run).absolute() for run in runs]
    taken = [*(path.name for path in paths), *rows]
    return [str(path) if taken.count(path.name) > 1 else path.name for path in paths]


def check_each_once(runs: Sequence[str | Path]) -> None:
    """Raise ValueError where a run is given twice, however its path is written."""
    resolved = [Path(run).resolve() for run in runs]
    for run, path in zip(runs, resolved, strict=True):
        if resolved.count(path) > 1:
            raise ValueError(f"runs: expected every run once; got {run} twice")


def check_is_for(model: GANUNMF, run: str | Path, data: RunData) -> None:
    """Raise RunFolderError where the model of a run is for other groups than those that are scored."""
    its = model.config.m, *model.config.image_shape
    wanted = data.test_groups.shape[1], *data.split.test.image_shape
    if its != wanted:
        of = "{} images of {}×{}".format
        raise RunFolderError(
            f"{run}: expected a run on groups of {of(*wanted)} (height×width), as those that are scored; got {of(*its)}"
            " (compare it alone)"
        )


def _same(option: str, value: object, saved: object) -> bool:
    """Whether an option makes the same run."""
    return option in WITHOUT_EFFECT or _comparable(option, value) == _comparable(option, saved)


def _comparable(option: str, value: object) -> object:
    """The value to compare: of ``start_from`` the name alone, since the whole folder may have been moved.

    One's own images count by their path from anywhere, whether it was written down like that or not.
    """
    if option == "dataset" and isinstance(value, str):
        return absolute_dataset(value)
    return Path(value).name if option == "start_from" and isinstance(value, str) else value
