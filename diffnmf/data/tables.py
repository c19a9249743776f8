"""A table of samples from a file: numbers, and the names of rows and columns where the file has them."""

import numbers
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffnmf.data.text_tables import read_text
from diffnmf.data.user_images import load_images, names_of_images
from diffnmf.files import from_home

ENDINGS = (".npy", ".npz", ".csv", ".tsv", ".mtx", ".parquet")


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
    path = from_home(path)
    if not path.exists():
        raise ValueError(f"data: expected a folder of images, or a file; {path} does not exist")
    if path.is_dir():
        images = load_images(path, resize=resize).images.numpy()
        # Those with more than 8 bits come as [0, 1].
        return _images(images if images.dtype == np.uint8 else 255 * images, names_of_images(path))
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
    X = matrix.tocsr().astype(np.float64)
    X.sum_duplicates()  # several of one place add up: their squares do not
    return Table(X)


def _check_real(dtype: np.dtype) -> None:
    if dtype.kind not in "fiub":
        raise ValueError(f"expected real numbers; got dtype {dtype}")


def _read_numpy(path: Path) -> Table:
    """An array or an archive, whichever the file is: NumPy does not go by the name either."""
    # Opened here, not by NumPy, which leaves the files open that turn out to be damaged.
    with path.open("rb") as stream:
        try:
            loaded = np.load(stream, allow_pickle=False)
        except ValueError as error:  # what is pickled, or no array at all
            raise ValueError(f"expected an array of numbers; {error} (save it anew, without Python objects)") from error
        return _of_array(loaded) if isinstance(loaded, np.ndarray) else _of_archive(loaded, path)


def _of_archive(archive: Any, path: Path) -> Table:
    names = [name for name in archive.files if name not in ("rows", "columns", "labels")]
    if {"format", "data", "shape"} <= set(names):  # as SciPy saves a sparse matrix of any kind
        from scipy.sparse import load_npz

        return _of_sparse(load_npz(path))
    name = names[0] if len(names) == 1 else next((x for x in ("X", "images") if x in names), None)
    if name is None:
        raise ValueError(
            f"expected one array, or one that is called X; got {', '.join(names) or 'none'} (numpy.savez(file, X=...))"
        )
    table = _of_array(archive[name])
    rows, columns = (_names(archive[x]) if x in archive.files else None for x in ("rows", "columns"))
    return Table(table.X, rows, columns, table.image_shape)


def _names(array: np.ndarray) -> list[str]:
    return list(map(str, np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array))


def _read_market(path: Path) -> Table:
    from scipy.io import mmread

    with warnings.catch_warnings():  # either kind of sparse matrix will do
        warnings.filterwarnings("ignore", "The default value for `spmatrix`", DeprecationWarning)
        matrix = mmread(path)
    return _of_sparse(matrix) if hasattr(matrix, "tocsr") else _of_array(np.asarray(matrix))


def _read_text(path: Path) -> Table:
    return Table(*read_text(path))


def _read_parquet(path: Path) -> Table:
    try:
        import pandas

        frame = pandas.read_parquet(path)
    except ImportError as error:  # pandas itself, or what it reads such files with
        raise ImportError("pandas and pyarrow are needed for .parquet: pip install pandas pyarrow") from error
    is_numeric = pandas.api.types.is_numeric_dtype
    texts = [name for name in frame.columns if not is_numeric(frame[name])]
    if len(texts) > 1:
        raise ValueError(f"expected at most one column that is no number, the names; got {', '.join(map(str, texts))}")
    if texts and any(isinstance(entry, numbers.Number) for entry in frame[texts[0]].dropna()):
        raise ValueError(f"expected columns of floats or ints; {texts[0]} is of others, or mixed (use .astype(float))")
    rows = frame[texts[0]] if texts else None if is_numeric(frame.index) else frame.index
    rest = frame.drop(columns=texts)
    names = None if rows is None else list(map(str, rows))
    return Table(rest.to_numpy(dtype=np.float64), names, list(map(str, rest.columns)))
