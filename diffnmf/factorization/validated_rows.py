"""The samples of an estimator, as scikit-learn checks them and as the work on them needs it."""

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from diffnmf.checks import check_name
from diffnmf.factorization.sample_arrays import (
    MISSING,
    check_non_negative,
    check_range,
    dtype_of,
    matrix_of,
    not_sparse,
    unmasked,
)


def validated_rows(model: Any, X: Any, *, reset: bool) -> Any:
    """X (N, F) for ``model``, without gradient: a tensor, an array (memory-mapped where X is) or SciPy's sparse matrix.

    ``reset``: set what the model knows of the features, rather than compare with it.

    Raises:
        TypeError, ValueError: it is none of these, or holds what is not finite (a NaN is allowed with
            missing='ignore'), negative, or out of the range of the dtype of the model.
    """
    missing, dtype = check_name("missing", model.missing, MISSING), dtype_of(model.dtype)
    try:
        rows = _validated(model, X, allow_nan=missing == "ignore", reset=reset)
    except TypeError as error:
        if "float() argument" not in str(error):
            raise
        raise TypeError(f"X: expected numbers; {error} (use NaN, or for a data frame X.astype('Float64'))") from error
    except ValueError as error:
        if missing == "ignore" or "contains NaN" not in str(error):
            raise
        # scikit-learn would say that nothing but an imputer helps.
        cure = "missing='ignore' takes a NaN in a dense X for an entry that is not known"
        cure = f"with missing='unstored' leave it out of the sparse X; {cure}" if missing == "unstored" else cure
        raise ValueError(f"X: expected finite numbers; Input X contains NaN or infinity ({cure})") from error
    if isinstance(rows, Tensor):
        sparse = rows.layout != torch.strided
        entries = rows.values() if sparse else rows
    else:
        sparse = not isinstance(rows, np.ndarray)
        entries = rows.data if sparse else rows
    if sparse and missing == "ignore" and _has_nan(entries):
        raise ValueError("X: expected finite numbers in a sparse matrix; Input contains NaN (use a dense X)")
    if missing == "unstored" and not sparse:
        raise not_sparse("X")
    check_non_negative(entries)
    check_range(entries, dtype)
    return rows


def _validated(model: Any, X: Any, *, allow_nan: bool, reset: bool) -> Any:
    if isinstance(X, Tensor):
        rows = matrix_of(X, allow_nan=allow_nan)
        validate_data(model, X, reset=reset, skip_check_array=True)
        return rows
    checked = validate_data(
        model,
        unmasked(X),
        reset=reset,
        accept_sparse=("csr", "csc"),
        dtype=[np.float64, np.float32],
        ensure_all_finite="allow-nan" if allow_nan else True,
    )
    if not isinstance(checked, np.ndarray) and not checked.has_canonical_format:
        checked = checked.copy()  # what is the user's stays as it is
        checked.sum_duplicates()
    return checked


def _has_nan(entries: Any) -> bool:
    return bool((entries.isnan() if isinstance(entries, Tensor) else np.isnan(entries)).any())
