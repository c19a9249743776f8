"""Trained models that a study needs: each is trained once, goes on where it was interrupted, and is kept."""

from collections.abc import Callable
from pathlib import Path

import torch

from diffnmf.errors import RunFolderError
from diffnmf.evaluation.experiment import resume_experiment, run_experiment
from diffnmf.training import RunConfig, RunFolder

Announce = Callable[[str], None]


class ModelLibrary:
    """Run folders below one folder.

    Arguments:
        folder: where the runs are.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be trained.
        train: False opens what has been trained, and trains nothing.
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
        self.announce, self.train = announce, train

    def run(self, name: str, config: RunConfig) -> Path | None:
        """The folder of the finished run of that name; None where it is missing and nothing may be trained.

        Raises:
            RunFolderError: the run of that name was made with other options; the message names them.
        """
        path = self.folder / name
        if (path / "config.yaml").exists():
            self._check_same(path, config)
            if RunFolder(path).metrics_file.exists():
                return path
        if not self.train:
            return None
        self.announce(f"training {name}")
        if (path / "config.yaml").exists():
            resume_experiment(path, data_dir=self.data_dir, device=self.device, brief=True)
        else:
            run_experiment(config, path, data_dir=self.data_dir, device=self.device, brief=True)
        return path

    def _check_same(self, path: Path, config: RunConfig) -> None:
        _, trained = RunFolder.open(path)
        differences = config.differences(trained.to_dict())
        if trained.training.epochs != config.training.epochs:
            differences.append(f"epochs is {config.training.epochs} here and was {trained.training.epochs}")
        if differences:
            raise RunFolderError(
                f"{path}: was trained with other options: {'; '.join(differences)} (take another folder)"
            )
