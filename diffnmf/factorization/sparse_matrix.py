"""A sparse Y: its entries that are not zero, or known, by rows and by columns, so that products with it are fast."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import Any, Self

import torch
from torch import Tensor

from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.exact.chunks import max_entries

BLOCK = 2**21  # entries of gathered rows at a time, on the CPU


@dataclass(frozen=True)
class SparseMatrix:
    """A batch of one matrix (1, n, m), which looks like a tensor to the methods that only multiply with it.

    Attributes:
        rows: Y as (n, m) in torch's CSR layout.
        columns: Yᵀ as (m, n), likewise.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, Y: Tensor) -> Self:
        """From a tensor (n, m) in torch's CSR or CSC layout; what is stored twice is summed."""
        if Y.layout == torch.sparse_csr:
            rows = _summed(Y)
            return cls(rows, _transposed(rows))
        parts = Y.ccol_indices(), Y.row_indices(), Y.values()
        columns = _summed(csr_tensor(*parts, (Y.shape[1], Y.shape[0])))
        return cls(_transposed(columns), columns)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((1, *self.rows.shape))

    @property
    def ndim(self) -> int:
        return 3

    @property
    def dtype(self) -> torch.dtype:
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        return self.rows.device

    @property
    def mT(self) -> Self:
        return replace(self, rows=self.columns, columns=self.rows)

    @cached_property
    def values(self) -> Tensor:
        """The entries that are stored, (nnz,), row after row."""
        return self.rows.values()

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Row and column of each of them, (nnz,) each."""
        counts = self.rows.crow_indices().diff()
        rows = torch.arange(len(counts), device=self.device).repeat_interleave(counts)
        return rows, self.rows.col_indices()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: object) -> Self:
        """The whole: a batch of one has one part."""
        return self

    def element_size(self) -> int:
        return self.values.element_size()

    def left_multiplied(self, F: Tensor) -> Tensor:
        """F @ Y for F (1, k, n): (1, k, m)."""
        return (self.columns @ F[0].mT.contiguous()).mT.contiguous().unsqueeze(0)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """With its entries changed, one by one; what is zero stays zero."""
        rows, columns = (_with_values(x, change(x.values())) for x in (self.rows, self.columns))
        return replace(self, rows=rows, columns=columns)

    def columns_divided(self, by: Tensor) -> Self:
        """Column j divided by ``by[j]``, (m,)."""
        return replace(
            self,
            rows=_with_values(self.rows, self.values / by[self.places[1]]),
            columns=_with_values(self.columns, self.mT.values / by[self.mT.places[0]]),
        )

    def without_rows(self, kept: Tensor) -> Self:
        """Zero, though stored, in the rows that are not ``kept`` (n,) bool."""
        return replace(
            self,
            rows=_with_values(self.rows, torch.where(kept[self.places[0]], self.values, 0.0)),
            columns=_with_values(self.columns, torch.where(kept[self.mT.places[1]], self.mT.values, 0.0)),
        )

    def with_values(self, values: Tensor) -> Self:
        """Other entries (nnz,) in the same places. Only for products from the right: ``columns`` stay as they are."""
        return replace(self, rows=_with_values(self.rows, values))

    def sampled_product(self, F: Tensor, X: Tensor) -> Tensor:
        """The entries of FᵀX at the places of Y, (nnz,), for F (k, n) and X (k, m)."""
        rows, columns = self.places
        left, right = F.mT.contiguous(), X.mT.contiguous()
        found = torch.empty_like(self.values)
        most = BLOCK if looking_is_free(self.device) else max_entries(self.device)
        size = max(1, most // max(1, len(F)))
        for start in range(0, len(found), size):
            some = slice(start, start + size)
            torch.sum(left[rows[some]].mul_(right[columns[some]]), dim=1, out=found[some])
        return found

    def mean(self, dim: tuple[int, ...] = (), keepdim: bool = True) -> Tensor:
        """(1, 1, 1)."""
        n, m = self.rows.shape
        return (self.values.sum(dtype=torch.float64) / (n * m)).to(self.dtype).reshape(1, 1, 1)

    def to_dense(self) -> Tensor:
        """(1, n, m)."""
        return self.rows.to_dense().unsqueeze(0)


class ObservedMatrix(SparseMatrix):
    """The same where what is not stored is not known; a zero that is stored is a zero."""

    def less(self, F: Tensor, X: Tensor) -> Self:
        """What FᵀX, of F (k, n) and X (k, m), leaves of the known entries."""
        rows = _with_values(self.rows, self.values - self.sampled_product(F, X))
        columns = _with_values(self.columns, self.mT.values - self.mT.sampled_product(X, F))
        return replace(self, rows=rows, columns=columns)

    def known(self, dim: int) -> Tensor:
        """Whether anything is known of each row (dim 2), (1, n), or of each column (dim 1), (1, m)."""
        layout = self.rows if dim == 2 else self.columns
        return (layout.crow_indices().diff() > 0).unsqueeze(0)

    def mean(self, dim: tuple[int, ...] = (), keepdim: bool = True) -> Tensor:
        """(1, 1, 1), of what is known."""
        count = max(1, len(self.values))
        return (self.values.sum(dtype=torch.float64) / count).to(self.dtype).reshape(1, 1, 1)


Matrix = Tensor | SparseMatrix


def multiply(F: Tensor, Y: Matrix) -> Tensor:
    """F @ Y: (B, k, n) and (B, n, m) to (B, k, m)."""
    return Y.left_multiplied(F) if isinstance(Y, SparseMatrix) else F @ Y


def batch_of_one(Y: Tensor, *, observed: bool = False) -> Matrix:
    """(n, m), dense or in torch's CSR or CSC layout, to (1, n, m); if ``observed``, what is not stored is not known."""
    if Y.layout == torch.strided:
        return Y.unsqueeze(0)
    return ObservedMatrix.of(Y) if observed else SparseMatrix.of(Y)


