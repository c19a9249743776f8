"""Between what users of the estimator hold (arrays, data frames, tensors) and the tensors that the work is done on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from diffnmf.checks import REAL_DTYPES, check_expands, check_name
from diffnmf.factorization.entry_weights import checked_weights
from diffnmf.factorization.sparse_matrix import csc_tensor, csr_tensor, stored_entries

MISSING = ("error", "ignore", "unstored")  # what entries that are not known are: none; NaN; those not stored


@dataclass(frozen=True)
class Samples:
    """X as the work is done on it.

    Attributes:
        Y: (F, N), Xᵀ, dense or in torch's CSC layout; NaN where nothing is known.
        weights: (F, N), or None where every entry counts once.
        observed: whether Y is sparse, and known only where it stores something.
    """

    Y: Tensor
    weights: Tensor | None = None
    observed: bool = False

    @property
    def partial(self) -> bool:
        """Whether some entries are not known, or count less."""
        return self.observed or self.weights is not None

    def to(self, like: Tensor) -> "Samples":
        """On the device and in the dtype of ``like``."""
        return Samples(self.Y.to(like), None if self.weights is None else self.weights.to(like), self.observed)


def tensor_of(array: np.ndarray | Tensor) -> Tensor:
    """The same memory as a tensor; a copy where torch could not use the memory, such as that of a read-only file."""
    if isinstance(array, Tensor):
        return array
    array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    # A row alone of an array that is read backwards counts as contiguous, whatever its stride.
    usable = array.flags.writeable and array.flags.forc and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if usable else array.copy())


def unmasked(data: Any) -> Any:
    """A masked array of NumPy with NaN where it is masked: what stands there is not known. Anything else as it is."""
    if not isinstance(data, np.ma.MaskedArray):
        return data
    if not np.ma.is_masked(data):
        return data.data
    return np.ma.filled(data if data.dtype.kind == "f" else data.astype(np.float64), np.nan)


def columns_of(name: str, data: Any, *, missing: str = "error", sparse: bool = False) -> Tensor:
    """A tensor as it is; of an array or a data frame (N, F), with a sample in each row, the transpose (F, N).

    If ``sparse``, of a sparse matrix of SciPy, too. ``missing``: one of ``MISSING``.

    Raises:
        TypeError, ValueError: it is no matrix of numbers, or not of the layout that ``missing`` asks for; the message
            names the argument.
    """
    missing = check_name("missing", missing, MISSING)
    columns = data if isinstance(data, Tensor) else _columns_of_array(name, data, missing == "ignore", sparse)
    if missing == "unstored" and columns.layout == torch.strided:
        raise not_sparse(name)
    compressed = columns.layout in (torch.sparse_csr, torch.sparse_csc)
    if missing == "ignore" and compressed and bool(columns.values().isnan().any()):
        raise ValueError(f"{name}: expected finite numbers in a sparse matrix; got NaN (use a dense {name})")
    return columns


def _columns_of_array(name: str, data: Any, allow_nan: bool, sparse: bool) -> Tensor:
    from sklearn.utils import check_array  # takes a second, and tensors need nothing of it

    checked = check_array(
        unmasked(data),
        dtype=[np.float64, np.float32],
        ensure_all_finite="allow-nan" if allow_nan else True,
        input_name=name,
        accept_sparse=("csr", "csc") if sparse else False,
    )
    return tensor_of_rows(checked).mT


def tensor_of_rows(rows: Any) -> Tensor:
    """Of an array or a sparse matrix of SciPy; a tensor as it is."""
    return tensor_of(rows) if isinstance(rows, Tensor | np.ndarray) else sparse_tensor_of(rows)


def not_sparse(name: str) -> ValueError:
    """The error for a dense matrix of which what is not stored is to be missing."""
    return ValueError(
        f"{name}: expected a sparse matrix with missing='unstored'; got a dense one (use 'ignore', and NaN)"
    )


def loss_of_unstored(model: Any) -> ValueError:
    """The error for another loss than the squared error over what a sparse matrix stores."""
    return ValueError(
        f"beta_loss: expected 'frobenius' with missing='unstored'; got {model.beta_loss!r} (use a dense X with NaN)"
    )


def in_kind(result: Tensor, X: object) -> Any:
    """A result as its user wants it: a tensor on the device of X where X is one, otherwise an array."""
    result = result.contiguous()
    return result.to(X.device) if isinstance(X, Tensor) else array_of(result)


def array_of(x: Tensor) -> np.ndarray:
    """The numbers of a tensor as an array, without gradient; NumPy has no bfloat16, of which float32 is made."""
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def sparse_tensor_of(matrix: Any) -> Tensor:
    """A sparse matrix of SciPy in torch's CSR or CSC layout, without duplicates."""
    matrix = matrix if matrix.has_canonical_format else matrix.copy()
    matrix.sum_duplicates()
    make = csr_tensor if matrix.format == "csr" else csc_tensor
    pointers, places = (torch.from_numpy(x.astype(np.int64)) for x in (matrix.indptr, matrix.indices))
    return make(pointers, places, torch.from_numpy(matrix.data.copy()), matrix.shape)


