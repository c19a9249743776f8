"""Checkpoints: the last and the one before it, each whole or not there, and refused where they belong elsewhere."""

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from diffnmf.errors import CheckpointWarning, RunFolderError
from diffnmf.files import explained_replacing, to_disk
from diffnmf.runs.config import RunConfig

State = dict[str, Any]
LAST, PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"


class Checkpoints:
    """The checkpoints of one run.

    A checkpoint is a file of ``torch.save`` with tensors and plain values only, so that reading one cannot run code.

    Arguments:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.last, self.previous = folder / LAST, folder / PREVIOUS
        self._last_is_good = True  # else it is no worthy successor of the previous one

    def save(self, state: State, config: RunConfig) -> None:
        """Write a checkpoint; the one that was the last becomes the previous one.

        Raises:
            RunFolderError: it could not be written; what was there before is intact.
        """
        buffer = io.BytesIO()  # torch's own writer does not survive a full disk
        torch.save({**state, "config": config.to_dict()}, buffer)
        with explained_replacing(self.last) as file:
            with buffer.getbuffer() as content:  # given back in a failure, too: Python 3.13 complains otherwise
                file.write_bytes(content)
            to_disk(file)  # a full disk shows here, before anything is moved
            # A process killed before the next move leaves the previous one alone, which ``load`` then takes.
            if self._last_is_good and self.last.exists():
                self.last.replace(self.previous)
        self._last_is_good = True

    def load(self, config: RunConfig) -> State | None:
        """The newest checkpoint that is whole, on the CPU; None where the run was stopped before its first.

        Raises:
            RunFolderError: there is none, though there are files; or it belongs to another configuration.
        """
        if not self.last.exists() and not self.previous.exists():
            return None
        try:
            return _read(self.last, config)
        except _DamagedError as error:
            self._last_is_good = False
            try:
                state = _read(self.previous, config)
            except RunFolderError:
                raise error from None
            if self.last.exists():
                message = f"{error}; going on from {self.previous}, {position(state)}"
                warnings.warn(message, CheckpointWarning, stacklevel=2)
            return state
        except RunFolderError as error:
            try:
                state = _read(self.previous, config)
            except RunFolderError:
                raise error from None
            raise RunFolderError(
                f"{error}; {self.previous} fits ({position(state)}): delete {self.last} to go on from there"
            ) from None


def position(state: State) -> str:
    """Where a checkpoint is, in words."""
    inside = f" and {state['step']} steps of the next" if state["step"] else ""
    return f"after epoch {state['epoch']}{inside}"


class _DamagedError(RunFolderError):
    """The file is torn, or was never a checkpoint."""


def _read(file: Path, config: RunConfig) -> State:
    try:
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():  # torch does not look at the checksums
                raise ValueError(f"the checksum of {damaged} is wrong")
        # weights_only: a file from elsewhere must not be able to run code.
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # What torch says here tells its reader how to load the file in spite of that.
        raise _DamagedError(f"{file}: not a checkpoint of this program: it holds Python objects") from error
    except Exception as error:  # zipfile, torch and pickle raise many kinds for a damaged file
        raise _DamagedError(f"{file}: not a checkpoint, or damaged: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(state.get(name), int) for name in ("epoch", "step")):
        raise _DamagedError(f"{file}: not a checkpoint of this program")
    saved = state.get("config", {})
    if not isinstance(saved, dict) or not all(isinstance(section, dict) for section in saved.values()):
        raise _DamagedError(f"{file}: not a checkpoint of this program: its configuration is {str(saved)[:100]!r}")
    if differences := config.differences(saved):
        raise RunFolderError(f"{file}: does not fit the configuration of its run: {'; '.join(differences)}")
    return state
