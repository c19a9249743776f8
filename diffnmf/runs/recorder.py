"""What is written while a run goes on: curves, weights, checkpoints, and what TensorBoard shows."""

import math
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from diffnmf.errors import CheckpointWarning, RunFolderError
from diffnmf.files import explained_errors
from diffnmf.models.saved_model import save_weights
from diffnmf.runs.config import RunConfig
from diffnmf.runs.curves import Row, without_times
from diffnmf.runs.run_folder import RunFolder
from diffnmf.runs.weights import holds, tensors_of
from diffnmf.training import Trainer

# The score that decides which weights are the best: the column error rewards copying.
CRITERION = "relative_error"
PREFIXES = {"generator": "test_", "ema": "ema_test_"}  # weights -> how their scores are called in a row


class Recorder:
    """Writes the files of a run as it goes on. Used as a context, so that TensorBoard's file is closed.

    Arguments:
        folder: the run folder.
        config: goes into every checkpoint.
        rows: the curves so far.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, rows: list[Row]) -> None:
        self.folder, self.config, self.rows = folder, config, rows
        self._writer: Any = None

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            with suppress(*[OSError] * (error is not None)):  # one of its own would hide that
                self._writer.close()

    def epoch(self, row: Row, trainer: Trainer) -> None:
        """Write what is known after an epoch, all but its checkpoint and what comes after that."""
        self._check_folder()
        self.rows.append(row)
        self.folder.save_curves(self.rows)
        self.weights(trainer)
        with explained_errors(self.folder.tensorboard):
            writer = self._tensorboard(int(row["epoch"]))
            for name, value in row.items():
                writer.add_scalar(_tag(name), value, int(row["epoch"]))
            writer.flush()

    def weights(self, trainer: Trainer) -> None:
        """The weights of the generator, and of their average."""
        for name, state in _states(trainer).items():
            self._save_weights(name, state, {})

    def best(self, trainer: Trainer) -> None:
        """The better of the two, where it is the best so far.

        It comes after the checkpoint, which has the same weights: a run that is stopped in between writes it when it
        goes on. Were it written before, one that is stopped in between, and goes on to fewer epochs, would have lost
        its best weights to those of an epoch that it does not count.
        """
        error, name, epoch = best_of(self.rows)
        if self.rows and epoch == self.rows[-1]["epoch"]:
            state = _states(trainer)[name]
            self._save_weights("best", state, {"weights": name, "epoch": epoch, f"test_{CRITERION}": error})

    def restore_weights(self, trainer: Trainer) -> None:
        """Once more what ``weights`` and ``best`` write, of a trainer that goes on from the end of an epoch.

        The files may be gone or damaged since; or they are of the next epoch, whose checkpoint was never written or is
        damaged. Best weights of an epoch after the checkpoint stay: it has them no more, and no others are better.
        """
        self.weights(trainer)
        self.best(trainer)
        error, _, epoch = best_of(self.rows)
        if self.rows and epoch < self.rows[-1]["epoch"] and tensors_of(self._file("best")) is None:
            message = (
                f"{self._file('best')}: missing or damaged, and the checkpoint has no longer the weights of epoch "
                f"{epoch}, which are the best so far: their {CRITERION} is {error:.3g} (put a copy back, or delete "
                "what is there: generator and ema are taken until an epoch is better)"
            )
            warnings.warn(message, CheckpointWarning, stacklevel=2)

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, with the curves until then."""
        self._check_folder()
        self.folder.checkpoints.save({**state, "curves": without_times(self.rows)}, self.config)

    def picture(self, file: Path, epoch: int) -> None:
        """Show a picture in TensorBoard, too."""
        import numpy as np
        from PIL import Image

        with explained_errors(self.folder.tensorboard), Image.open(file) as picture:
            self._tensorboard(epoch).add_image(
                "unseen group", np.asarray(picture.convert("RGB")), epoch, dataformats="HWC"
            )

    def _check_folder(self) -> None:
        """Raise where somebody has removed the folder: it would be made anew, but not what a run is opened by."""
        if not self.folder.config_file.exists():
            raise RunFolderError(
                f"{self.folder.path}: its {self.folder.config_file.name} has been removed while the run went on (put"
                " the folder back and go on with --resume, or start again)"
            )

    def _save_weights(self, name: str, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        file = self._file(name)
        if self.folder.evaluation_file.exists() and not holds(file, state):
            self.folder.remove_evaluation()  # it may be of the weights that are replaced now
        with explained_errors(file):
            save_weights(state, file, metadata)

    def _file(self, weights: str) -> Path:
        return self.folder.path / f"{weights}.safetensors"

    def _tensorboard(self, epoch: int) -> Any:
        """Opened with the first epoch that is written; what an interrupted run wrote from there on is hidden."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder.tensorboard), purge_step=epoch)
        return self._writer


def best_of(rows: list[Row]) -> tuple[float, str, int]:
    """The lowest test error of all epochs, whose weights had it, and in which epoch; the first of equals."""
    candidates = [
        (row[prefix + CRITERION], weights, int(row["epoch"]))
        for row in rows
        for weights, prefix in PREFIXES.items()
        if prefix + CRITERION in row
    ]
    # Not NaN, which is neither less nor more than anything: it would win wherever it stood first.
    return min(candidates, key=lambda entry: (math.isnan(entry[0]), entry[0]), default=(math.inf, "generator", 0))


def _states(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """The weights after an epoch under the names of their files."""
    states = {"generator": trainer.generator.state_dict()}
    if trainer.ema is not None:
        states["ema"] = trainer.ema.module.state_dict()
    return states


def _tag(name: str) -> str:
    """TensorBoard groups its curves by what stands before a slash."""
    for prefix in ("ema_test_", "test_"):
        if name.startswith(prefix):
            return f"{prefix.rstrip('_')}/{name.removeprefix(prefix)}"
    return f"train/{name}"