def entry_weights(weights: Any, X: Tensor, *, missing: bool) -> Tensor | None:
    """How much every entry of X (N, F) counts, (N, F): 0 where it is NaN. None where each counts once."""
    unknown = missing and X.layout == torch.strided and bool(X.isnan().any())
    if weights is None:
        return (~X.isnan()).to(X.dtype) if unknown else None
    if X.layout != torch.strided:
        raise ValueError("weights: expected None for a sparse X; got weights (use X.toarray())")
    if weights.is_complex() if isinstance(weights, Tensor) else np.iscomplexobj(weights):
        raise TypeError("weights: expected real numbers; got complex ones (use abs, or the real part)")
    V = (weights.detach() if isinstance(weights, Tensor) else _numbers("weights", weights)).to(X.device)
    V = checked_weights(V.unsqueeze(1) if V.ndim == 1 else V, X.dtype)
    V = check_expands("weights", V, X.shape, "(n_samples, n_features)", "(n_samples,) weighs the samples")
    return torch.where(X.isnan(), 0.0, V) if unknown else V


def check_order(weights: Any, X: Any) -> None:
    """Raise ValueError where a series or a data frame of pandas has the labels of X in another order: rows are not
    matched by them.
    """
    if not (hasattr(weights, "iloc") and hasattr(X, "iloc")):
        return
    for side in ("index", "columns"):
        labels, expected = getattr(weights, side, None), getattr(X, side)
        if labels is not None and not labels.equals(expected) and set(labels) == set(expected):
            raise ValueError(
                f"weights: expected the {side} of X, {list(expected[:3])} and so on, in its order; got"
                f" {list(labels[:3])} (use weights.reindex({side}=X.{side}))"
            )


