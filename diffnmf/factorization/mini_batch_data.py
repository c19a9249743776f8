"""The data of ``MiniBatchNMF``: a matrix of which some rows at a time are taken, or a stream of batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnmf.factorization.large.blocks import refuse_blocks
from diffnmf.factorization.sample_arrays import (
    Samples,
    device_of,
    dtype_of,
    entry_weights,
    first_of,
    refuse_stream,
    tensor_of_rows,
)
from diffnmf.factorization.validated_rows import validated_rows

KINDS = "a matrix (n_samples, n_features), or batches of rows: an iterator, a DataLoader or a list of matrices"


@dataclass(frozen=True)
class Rows:
    """A checked X (N, n) where it is, of which batches go where the work is done.

    Attributes:
        data: an array (a memory-mapped one, too), a dense tensor, or a CSR matrix of SciPy.
        device: where the work is done.
        dtype: float32 or float64, in which it is done.
        missing: one of ``MISSING``.
        home: the device of the user's tensor, to which results go back; None where they become arrays.
    """

    data: Any
    device: torch.device
    dtype: torch.dtype
    missing: str = "error"
    home: torch.device | None = None

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def features(self) -> int:
        return int(self.data.shape[1])

    def take(self, some: slice | np.ndarray) -> Samples:
        """Rows as columns: Y (n, b)."""
        rows = tensor_of_rows(self.data[some]).to(device=self.device, dtype=self.dtype)
        V = entry_weights(None, rows, missing=self.missing == "ignore")
        return Samples(rows.mT, None if V is None else V.mT, self.missing == "unstored")

    def batches(self, size: int) -> Iterator[Samples]:
        """All rows in order, so many at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, min(start + size, len(self))))

    def returned(self, result: Tensor) -> Any:
        """A result as the user wants it: a tensor where X was one, otherwise an array."""
        result = result.contiguous()
        return result.cpu().numpy() if self.home is None else result.to(self.home)

    def has_entries(self) -> bool:
        """Whether an entry is not zero."""
        entries = self.data if isinstance(self.data, Tensor | np.ndarray) else self.data.data
        return bool((entries > 0).any())  # which NaN is not

    def has_zeros(self) -> bool:
        if isinstance(self.data, Tensor | np.ndarray):
            return bool((self.data == 0).any())
        return int((self.data.data > 0).sum()) < len(self) * self.features


def checked_rows(model: Any, X: Any, *, reset: bool) -> Rows:
    """X as ``model`` can work on it: an array, a data frame, a sparse matrix of SciPy or torch, a dense tensor.

    Raises:
        TypeError, ValueError: it is something else, or holds what is not finite or negative.
    """
    refuse_blocks("X", X, "MiniBatchNMF")
    device, dtype = device_of(model.device), dtype_of(model.dtype)
    if not isinstance(X, Tensor | Sequence):
        refuse_stream(X, "give batch by batch, of a mapping the entry that is the matrix")
    data = validated_rows(model, X, reset=reset)
    if isinstance(data, Tensor):
        dtype = dtype or data.dtype
        data = data if data.layout == torch.strided else _scipy_of(data)
        return Rows(data, device or X.device, dtype, model.missing, X.device)
    data = data if isinstance(data, np.ndarray) else data.tocsr()
    dtype = dtype or dtype_of(data.dtype)
    assert dtype is not None
    return Rows(data, device or torch.device("cpu"), dtype, model.missing)


def rows_of_batch(batch: Any) -> Any:
    """The matrix of a batch: the first of several things, such as images and labels; (b, ...) becomes (b, n)."""
    if getattr(first_of(batch), "ndim", 0) >= 2:
        batch = first_of(batch)
    if isinstance(batch, Tensor | np.ndarray) and batch.ndim > 2:
        return batch.reshape(len(batch), -1)
    return batch


def _scipy_of(rows: Tensor) -> Any:
    """A sparse tensor as a CSR matrix of SciPy, which has slices."""
    from scipy.sparse import csc_array, csr_array

    rows = rows.cpu()
    if rows.layout == torch.sparse_csr:
        parts = (rows.values().numpy(), rows.col_indices().numpy(), rows.crow_indices().numpy())
        return csr_array(parts, shape=tuple(rows.shape))
    parts = (rows.values().numpy(), rows.row_indices().numpy(), rows.ccol_indices().numpy())
    return csc_array(parts, shape=tuple(rows.shape)).tocsr()
