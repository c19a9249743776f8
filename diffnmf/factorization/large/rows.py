"""The rows of a large matrix that one process works on, as tensors, some at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from diffnmf.factorization.large.blocks import Blocks

BLOCK_BYTES = 2**25  # of a block at the most: larger ones are no faster, and leave the cache sooner
# Blocks in memory at a time: the one that is worked on, the one that is read, that one as it is in the file, and what a
# step makes of the first.
HELD = 4
# What torch converts, several times faster than NumPy does.
CONVERTED = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


class Rows(ABC):
    """Rows of a matrix (N, F), of which a process has (count, F), divided by a scale.

    Attributes:
        count: rows of this process.
        width: F.
        dtype: that of the tensors.
        device: theirs.
    """

    count: int
    width: int
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def scaled(self, root: float) -> "Rows":
        """Divided by root²."""

    @abstractmethod
    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and they themselves (rows, F): only until the next ones are asked for."""

    def pick(self, numbers: list[int]) -> Tensor:
        """Some rows by their numbers, which ascend: (len(numbers), F)."""
        found = []
        wanted = torch.tensor(numbers, dtype=torch.int64, device="cpu")
        for rows, X in self.blocks():
            here = wanted[(wanted >= rows.start) & (wanted < rows.stop)] - rows.start
            if len(here):
                found.append(X[here.to(X.device)].clone())
        return torch.cat(found) if found else torch.empty(0, self.width, dtype=self.dtype, device=self.device)


class TensorRows(Rows):
    """Of a tensor (count, F) in memory."""

    def __init__(self, X: Tensor) -> None:
        self.X = X
        (self.count, self.width), self.dtype, self.device = X.shape, X.dtype, X.device
        row = max(1, self.width * X.element_size())
        self.size = max(1, BLOCK_BYTES // row) if X.device.type == "cpu" else max(1, self.count)

    def scaled(self, root: float) -> "TensorRows":
        return self if root == 1 else TensorRows(self.X / root / root)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.count, self.size):
            rows = slice(start, min(start + self.size, self.count))
            yield rows, self.X[rows]


class SourceRows(Rows):
    """Of a source; a thread reads the next block while the present one is worked on."""

    def __init__(self, blocks: Blocks, start: int, stop: int, size: int, root: float = 1.0) -> None:
        self.data, self.start, self.size, self.root = blocks, start, size, root
        self.source = blocks.source
        self.count, self.width, self.dtype, self.device = (
            stop - start,
            self.source.shape[1],
            blocks.dtype,
            blocks.device,
        )

    def scaled(self, root: float) -> "SourceRows":
        return SourceRows(self.data, self.start, self.start + self.count, self.size, self.root * root)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        pieces = [slice(i, min(i + self.size, self.count)) for i in range(0, self.count, self.size)]
        if not pieces:
            return
        longest = min(self.size, self.count)
        buffers = [torch.empty(longest, self.width, dtype=self.dtype, device="cpu") for _ in pieces[:2]]
        as_stored = _numpy_dtype(self.dtype) == self.source.dtype
        raw = None if as_stored else np.empty((longest, self.width), self.source.dtype)
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, pieces[0], buffers[0], raw)
            for number, piece in enumerate(pieces):
                block = coming.result()
                if number + 1 < len(pieces):
                    coming = reader.submit(self._read, pieces[number + 1], buffers[(number + 1) % 2], raw)
                yield piece, block.to(self.device)

    def _read(self, piece: slice, buffer: Tensor, raw: np.ndarray | None) -> Tensor:
        block = buffer[: piece.stop - piece.start]
        if raw is None:
            self.source.read(self.start + piece.start, block.numpy())
        else:
            part = raw[: len(block)]
            self.source.read(self.start + piece.start, part)
            if part.dtype.isnative and part.dtype.name in CONVERTED:
                block.copy_(torch.from_numpy(part))
            else:
                np.copyto(block.numpy(), part, casting="unsafe")
        return block if self.root == 1 else block.div_(self.root).div_(self.root)


def rows_per_block(blocks: Blocks, k: int, factors: int) -> int:
    """How many rows a block may have, so that blocks and factors of so many bytes keep within ``max_memory``.

    Raises:
        ValueError: not even blocks of one row do.
    """
    source = blocks.source
    item = torch.finfo(blocks.dtype).bits // 8
    row = source.shape[1] * max(item, source.dtype.itemsize) + 4 * k * item
    size = min(BLOCK_BYTES, (blocks.max_memory - factors) // HELD) // row
    if size < 1:
        raise ValueError(
            f"max_memory: expected at least {factors + HELD * row} bytes, for the factors and {HELD} blocks of a row;"
            f" got {blocks.max_memory} (raise it)"
        )
    return size


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    return np.dtype(str(dtype).removeprefix("torch."))
