"""Checkpoints of a large factorisation: every process writes its part, and any number of processes can go on.

folder/latest.json              which of the next is the last that is whole, and of what run
folder/iteration-00000120-of-2/ shared.npz: D, what the method remembers, errors; S-00000000.npy, ...: parts of S
"""

import math
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from diffnmf.errors import RunFolderError
from diffnmf.factorization.large.part import Part
from diffnmf.files import explained_errors, explained_replacing, read_json, write_json

LATEST = "latest.json"
EVERY = 60.0  # seconds between checkpoints, or one iteration where that takes longer
# What numpy raises for a damaged file: it parses headers as programs. Not memory that is short: the file is whole then.
UNREADABLE = (OSError, EOFError, BadZipFile, ValueError, LookupError, TypeError, NotImplementedError, TokenError)


@dataclass(frozen=True)
class Checkpoints:
    """Where a run keeps what it can go on from.

    Attributes:
        folder: of this run alone, seen by all processes.
        run: what the run is, to be compared: names and plain values.
        every: seconds between two of them.
    """

    folder: Path
    run: dict[str, Any]
    every: float = EVERY

    def exists(self) -> bool:
        return (self.folder / LATEST).exists()

    def load(self, state: Any, part: Part) -> bool:
        """Put the last checkpoint into a state; False where there is none.

        Raises:
            RunFolderError: it is that of another run, or cannot be read.
        """
        latest = self.folder / LATEST
        if not self.exists():
            return False
        try:
            found = read_json(latest)
            theirs, saved = dict(found["run"]), self.folder / found["folder"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise RunFolderError(f"{latest}: cannot be read ({error}); remove {self.folder} to begin anew") from error
        different = [key for key, value in self.run.items() if not _alike(theirs.get(key), value)]
        if different:
            key = different[0]
            data = ": other numbers, or the same with rows or columns in another order" if key == "fingerprint" else ""
            raise RunFolderError(
                f"checkpoint: {self.folder} holds another run, with {key}={theirs.get(key)!r} instead of"
                f" {self.run[key]!r}{data}; give another folder, or remove this one"
            )
        try:
            self._load(saved, state, part)
        except UNREADABLE as error:
            raise RunFolderError(f"{saved}: cannot be read ({error}); remove {self.folder} to begin anew") from error
        state.saved = state.iteration
        return True

    def _load(self, folder: Path, state: Any, part: Part) -> None:
        like, k = state.D, state.D.shape[-2]
        # np.load would leave a damaged file open.
        with (folder / "shared.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as shared:
            state.D.copy_(_of_shape("D", shared["D"], like.shape))
            shapes = {"A": (1, k, k), "C": like.shape}
            state.products = tuple(_of_shape(name, shared[name], shapes[name]).to(like.device) for name in shapes)
            errors = shared["errors"]
            state.errors = _of_shape("errors", errors, (errors.size,)).tolist()
            state.start_norm, state.converged = float(shared["start_norm"]), bool(shared["converged"])
            for name, x in state.memory.items():
                if name != part.split:
                    x.copy_(_of_shape(name, shared[f"memory_{name}"], x.shape))
        _read_parts(folder, "S", state.S, part)
        if part.split in state.memory:
            _read_parts(folder, "past", state.memory[part.split], part)

    def save(self, state: Any, part: Part) -> None:
        """Write a checkpoint; the one before it goes when this one is whole."""
        # Other numbers of processes have other parts, which a killed one may have left.
        folder = self.folder / f"iteration-{state.iteration:08d}-of-{part.processes.size}"
        with explained_errors(folder, advice="free space or mend the folder, then run again with the same checkpoint"):
            # What a killed run has left here may be of other rows: a tensor may be split in another way each time.
            if part.processes.rank == 0 and folder.exists():
                shutil.rmtree(folder)
            part.processes.wait()
            folder.mkdir(parents=True, exist_ok=True)
        _write_part(folder, "S", state.S, part)
        if part.split in state.memory:
            _write_part(folder, "past", state.memory[part.split], part)
        if part.processes.rank == 0:
            A, C = state.products
            shared = {"D": state.D, "A": A, "C": C, "errors": state.D.new_tensor(state.errors, dtype=torch.float64)}
            shared |= {f"memory_{name}": x for name, x in state.memory.items() if name != part.split}
            arrays = {name: x.cpu().numpy() for name, x in shared.items()}
            arrays |= {"start_norm": np.array(state.start_norm), "converged": np.array(state.converged)}
            with explained_replacing(folder / "shared.npz") as file, file.open("wb") as stream:
                np.savez(stream, **arrays)
        part.processes.wait()  # all parts are on the disk
        if part.processes.rank == 0:
            write_json(self.folder / LATEST, {"folder": folder.name, "iteration": state.iteration, "run": self.run})
            for other in self.folder.glob("iteration-*"):
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)
        part.processes.wait()  # nobody writes the next one while old ones are removed
        state.saved = state.iteration


def remove_checkpoint(folder: Path) -> None:
    """Remove what ``Checkpoints`` has written into a folder, and the folder where nothing else is in it."""
    for path in folder.glob("iteration-*"):
        shutil.rmtree(path, ignore_errors=True)
    (folder / LATEST).unlink(missing_ok=True)
    with suppress(OSError):  # somebody's files are in it
        folder.rmdir()


def _alike(theirs: Any, ours: Any) -> bool:
    """‖Y‖² is a sum that other processes round in another way."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(theirs, ours, rel_tol=1e-9)
    return bool(theirs == ours)


def _write_part(folder: Path, name: str, S: Tensor, part: Part) -> None:
    with explained_replacing(folder / f"{name}-{part.start:012d}.npy") as file, file.open("wb") as stream:
        np.save(stream, S[0].mT.contiguous().cpu().numpy())  # row after row, so that others can read a range of it


def _of_shape(name: str, found: Any, shape: Sequence[int]) -> Tensor:
    """The array as a tensor; another shape would be expanded without a word where it can be."""
    if found.shape != tuple(shape):
        raise ValueError(f"{name}: expected the shape {tuple(shape)}; got {found.shape}")
    return torch.from_numpy(found)


def _read_parts(folder: Path, name: str, S: Tensor, part: Part) -> None:
    """The columns of this process, from whatever parts there are."""
    filled = 0
    for path in sorted(folder.glob(f"{name}-*.npy")):
        start = int(path.stem.rsplit("-", 1)[1])
        piece = np.lib.format.open_memmap(path, mode="r")
        first, last = max(start, part.start), min(start + len(piece), part.stop)
        if first < last:
            rows = _of_shape(name, piece[first - start : last - start].copy(), (last - first, S.shape[1]))
            S[0, :, first - part.start : last - part.start] = rows.mT.to(S)
            filled += last - first
    if filled != part.rows.count:
        raise ValueError(f"rows {part.start} to {part.stop} of {name} are not all there")
