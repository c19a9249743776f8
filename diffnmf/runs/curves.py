"""Curves in plain text: a row per epoch."""

import csv
from pathlib import Path

from diffnmf.files import explained_errors, explained_reading, write_csv
from diffnmf.metrics.names import with_both_names

Row = dict[str, float]


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
            rows = [with_both_names({name: _number(value) for name, value in row.items() if value}) for row in reader]
        if "epoch" not in (reader.fieldnames or ["epoch"]):
            raise ValueError("it has no column named epoch")
        return [row for row in rows if row["epoch"] <= epochs]


def _number(text: str) -> float:
    """A cell of the curves; epochs stay whole numbers."""
    return int(text) if text.isdecimal() else float(text)