def stored_entries(Y: Tensor) -> Tensor:
    """All entries of a dense tensor, or those that a sparse one stores."""
    return Y if Y.layout == torch.strided else Y.values()


def in_units(Y: Matrix, root: Tensor | float) -> Matrix:
    """Y / root², in two steps, since the square may be out of range: of all problems, or of each, (B, 1, 1)."""
    if isinstance(Y, SparseMatrix):
        of_one = root.flatten() if isinstance(root, Tensor) else root
        return Y.map(lambda values: values / of_one / of_one)
    return Y / root / root


def largest_of_columns(Y: Matrix) -> Tensor:
    """The largest entry of every column of one matrix (1, n, m) ≥ 0: (m,)."""
    if isinstance(Y, Tensor):
        return Y.amax((0, 1))
    largest = Y.values.new_zeros(Y.shape[2])
    return largest.scatter_reduce_(0, Y.places[1], Y.values, "amax")


def _summed(csr: Tensor) -> Tensor:
    """With every place stored once."""
    if csr.device.type != "cpu":
        return summed_by_torch(csr)
    from scipy.sparse import csr_array

    matrix = csr_array(_arrays_of(csr), shape=tuple(csr.shape))
    if matrix.has_canonical_format:
        return csr
    matrix = matrix.copy()  # what is the user's stays as it is
    matrix.sum_duplicates()
    pointers, places = (torch.from_numpy(x.astype("int64")) for x in (matrix.indptr, matrix.indices))
    return csr_tensor(pointers, places, torch.from_numpy(matrix.data), tuple(csr.shape))


def summed_by_torch(csr: Tensor) -> Tensor:
    """With every place stored once, on whatever device."""
    rows = torch.arange(len(csr), device=csr.device).repeat_interleave(csr.crow_indices().diff())
    places = torch.stack((rows, csr.col_indices()))
    if bool(((places[0] * csr.shape[1] + places[1]).diff() > 0).all()):
        return csr
    _hear_torch_out()
    coo = torch.sparse_coo_tensor(places, csr.values(), csr.shape, device=csr.device, check_invariants=False)
    found = coo.coalesce().to_sparse_csr()
    return csr_tensor(found.crow_indices(), found.col_indices(), found.values(), tuple(csr.shape))


def _arrays_of(csr: Tensor) -> tuple[Any, Any, Any]:
    """The parts of a tensor as SciPy takes them."""
    return csr.values().numpy(), csr.col_indices().numpy(), csr.crow_indices().numpy()


def _transposed(csr: Tensor) -> Tensor:
    """In the CSR layout again."""
    n, m = csr.shape
    if csr.device.type != "cpu":
        csc = csr.to_sparse_csc()
        return csr_tensor(csc.ccol_indices(), csc.row_indices(), csc.values(), (m, n))
    from scipy.sparse import csr_array  # its conversion takes a fifth of the time of torch's

    csc = csr_array(_arrays_of(csr), shape=(n, m)).tocsc()
    pointers, places = (torch.from_numpy(x.astype("int64")) for x in (csc.indptr, csc.indices))
    return csr_tensor(pointers, places, torch.from_numpy(csc.data), (m, n))


def _with_values(csr: Tensor, values: Tensor) -> Tensor:
    return csr_tensor(csr.crow_indices(), csr.col_indices(), values, csr.shape)


def csr_tensor(pointers: Tensor, places: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``torch.sparse_csr_tensor``, without its warning, where its parts are, whatever the default device is."""
    _hear_torch_out()
    return torch.sparse_csr_tensor(pointers, places, values, shape, device=values.device, check_invariants=False)


def csc_tensor(pointers: Tensor, places: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """As ``csr_tensor``, in the CSC layout."""
    _hear_torch_out()
    return torch.sparse_csc_tensor(pointers, places, values, shape, device=values.device, check_invariants=False)


def _hear_torch_out() -> None:
    """Let torch say, once in a process as it does, that such tensors are new.

    Not a filter around every call: filters are those of all threads.
    """
    global _heard
    with _hearing:
        if not _heard:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.eye(1, device="cpu").to_sparse_csr()
            _heard = True


_heard, _hearing = False, Lock()
