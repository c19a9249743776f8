"""Trained models that a study needs: each is trained once, goes on where it was interrupted, and is kept."""

from pathlib import Path

import torch

from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.runs import RunConfig, RunFolder, resume_experiment, run_experiment
from diffnmf.studies.progress import Announce

WITHOUT_EFFECT = ("checkpoint_every", "picture_every")


class ModelLibrary:
    """Run folders below one folder.

    Arguments:
        folder: where the runs are.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be trained, and which training diverged.
        train: False opens what has been trained, and trains nothing.

    Attributes:
        begin: told what is about to be trained in the place of ``announce``; a ``Progress`` counts there.
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
        """The folder of the finished run of that name; None where it diverged, or is missing and may not be trained.

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
        except DivergenceError as error:  # one of many: the others go on, and the report says what is missing
            self.announce(f"{name}: {error}")
            return None
        return path

    def _check_same(self, path: Path, config: RunConfig) -> None:
        """Every option counts that changes a result, also those that a run may be continued with."""
        _, trained = RunFolder.open(path)
        saved = trained.to_dict()
        differences = [
            f"{option} is {value!r} here and was {saved[section][option]!r}"
            for section, options in config.to_dict().items()
            for option, value in options.items()
            if option not in WITHOUT_EFFECT and _name(option, value) != _name(option, saved[section][option])
        ]
        if differences:
            raise RunFolderError(
                f"{path}: was trained with other options: {'; '.join(differences)} (take another folder)"
            )


def _name(option: str, value: object) -> object:
    """Where a run started from may have moved together with it: its name counts, not its folder."""
    return Path(value).name if option == "start_from" and isinstance(value, str) else value
