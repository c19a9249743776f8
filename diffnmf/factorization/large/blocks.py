"""``Blocks``: a matrix larger than memory."""

import os
from typing import Any

import numpy as np
import torch

from diffnmf.checks import check_number
from diffnmf.factorization.large.sources import Source, source_of

MAX_MEMORY = 2**30  # bytes


class Blocks:
    """A matrix larger than memory, for ``factorize`` and ``NMF``: a file, a folder of files, an array on disk.

    It is read in blocks of rows, pass after pass, the next block while the present one is worked on. What is stored as
    float16, integers or booleans is converted block by block.

    Arguments:
        data: a path of a .npy file (in C order), a .zarr array, an .h5 file with one matrix, or a folder of .npy
            shards, one below the other in the order of their names, part2 before part10; or a memory map, an array of
            zarr, a dataset of HDF5, or anything else with ``shape``, ``dtype`` and slices of rows.
        max_memory: bytes for blocks and factors together, a number > 0; what Python and torch need comes on top.
        device: where to compute, such as "cuda"; the factors are there, too.
        dtype: what is computed in, torch.float32 or torch.float64; None is float64 for float64 and integers of 32 bits
            or more, float32 for everything else.

    Attributes:
        shape: (rows, columns), as the data have it; of ``blocks.mT`` the other way round.

    Raises:
        TypeError, ValueError: the data are no such matrix; the message says what is wrong with them.

    Example:
        >>> import numpy as np
        >>> from diffnmf import NMF, Blocks
        >>> X = np.random.default_rng(0).random((1000, 3)) @ np.random.default_rng(1).random((3, 20))
        >>> blocks = Blocks(X, max_memory=1e6)  # or the path of a file
        >>> NMF(3, tol=1e-2).fit(blocks).components_.shape
        (3, 20)
    """

    def __init__(
        self,
        data: Any,
        *,
        max_memory: float = MAX_MEMORY,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.source: Source = source_of(data)
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"dtype: expected None, torch.float32 or torch.float64; got {dtype!r}")
        self.dtype = dtype or _dtype_for(self.source.dtype)
        self.device = torch.device(device)
        self.max_memory = int(check_number("max_memory", max_memory, "(0, inf)"))
        self.transposed = False

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.source.shape
        return (columns, rows) if self.transposed else (rows, columns)

    @property
    def ndim(self) -> int:
        return 2

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def mT(self) -> "Blocks":
        """Its transpose, which is read in the same way."""
        other = self.using()
        other.transposed = not self.transposed
        return other

    def using(self, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> "Blocks":
        """The same data, computed with in another way."""
        dtype, device = dtype or self.dtype, device or self.device
        return Blocks(self.source, max_memory=self.max_memory, dtype=dtype, device=device)

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"Blocks({rows} × {columns}, {self.source.dtype}, max_memory={self.max_memory})"


def refuse_blocks(name: str, X: Any, whom: str) -> None:
    """Raise TypeError where X is what only ``NMF`` and ``factorize`` read in blocks."""
    if isinstance(X, Blocks | str | os.PathLike):
        raise TypeError(
            f"{name}: expected a matrix in memory for {whom}; got {type(X).__name__} (NMF and factorize read in blocks;"
            " np.load(path, mmap_mode='r') is a matrix, too)"
        )


def _dtype_for(dtype: np.dtype) -> torch.dtype:
    wide = dtype.newbyteorder("=") == np.float64 or (dtype.kind in "iu" and dtype.itemsize >= 4)
    return torch.float64 if wide else torch.float32


def in_blocks(X: Any) -> Blocks | None:
    """What ``NMF`` reads in blocks: ``Blocks``, paths, arrays of zarr and HDF5, memory maps of more than a gigabyte."""
    if isinstance(X, Blocks):
        return X
    foreign = type(X).__module__.partition(".")[0] in ("zarr", "h5py")
    large = isinstance(X, np.memmap) and X.ndim == 2 and X.nbytes > MAX_MEMORY
    return Blocks(X) if foreign or large or isinstance(X, str | os.PathLike) else None
