"""Where ``NMF`` starts: the names of scikit-learn and ours, factors of the user's own, or another model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from torch import Tensor

from diffnmf.checks import check_count, check_name
from diffnmf.errors import warn_user
from diffnmf.factorization.initialization import INITS
from diffnmf.factorization.multiplicative import MU
from diffnmf.factorization.sample_arrays import tensor_of

NNDSVD = ("nndsvd", "nndsvda", "nndsvdar")


@dataclass(frozen=True)
class Starts:
    """k, a name of ``INITS``, H (F, k) and W (k, N) where they are given, and the fixed columns of H (F, f)."""

    k: int
    init: str | None
    H: Tensor | None
    W: Tensor | None
    fixed: Tensor | None


def check_starts(model: Any, Y: Tensor, W: Any, H: Any, *, update_H: bool) -> Starts:
    """What ``model`` and the arguments of ``fit`` say about the start for Y = Xᵀ (F, N)."""
    features, count = Y.shape
    init = model.init
    fixed = None if model.fixed is None else _factor(model.fixed, Y, (None, features), "fixed", any_dtype=True).mT
    if not isinstance(init, str) and hasattr(init, "components_"):
        H, init = init.components_, "custom"
        H = tensor_of(H).to(Y.device, Y.dtype)
    elif isinstance(init, BaseEstimator):
        raise ValueError(
            f"init: expected a fitted NMF, or a name; got {init}, which is not fitted (clone, and so a grid search,"
            " forgets what was learnt: give FrozenEstimator(model) of sklearn.frozen)"
        )
    elif isinstance(init, np.ndarray | Tensor | list | tuple):
        raise TypeError(
            f"init: expected a name, or a fitted NMF; got {type(init).__name__} (give init='custom' with"
            " fit_transform(X, W=..., H=...))"
        )
    elif init is not None and init != "custom":
        check_name("init", init, (*INITS, "custom"))
    if not update_H:
        if W is not None:
            _ignored("When update_H=False, the provided initial W is not used.")
        if H is None:
            raise ValueError("H: expected the components (n_components, n_features) with update_H=False; got None")
        return _custom(model, Y, None, H, fixed, update_H=False)
    if init == "custom":
        if W is None and H is None:
            raise ValueError("init: expected W or H, or both, of fit with init='custom'; got neither (fit(X, H=...))")
        return _custom(model, Y, W, H, fixed)
    if W is not None or H is not None:
        _ignored("When init!='custom', provided W or H are ignored. Set  init='custom' to use them as initialization.")
    k = _count(model, features)
    init = _default_init(model, k, min(features, count)) if init is None else init
    _check_count(k, init, features, count)
    if init == "nndsvd" and _multiplies(model):
        warn_user(
            "The multiplicative update ('mu') solver cannot update zeros present in the initialization, and so leads to"
            " poorer results when used jointly with init='nndsvd'. You may try init='nndsvda' or init='nndsvdar'"
            " instead.",
            UserWarning,
        )
    return Starts(k, init, None, None, _not_more(fixed, k))


def _check_count(k: int, init: str | None, features: int, count: int) -> None:
    """Raise where ``init`` has no start with so many components."""
    if init in NNDSVD and k > min(features, count):
        raise ValueError(
            f"init = '{init}' can only be used when n_components <= min(n_samples, n_features); got n_components={k}"
            f" and X of shape {(count, features)}"
        )
    limits = {"spa": (count, "n_samples"), "merge": (max(features, count), "max(n_samples, n_features)")}
    most, what = limits.get(init or "", (k, ""))
    if k > most:
        raise ValueError(
            f"n_components: expected at most {what} = {most} with init={init!r}; got {k} (lower it, or use"
            " init='random')"
        )


def _not_more(fixed: Tensor | None, k: int) -> Tensor | None:
    """``fixed`` (F, f), where f is at most k."""
    if fixed is not None and fixed.shape[1] > k:
        raise ValueError(f"fixed: expected at most n_components = {k} rows; got {fixed.shape[1]} (raise n_components)")
    return fixed


def _multiplies(model: Any) -> bool:
    return isinstance(model.solver, MU) or (isinstance(model.solver, str) and model.solver == "mu")


def _default_init(model: Any, k: int, smallest: int) -> str | None:
    """Of init=None."""
    if model.n_init != 1 or getattr(model, "missing", None) == "unstored":
        return "random"
    if not _multiplies(model):
        return None
    return "nndsvda" if k <= smallest else "random"


def _count(model: Any, features: int) -> int:
    k = model.n_components
    if k is None or (isinstance(k, str) and k == "auto"):
        return features
    return check_count("n_components", k, at_least=1, alternative="None or 'auto' for all features")


def _custom(model: Any, Y: Tensor, W: Any, H: Any, fixed: Tensor | None, *, update_H: bool = True) -> Starts:
    features, count = Y.shape
    automatic = isinstance(model.n_components, str) and model.n_components == "auto"
    k = None if automatic else _count(model, features)
    any_dtype = model.dtype is not None  # X may have had another one
    # Penalties may have left nothing of H: then the weights are zero.
    H = None if H is None else _factor(H, Y, (k, features), "H", any_dtype=any_dtype, may_vanish=not update_H)
    W = None if W is None else _factor(W, Y, (count, k if H is None else H.shape[0]), "W", any_dtype=any_dtype)
    k = H.shape[0] if H is not None else W.shape[1] if W is not None else k
    assert k is not None
    return Starts(k, None, None if H is None else H.mT, None if W is None else W.mT, _not_more(fixed, k))


def _factor(
    value: Any,
    Y: Tensor,
    shape: tuple[int | None, int | None],
    name: str,
    *,
    any_dtype: bool,
    may_vanish: bool = False,
) -> Tensor:
    """A user's factor, in scikit-learn's shape and words."""
    try:
        array = value if isinstance(value, Tensor) else check_array(value, dtype="numeric", input_name=name)
    except (TypeError, ValueError) as error:  # which does not always say what it is about
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error
    factor = tensor_of(array).detach()
    whom = f"NMF (input {name})"
    if factor.ndim != 2:
        raise ValueError(f"{name}: expected a matrix; got shape {tuple(factor.shape)}")
    for side, expected, got in zip(("first", "second"), shape, factor.shape, strict=True):
        if expected is not None and expected != got:
            raise ValueError(
                f"Array with wrong {side} dimension passed to {whom}. {name}: expected {expected}, but got {got}."
            )
    if not any_dtype and factor.dtype != Y.dtype:
        both = "H and W" if name == "W" else "H"
        raise TypeError(
            f"{both} should have the same dtype as X. Got {name}.dtype = {factor.dtype} and X.dtype = {Y.dtype}."
        )
    if not bool(factor.isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers; Input contains NaN or infinity")
    if bool((factor < 0).any()):
        raise ValueError(f"Negative values in data passed to {whom}; {name}: expected entries ≥ 0")
    if not may_vanish and factor.numel() and float(factor.max()) == 0:
        raise ValueError(f"Array passed to {whom} is full of zeros; {name}: expected some entry > 0")
    return factor.to(Y.device, Y.dtype)


def _ignored(text: str) -> None:
    warn_user(text, RuntimeWarning)
