"""Curves in plain text: a row per epoch. A checkpoint has the rows, too, so that they are not lost with the file."""

import csv
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffnmf.errors import CheckpointWarning, RunFolderError
from diffnmf.files import explained_errors, explained_reading, write_csv
from diffnmf.metrics.names import with_both_names

Row = dict[str, float]
TIMES = ("train_seconds", "groups_per_second", "w_solver_share")


def write_curves(file: Path, rows: list[Row]) -> None:
    """Write all rows, with a column for every name in any of them."""
    with explained_errors(file):
        write_csv(file, rows)


def read_curves(file: Path, epochs: int) -> list[Row]:
    """The rows up to an epoch; none where there is no file.

    Raises:
        RunFolderError: the file is damaged.
    """
    if not file.exists():
        return []
    with explained_reading(file, "the curves of a run"):
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            names, rows = reader.fieldnames or [], list(reader)
        if "epoch" not in names:
            raise ValueError("it has no column named epoch")
        if any(None in row.values() for row in rows):  # an empty cell is "": a time that is not known
            raise ValueError("a row has fewer cells than there are columns")
        numbers = [{name: _number(value) for name, value in row.items() if value} for row in rows]
        return [with_both_names(row) for row in numbers if row["epoch"] <= epochs]


def without_times(rows: Sequence[Row]) -> list[Row]:
    """The rows as a checkpoint keeps them: equal runs have equal checkpoints, however long they took."""
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def rows_until(file: Path, state: dict[str, Any] | None) -> list[Row]:
    """The rows of all epochs that a checkpoint has done: of the file, or of the checkpoint where the file lacks them.

    A run that went on with fewer would take worse weights for its best ones, and replace those.

    Arguments:
        file: curves.csv.
        state: the checkpoint, one from before checkpoints had rows included; None where there is none.

    Raises:
        RunFolderError: the file is damaged or lacks rows, and the checkpoint has none.
    """
    epochs = 0 if state is None else state["epoch"]
    kept = [] if state is None else state.get("curves")
    if kept is None:
        return _complete(file, read_curves(file, epochs), epochs)
    try:
        found = {row["epoch"]: row for row in read_curves(file, epochs)}
    except RunFolderError:
        found = {}
    lost = [row["epoch"] for row in kept if not _holds(found.get(row["epoch"], {}), row)]
    if lost:
        message = (
            f"{file}: missing, damaged or changed; what it lacks of {len(lost)} epochs is in the checkpoint, all but "
            f"{', '.join(TIMES)}, and is taken from there"
        )
        warnings.warn(message, CheckpointWarning, stacklevel=2)
    return [dict(row) if row["epoch"] in lost else found[row["epoch"]] for row in kept]


def _complete(file: Path, rows: list[Row], epochs: int) -> list[Row]:
    if [row["epoch"] for row in rows] != list(range(1, epochs + 1)):
        raise RunFolderError(
            f"{file}: expected a row for each of the epochs 1 to {epochs} that the checkpoint has done; got "
            f"{len(rows)} rows (put back a copy of the whole file, or train again; this checkpoint is of an older "
            "version, those of today have the rows, too)"
        )
    return rows


def _holds(row: Row, kept: Row) -> bool:
    """Whether a row has all that is kept, bit for bit; it may have more."""
    return all(name in row and _same(row[name], value) for name, value in kept.items())


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _number(text: str) -> float:
    """A cell of the curves; epochs stay whole numbers."""
    return int(text) if text.isdecimal() else float(text)
