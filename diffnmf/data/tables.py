"""A table of samples from a file: numbers, and the names of rows and columns where the file has them."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffnmf.data.user_images import load_images, names_of_images

ENDINGS = (".npy", ".npz", ".csv", ".tsv", ".mtx", ".parquet")
# 1,5 and 1,000 are numbers to people: taken as texts they would make the first column one of names.
WITH_COMMAS = re.compile(r"[+-]?\d[\d.]*,[\d.,]*")


@dataclass(frozen=True)
class Table:
    """Samples in rows.

    Attributes:
        X: (N, F), an array, or a sparse matrix of SciPy in the CSR format. NaN where nothing is known.
        rows: N names, or None.
        columns: F names, or None.
        image_shape: (height, width) where a row is an image; otherwise None.

    Raises:
        ValueError: there is no sample or no feature, or not one name for each.
    """

    X: Any
    rows: list[str] | None = None
    columns: list[str] | None = None
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if 0 in self.X.shape:
            raise ValueError(f"expected at least one sample and one feature; got shape {tuple(self.X.shape)}")
        for what, names, count in zip(("rows", "columns"), (self.rows, self.columns), self.X.shape, strict=True):
            if names is not None and len(names) != count:
                raise ValueError(f"{what}: expected {count} names, one for each; got {len(names)}")


def read_table(path: str | Path, *, resize: tuple[int, int] | None = None) -> Table:
    """Read a table, or a folder of images as one: an image a row.

    Arguments:
        path: a folder of image files; .npy or .npz with a matrix (N, F), images (N, h, w), or a sparse matrix of SciPy;
            .csv or .tsv, with names in the first row and the first column or without, an empty cell for what is not
            known (names of columns that are numbers are known by an empty corner, as pandas writes it); .mtx
            (MatrixMarket); .parquet, which needs pandas and pyarrow.
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
        ".npy": _read_numpy,
        ".npz": _read_numpy,
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
    # NumPy, zipfile, csv and SciPy each have their own errors for a damaged file.
    except Exception as error:
        raise ValueError(f"{path}: {error}") from error


def _images(array: np.ndarray, names: list[str] | None = None) -> Table:
    count, height, width = array.shape
    return Table(array.reshape(count, height * width), names, image_shape=(height, width))


def _of_array(array: np.ndarray) -> Table:
    _check_real(array.dtype)
    array = array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64)
    if array.ndim == 3:
        return _images(array)
    if array.ndim != 2:
        raise ValueError(f"expected a matrix (N, F) or images (N, h, w); got shape {array.shape}")
    return Table(array)


def _of_sparse(matrix: Any) -> Table:
    _check_real(matrix.dtype)
    return Table(matrix.tocsr().astype(np.float64))


def _check_real(dtype: np.dtype) -> None:
    if dtype.kind not in "fiub":
        raise ValueError(f"expected real numbers; got dtype {dtype}")


def _read_numpy(path: Path) -> Table:
    """An array or an archive, whichever the file is: NumPy does not go by the name either."""
    # Opened here, not by NumPy, which leaves the files open that turn out to be damaged.
    with path.open("rb") as stream:
        loaded = np.load(stream, allow_pickle=False)
        return _of_array(loaded) if isinstance(loaded, np.ndarray) else _of_archive(loaded, path)


def _of_archive(archive: Any, path: Path) -> Table:
    names = [name for name in archive.files if name not in ("rows", "columns", "labels")]
    if {"format", "data", "shape"} <= set(names):  # as SciPy saves a sparse matrix of any kind
        from scipy.sparse import load_npz

        return _of_sparse(load_npz(path))
    name = names[0] if len(names) == 1 else next((x for x in ("X", "images") if x in names), None)
    if name is None:
        raise ValueError(f"expected one array, or one that is called X; got {', '.join(names) or 'none'}")
    table = _of_array(archive[name])
    rows, columns = (list(map(str, archive[x])) if x in archive.files else None for x in ("rows", "columns"))
    return Table(table.X, rows, columns, table.image_shape)


def _read_market(path: Path) -> Table:
    from scipy.io import mmread

    matrix = mmread(path)
    return _of_sparse(matrix) if hasattr(matrix, "tocsr") else _of_array(np.asarray(matrix))


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
    X = np.array([_numbers(line[start:], number, width - start) for number, line in enumerate(body, 1 + header)])
    return Table(X, [line[0] for line in body] if named else None, columns)


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
    if any(_number(name) is None for name in names):
        return True
    if corner.strip():
        return _number(corner) is None and texts[:1] == [False]
    return any(texts) or (below != [] and (_counts(names) or _counts(below)))


def _counts(cells: list[str]) -> bool:
    return cells != [] and cells == [str(number) for number in range(len(cells))]


def _has_names(header: list[str] | None, body: list[list[str]]) -> bool:
    """Whether the first column has names: most are texts, the corner of the header is empty, or it has none."""
    width = len(body[0])
    if header is not None and width > 1:
        # With nothing in the last column either, every line merely ends in a separator.
        cornerless = len(header) == width - 1 and any(line[-1] for line in body)
        if header[0] == "" or cornerless:
            return True
    return 2 * sum(_number(line[0]) is None for line in body) > len(body)


def _numbers(cells: list[str], line: int, width: int) -> list[float]:
    if len(cells) != width:
        raise ValueError(f"line {line}: expected {width} numbers, as in the first; got {len(cells)}")
    values = [_number(cell) for cell in cells]
    if None in values:
        place = values.index(None)
        hint = "" if place else " (for a column of names leave the first cell of the header empty)"
        raise ValueError(f"line {line}: expected numbers; got {cells[place]!r}{hint}")
    return [x for x in values if x is not None]


def _number(cell: str) -> float | None:
    """NaN for an empty cell and for what programs write in the place of one; None for a text.

    Raises:
        ValueError: for a number that Python writes otherwise.
    """
    cell = cell.strip()
    if WITH_COMMAS.fullmatch(cell):
        raise ValueError(f"expected numbers such as 1234.5; got {cell!r} (with a decimal point, and no commas)")
    if cell.lower() in ("", "na", "nan", "null"):
        return np.nan
    try:
        return float(cell)
    except ValueError:
        return None
