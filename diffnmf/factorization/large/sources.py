"""Where the rows of a large matrix come from: a file, a folder of files, an array that is read when it is asked for."""

import os
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffnmf.files import from_home

KINDS = "fiub"  # of dtypes: floating point, integers, booleans


class Source(ABC):
    """A matrix (N, F) that is read row after row.

    Attributes:
        shape: (N, F).
        dtype: of the entries where they are.
    """

    shape: tuple[int, int]
    dtype: np.dtype

    @abstractmethod
    def read(self, start: int, out: np.ndarray) -> None:
        """Fill ``out`` (rows, F), of ``dtype`` and contiguous, with the rows from ``start`` on."""


class NpyFile(Source):
    """A .npy file, read into memory of the reader: pages of a memory map would count as memory of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: expected a .npy file with a matrix; {error}") from error
        self.shape, self.dtype = _checked(mapped.shape, mapped.dtype, str(path))
        if not mapped.flags.c_contiguous:
            raise ValueError(
                f"{path}: expected an array in C order, whose rows can be read one after the other; got Fortran order"
                " (save np.ascontiguousarray(X))"
            )
        self.offset = int(mapped.offset)
        self.size = path.stat().st_size

    def read(self, start: int, out: np.ndarray) -> None:
        row = self.shape[1] * self.dtype.itemsize
        view = memoryview(out.reshape(-1).view(np.uint8).data)
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(self.offset + start * row)
            done = 0
            while done < len(view):
                got = stream.readinto(view[done:])
                if not got:
                    raise OSError(f"{self.path}: the file has become shorter while it was read")
                done += got


class ArrayLike(Source):
    """Anything with shape, dtype and slices of rows: an array, a memory map, a dataset of HDF5, an array of zarr."""

    def __init__(self, array: Any, name: str) -> None:
        self.array = array
        self.shape, self.dtype = _checked(tuple(array.shape), np.dtype(array.dtype), name)

    def read(self, start: int, out: np.ndarray) -> None:
        out[...] = np.asarray(self.array[start : start + len(out)])


class Shards(Source):
    """Several sources of equal width, one below the other."""

    def __init__(self, parts: list[Source], name: str) -> None:
        widths, dtypes = {x.shape[1] for x in parts}, {x.dtype for x in parts}
        if len(widths) != 1 or len(dtypes) != 1:
            kinds = ", ".join(sorted({f"{x.shape[1]} × {x.dtype}" for x in parts}))
            raise ValueError(f"{name}: expected shards of one width and dtype; got {kinds}")
        self.parts = parts
        self.starts = np.cumsum([0, *(x.shape[0] for x in parts)]).tolist()
        self.shape, self.dtype = (self.starts[-1], widths.pop()), dtypes.pop()

    def read(self, start: int, out: np.ndarray) -> None:
        done = 0
        while done < len(out):
            number = bisect_right(self.starts, start + done) - 1
            count = min(len(out) - done, self.starts[number + 1] - start - done)
            self.parts[number].read(start + done - self.starts[number], out[done : done + count])
            done += count


def source_of(data: Any) -> Source:
    """The rows of what a user holds.

    Arguments:
        data: a path of a .npy file, a zarr array (.zarr), an HDF5 file (.h5, .hdf5) with one matrix, or a folder of
            .npy shards, which are read in the order of their names, part2 before part10; a memory map, an array, a
            dataset of HDF5, an array of zarr, or anything else with shape, dtype and slices of rows.

    Raises:
        TypeError: it is nothing of this kind.
        ValueError: it is no matrix of numbers, or the file cannot be read; the message names it.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | os.PathLike):
        return _source_of_path(from_home(data))
    if isinstance(data, np.memmap) and data.filename is not None and _is_whole(data):
        return NpyFile(Path(data.filename))
    # Their rows are no arrays.
    foreign = isinstance(data, torch.Tensor) or type(data).__module__.startswith("scipy.sparse")
    if not foreign and all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
        return ArrayLike(data, "data")
    raise TypeError(
        "data: expected a path, or something with shape, dtype and slices of rows (a memory map, an array of zarr, a"
        f" dataset of HDF5); got {type(data).__name__}{' (give the matrix itself, without Blocks)' if foreign else ''}"
    )


def _source_of_path(path: Path) -> Source:
    if not path.exists():
        raise ValueError(f"data: expected a file or a folder; {path} does not exist")
    suffix = path.suffix.lower()
    if suffix == ".zarr":
        import zarr

        array = zarr.open(str(path), mode="r")
        if not hasattr(array, "dtype"):
            raise ValueError(f"{path}: expected an array of zarr; got a group (pass one of its arrays)")
        return ArrayLike(array, str(path))
    if suffix in (".h5", ".hdf5"):
        return _source_of_hdf5(path)
    if path.is_dir():
        shards = sorted(path.glob("*.npy"), key=_in_order)
        if not shards:
            raise ValueError(f"{path}: expected a folder with .npy files; found none")
        return Shards([NpyFile(shard) for shard in shards], str(path))
    if suffix != ".npy":
        raise ValueError(
            f"{path}: expected a .npy, .zarr, .h5 or .hdf5 file, or a folder of .npy files; "
            f"got {suffix or 'none of them'} (save it as one)"
        )
    return NpyFile(path)


def _in_order(shard: Path) -> list[tuple[bool, int, str]]:
    """By name, numbers in it as numbers: part2 before part10."""
    parts = re.split(r"(\d+)", shard.name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _source_of_hdf5(path: Path) -> Source:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: expected a file of HDF5; {error}") from error
    matrices = [name for name, entry in file.items() if isinstance(entry, h5py.Dataset) and entry.ndim == 2]
    if len(matrices) != 1:
        file.close()
        raise ValueError(
            f"{path}: expected a file with one matrix; got {', '.join(matrices) or 'none'} (pass the dataset itself)"
        )
    return ArrayLike(file[matrices[0]], str(path))


def _is_whole(mapped: np.memmap) -> bool:
    """Whether a memory map is a .npy file as it is, rather than a part of one, or raw bytes."""
    try:
        whole = np.load(str(mapped.filename), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    same = whole.shape == mapped.shape and whole.dtype == mapped.dtype and whole.offset == mapped.offset
    return bool(same and mapped.flags.c_contiguous and whole.flags.c_contiguous)


def _checked(shape: tuple[int, ...], dtype: np.dtype, name: str) -> tuple[tuple[int, int], np.dtype]:
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{name}: expected a matrix (N, F) with N and F ≥ 1; got shape {tuple(shape)}")
    if dtype.kind not in KINDS:
        raise ValueError(f"{name}: expected real numbers; got dtype {dtype}")
    return (int(shape[0]), int(shape[1])), dtype
