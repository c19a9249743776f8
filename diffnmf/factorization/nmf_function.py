"""``non_negative_factorization``: the function that scikit-learn has beside its estimator."""

from typing import Any

from diffnmf.checks import check_flag
from diffnmf.errors import warn_user
from diffnmf.factorization.estimator import NMF
from diffnmf.factorization.estimator_fit import checked_samples, fit, warn_of_far_weights
from diffnmf.factorization.large.blocks import refuse_blocks
from diffnmf.factorization.sample_arrays import in_kind


def non_negative_factorization(
    X: Any,
    W: Any = None,
    H: Any = None,
    n_components: int | str | None = "auto",
    *,
    update_H: bool = True,
    weights: Any = None,
    **options: Any,
) -> tuple[Any, Any, int]:
    """Factorise X ≈ W H: what ``NMF`` does, as a function.

    Parameters
    ----------
    X : array-like, sparse matrix or Tensor of shape (n_samples, n_features)
        Non-negative data.
    W : array-like or Tensor of shape (n_samples, n_components), default=None
        Where to start, with init='custom'.
    H : array-like or Tensor of shape (n_components, n_features), default=None
        Where to start, with init='custom'; the parts themselves with update_H=False.
    n_components : int, 'auto' or None, default='auto'
        As for ``NMF``.
    update_H : bool, default=True
        False: solve for W alone.
    weights : array-like or Tensor, default=None
        As for ``NMF.fit``.
    **options
        The other parameters of ``NMF``: init, solver, beta_loss, tol, max_iter, alpha_W, alpha_H, l1_ratio,
        random_state, verbose, shuffle, missing, n_init, fixed, device, dtype.

    Returns
    -------
    W : ndarray or Tensor of shape (n_samples, n_components)
        The exact weights for H.
    H : ndarray or Tensor of shape (n_components, n_features)
        The parts.
    n_iter : int
        Iterations run.

    Raises
    ------
    TypeError, ValueError
        When an argument is not as above; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from diffnmf import non_negative_factorization
    >>> X = np.array([[1, 1], [2, 1], [3, 1.2], [4, 1], [5, 0.8], [6, 1]])
    >>> W, H, n_iter = non_negative_factorization(X, n_components=2, init="random", random_state=0)
    >>> W.shape, H.shape
    ((6, 2), (2, 2))
    """
    refuse_blocks("X", X, "non_negative_factorization")
    model = NMF(n_components, **options)
    samples = checked_samples(model, X, weights, reset=True)
    found = fit(model, samples, W, H, update_H=check_flag("update_H", update_H))
    if found.complaint:
        warn_user(*found.complaint)
    warn_of_far_weights(samples, found.H, found.W)
    return in_kind(found.W.T, X), in_kind(found.H.T, X), found.iterations