def _numbers(name: str, values: Any) -> Tensor:
    """Of a list, an array in whatever memory, a series or a data frame: float64, in memory of its own."""
    try:
        return torch.from_numpy(np.array(unmasked(values), dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers; got {type(values).__name__} ({error})") from error


def dtype_of(dtype: Any) -> torch.dtype | None:
    """A user's dtype, of torch or by the name that NumPy has for it, too.

    Raises:
        ValueError: it is neither float32 nor float64.
    """
    if dtype is None:
        return None
    try:
        name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else np.dtype(dtype).name
    except TypeError:  # of no dtype that NumPy knows
        name = ""
    known = {"float32": torch.float32, "float64": torch.float64}
    if name not in known:
        raise ValueError(f"dtype: expected None, 'float32' or 'float64'; got {dtype!r}")
    return known[name]


def matrix_of(X: Tensor, *, allow_nan: bool = False) -> Tensor:
    """A user's tensor without its gradient, at least float32; integers become floating point.

    Raises:
        TypeError: it is of a layout that is not worked on.
        ValueError: it is complex, no matrix, has no entries, or holds NaN (unless ``allow_nan``) or infinity.
    """
    if X.is_nested:
        raise TypeError("X: expected a dense tensor; got a nested one (use torch.nested.to_padded_tensor, or a loop)")
    if X.layout not in (torch.strided, torch.sparse_csr, torch.sparse_csc):
        raise TypeError(
            f"X: expected a dense tensor, or one of layout torch.sparse_csr; got one of layout {X.layout}"
            " (use X.to_sparse_csr() or X.to_dense())"
        )
    if X.is_complex():
        raise ValueError(f"X: Complex data not supported; expected real numbers, got {X.dtype} (use X.abs())")
    if X.is_quantized or (X.is_floating_point() and X.dtype not in REAL_DTYPES):
        use = "X.dequantize()" if X.is_quantized else "X.to(torch.float32)"
        raise TypeError(f"X: expected a dtype that can be computed in; got {X.dtype} (use {use})")
    if X.device.type == "meta":
        raise ValueError("X: expected a tensor that holds numbers; got one on the meta device")
    if X.ndim != 2:
        raise ValueError(
            f"X: Expected 2D array, one row per sample; got {tuple(X.shape)} (use X[None] or X.flatten(1))"
        )
    for size, what in zip(X.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise ValueError(f"X: expected at least one {what}; Found array with 0 {what}(s), shape {tuple(X.shape)}")
    X = X.detach()
    X = X.to(torch.promote_types(X.dtype, torch.float32)) if X.is_floating_point() else X.to(torch.get_default_dtype())
    entries = stored_entries(X)
    if not bool((entries.isfinite() | entries.isnan() if allow_nan else entries.isfinite()).all()):
        raise ValueError("X: expected finite numbers; Input contains NaN or infinity (leave those rows out or impute)")
    return X


def is_stream(X: Any) -> bool:
    """Whether X brings batches of rows, one after the other, rather than being a matrix."""
    if isinstance(X, list | tuple):  # of rows of numbers: a matrix
        return len(X) > 0 and (getattr(first_of(X[0]), "ndim", 0) >= 2 or isinstance(X[0], Mapping))
    matrix = any(hasattr(X, name) for name in ("shape", "__array__", "__array_interface__", "__dataframe__"))
    return not matrix and not isinstance(X, str | bytes | dict) and isinstance(X, Iterable)


def refuse_stream(X: Any, instead: str) -> None:
    """Raise TypeError for what brings rows one by one, or by names, in the place of a matrix."""
    if is_stream(X) or (isinstance(X, Mapping | Dataset) and not hasattr(X, "shape")):  # SciPy's DOK is a mapping, too
        raise TypeError(f"X: expected a matrix (n_samples, n_features); got {type(X).__name__} ({instead})")


def first_of(batch: Any) -> Any:
    """The first of several things; anything else as it is."""
    return batch[0] if isinstance(batch, list | tuple) and len(batch) > 0 else batch


def check_non_negative(entries: Any) -> None:
    """Raise ValueError, in scikit-learn's words, when one of the entries, a tensor or an array, is negative."""
    if 0 in entries.shape:
        return
    smallest = float(entries.nan_to_num(0.0).min() if isinstance(entries, Tensor) else np.fmin.reduce(entries, None))
    if smallest < 0:
        raise ValueError(
            f"Negative values in data passed to NMF; X: expected entries ≥ 0, got {smallest:.3g} (clip or shift them)"
        )


def check_range(entries: Any, dtype: torch.dtype | None) -> None:
    """Raise ValueError where the largest of the entries, a tensor or an array ≥ 0, is no number in ``dtype``."""
    if dtype is None or len(entries) == 0:
        return
    largest = float(entries.nan_to_num(0.0).max() if isinstance(entries, Tensor) else np.fmax.reduce(entries, None))
    limits = torch.finfo(dtype)
    if largest > limits.max or 0 < largest < limits.tiny:
        raise ValueError(
            f"X: expected numbers in the range of dtype {dtype}; the largest is {largest:.1e} (leave dtype out, or"
            " take X in other units)"
        )


def device_of(device: Any) -> torch.device | None:
    """A user's device, checked.

    Raises:
        ValueError: there is no such device.
    """
    try:
        found = None if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected None or a device such as 'cpu' or 'cuda'; got {device!r}") from error
    if found is not None and found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: torch sees {torch.cuda.device_count()} CUDA devices; got {device!r} (use 'cpu')")
    return found
