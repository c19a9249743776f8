"""A table in text: which lines and cells are names, and which are numbers."""

import csv
import re
from pathlib import Path

import numpy as np

# 1,5 and 1,000 are numbers to people: taken as texts they would make the first column one of names.
WITH_COMMAS = re.compile(r"[+-]?\d[\d.]*,[\d.,]*")
# 10%, $5 and 3 € are as well, unless the header says that the first column is one of names.
WITH_UNITS = re.compile(r"[+-]?\s*[$€£¥]\s*\d[\d.,]*|[+-]?\d[\d.,]*\s*[%‰$€£¥]")
NO_UNITS = "write them without units, 10% as 0.1 or 10"
TO_NAME = "for a column of names leave the first cell of the header empty"
FLAGS = {"true": 1.0, "false": 0.0}  # as pandas and R write them; NumPy's arrays of bools are numbers, too


def read_text(path: Path) -> tuple[np.ndarray, list[str] | None, list[str] | None]:
    """The numbers (N, F) of a .csv or .tsv, NaN where nothing is known, and the names of its rows and columns.

    Arguments:
        path: text in UTF-8; in a .tsv tabs stand between the cells, else semicolons or commas, as in the first line.

    Raises:
        ValueError: says what is wrong, and in which line.
    """
    lines, separator = _lines_of(path)
    header = _has_header(lines)
    body = lines[1:] if header else lines
    if not body:
        raise ValueError("expected rows of numbers below the names; got none")
    width = len(body[0])
    named = _has_names(lines[0] if header else None, body)
    start = 1 if named else 0
    if width == start:
        raise ValueError(
            f"expected columns of numbers; found none with {separator!r} between the cells (tabs belong into a .tsv, "
            "commas or semicolons into a .csv)"
        )
    columns = None
    if header:  # some programs leave out the corner
        columns = lines[0] if len(lines[0]) == width - start else lines[0][start:]
    X = np.array([_numbers(line, number, width, start) for number, line in enumerate(body, 1 + header)])
    return X, [line[0] for line in body] if named else None, columns


def _lines_of(path: Path) -> tuple[list[list[str]], str]:
    """The cells of the lines that are not empty, and what stands between them."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            sample = stream.readline()
            stream.seek(0)
            separator = "\t" if path.suffix.lower() == ".tsv" else ";" if sample.count(";") > sample.count(",") else ","
            lines = [line for line in csv.reader(stream, delimiter=separator) if line]
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in UTF-8; {error} (save it anew in UTF-8)") from error
    if not lines:
        raise ValueError("expected rows of numbers; the file is empty")
    return lines, separator


def _has_header(lines: list[list[str]]) -> bool:
    """Whether the first line has names.

    It has where a cell is neither a number nor empty, and is not merely the name of a row. Names that are numbers are
    known by the empty corner above those of the rows, which are texts, or are counted from 0 as pandas does it.
    """
    (corner, *names), below = lines[0], [line[0] for line in lines[1:]]
    texts = [_number(cell) is None for cell in below]
    if any(_is_title(lines, place) for place in range(1, len(lines[0]))):
        return True
    if corner.strip():
        return _is_title(lines, 0) and texts[:1] == [False]
    return any(texts) or (below != [] and (_counts(names) or _counts(below)))


def _is_title(lines: list[list[str]], place: int) -> bool:
    """Whether a cell of the first line is no number; True and False are titles too, unless some of them are below."""
    cell, *below = [line[place] for line in lines if place < len(line)]
    if cell.strip().lower() in FLAGS:
        return not any(other.strip().lower() in FLAGS for other in below)
    return _number(cell) is None


def _counts(cells: list[str]) -> bool:
    return cells != [] and cells == [str(number) for number in range(len(cells))]


def _has_names(header: list[str] | None, body: list[list[str]]) -> bool:
    """Whether the first column has names: most are texts, the corner of the header is empty, or it has none.

    Raises:
        ValueError: most are texts, and some of these are numbers with units.
    """
    width = len(body[0])
    if header is not None and width > 1:
        # With nothing in the last column either, every line merely ends in a separator.
        cornerless = len(header) == width - 1 and any(line[-1] for line in body)
        if header[0] == "" or cornerless:
            return True
    texts = [line[0] for line in body if _number(line[0]) is None]
    if 2 * len(texts) <= len(body):
        return False
    numbers = [cell for cell in texts if WITH_UNITS.fullmatch(cell.strip())]
    if numbers:
        raise ValueError(f"expected numbers or names in the first column; got {numbers[0]!r} ({NO_UNITS}; {TO_NAME})")
    return True


def _numbers(cells: list[str], line: int, width: int, start: int) -> list[float]:
    """Those of a line from the cell ``start`` on, which is 1 where there are names."""
    if len(cells) != width:
        raise ValueError(f"line {line}: expected {width - start} numbers, as in the first; got {len(cells) - start}")
    values = [_number(cell) for cell in cells[start:]]
    if None in values:
        place = values.index(None) + start
        cell = cells[place]
        hints = [NO_UNITS] if WITH_UNITS.fullmatch(cell.strip()) else []
        hints += [TO_NAME] if place == 0 else []
        hint = "; ".join(hints) or f"in column {place + 1}"
        raise ValueError(f"line {line}: expected numbers; got {cell!r} ({hint})")
    return [x for x in values if x is not None]


def _number(cell: str) -> float | None:
    """NaN for an empty cell and for what programs write in the place of one, 1 for True, 0 for False; None for a text.

    Raises:
        ValueError: for a number that Python writes otherwise.
    """
    cell = cell.strip()
    if WITH_COMMAS.fullmatch(cell):
        raise ValueError(f"expected numbers such as 1234.5; got {cell!r} (with a decimal point, and no commas)")
    if cell.lower() in ("", "na", "nan", "null"):
        return np.nan
    if cell.lower() in FLAGS:
        return FLAGS[cell.lower()]
    if "_" in cell:  # a digit may stand on either side of it in Python's numbers, and does in many a name: 10_1
        return None
    try:
        return float(cell)
    except ValueError:
        return None
