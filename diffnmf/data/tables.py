"""A table of samples from a file: numbers, and the names of rows and columns where the file has them."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffnmf.data.user_images import load_images, names_of_images

ENDINGS = (".npy", ".npz", ".csv", ".tsv", ".mtx", ".parquet")


@dataclass(frozen=True)
class Table:
    """Samples in rows.

    Attributes:
        X: (N, F), an array, or a sparse matrix of SciPy in the CSR format. NaN where nothing is known.
        rows: N names, or None.
        columns: F names, or None.
        image_shape: (height, width) where a row is an image; otherwise None.
    """

    X: Any
    rows: list[str] | None = None
    columns: list[str] | None = None
    image_shape: tuple[int, int] | None = None


def read_table(path: str | Path, *, resize: tuple[int, int] | None = None) -> Table:
    """Read a table, or a folder of images as one: an image a row.

    Arguments:
        path: a folder of image files; .npy or .npz with a matrix (N, F), images (N, h, w), or a sparse matrix of SciPy;
            .csv or .tsv, with names in the first row and the first column or without, an empty cell for what is not
            known; .mtx (MatrixMarket); .parquet, which needs pandas and pyarrow.
        resize: (height, width) that the images of a folder are scaled to; by default they are of one size.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"data: expected a folder of images, or a file; {path} does not exist")
    if path.is_dir():
        return _images(load_images(path, resize=resize).images.numpy(), names_of_images(path))
    if resize is not None:
        raise ValueError(f"resize: expected a folder of images as data; got the file {path} (leave --resize out)")
    readers = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".csv": _read_text,
        ".tsv": _read_text,
        ".mtx": _read_market,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"data: expected a folder of images, or a file {', '.join(ENDINGS)}; got {path}")
    try:
        return reader(path)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise ValueError(f"{path}: {error}") from error


def _images(array: np.ndarray, names: list[str] | None = None) -> Table:
    count, height, width = array.shape
    return Table(array.reshape(count, -1), names, image_shape=(height, width))


def _of_array(array: np.ndarray) -> Table:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"expected numbers; got dtype {array.dtype}")
    array = array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64)
    if array.ndim == 3:
        return _images(array)
    if array.ndim != 2:
        raise ValueError(f"expected a matrix (N, F) or images (N, h, w); got shape {array.shape}")
    return Table(array)


def _read_npy(path: Path) -> Table:
    return _of_array(np.load(path, allow_pickle=False))


def _read_npz(path: Path) -> Table:
    with np.load(path, allow_pickle=False) as archive:
        names = [name for name in archive.files if name not in ("rows", "columns", "labels")]
        if {"indices", "indptr", "data", "shape"} <= set(names):
            from scipy.sparse import load_npz

            return Table(load_npz(path).tocsr().astype(np.float64))
        name = names[0] if len(names) == 1 else next((x for x in ("X", "images") if x in names), None)
        if name is None:
            raise ValueError(f"expected one array, or one that is called X; got {', '.join(names) or 'none'}")
        table = _of_array(archive[name])
        rows, columns = (list(map(str, archive[x])) if x in archive.files else None for x in ("rows", "columns"))
    return Table(table.X, rows, columns, table.image_shape)


def _read_market(path: Path) -> Table:
    from scipy.io import mmread

    matrix = mmread(path)
    return Table(matrix.astype(np.float64).tocsr()) if hasattr(matrix, "tocsr") else _of_array(np.asarray(matrix))


def _read_parquet(path: Path) -> Table:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("pandas is needed for .parquet: pip install pandas pyarrow") from error
    frame = pandas.read_parquet(path)
    texts = [name for name in frame.columns if not pandas.api.types.is_numeric_dtype(frame[name])]
    if len(texts) > 1:
        raise ValueError(f"expected at most one column that is no number, the names; got {', '.join(map(str, texts))}")
    rows = frame[texts[0]] if texts else frame.index if frame.index.dtype == object else None
    numbers = frame.drop(columns=texts)
    names = None if rows is None else list(map(str, rows))
    return Table(numbers.to_numpy(dtype=np.float64), names, list(map(str, numbers.columns)))


def _read_text(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        sample = stream.readline()
        stream.seek(0)
        separator = "\t" if path.suffix.lower() == ".tsv" else ";" if sample.count(";") > sample.count(",") else ","
        lines = [line for line in csv.reader(stream, delimiter=separator) if line]
    if not lines:
        raise ValueError("expected rows of numbers; the file is empty")
    # A header has a cell that is neither a number nor empty, and is not merely the name of a row.
    first = [_number(cell) is None for cell in lines[0]]
    header = any(first[1:]) or (len(lines) > 1 and first[0] and _number(lines[1][0]) is not None)
    body = lines[1:] if header else lines
    if not body:
        raise ValueError("expected rows of numbers below the names; got none")
    named = any(_number(line[0]) is None for line in body) or (header and lines[0][0] == "" and len(body[0]) > 1)
    start = 1 if named else 0
    width = len(body[0])
    columns = None
    if header:  # some programs leave out the corner
        columns = lines[0] if len(lines[0]) == width - start else lines[0][start:]
    X = np.array([_numbers(line[start:], number, width - start) for number, line in enumerate(body, 1 + header)])
    return Table(X, [line[0] for line in body] if named else None, columns)


def _numbers(cells: list[str], line: int, width: int) -> list[float]:
    if len(cells) != width:
        raise ValueError(f"line {line}: expected {width} numbers, as in the first; got {len(cells)}")
    values = [_number(cell) for cell in cells]
    if None in values:
        raise ValueError(f"line {line}: expected numbers; got {cells[values.index(None)]!r}")
    return [x for x in values if x is not None]


def _number(cell: str) -> float | None:
    """NaN for an empty cell and for what programs write in the place of one; None for a text."""
    cell = cell.strip()
    if cell.lower() in ("", "na", "nan", "null"):
        return np.nan
    try:
        return float(cell)
    except ValueError:
        return None
