"""NMF as an estimator of scikit-learn: rows of X are samples, so X = Yᵀ.

Imported only when ``diffnmf.NMF`` is asked for, because it needs scikit-learn.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from diffnmf.errors import warn_user
from diffnmf.factorization.base import Method
from diffnmf.factorization.estimator_fit import Fit, checked_samples, fit, fitted_weights, warn_of_far_weights
from diffnmf.factorization.fitted_parts import FittedParts
from diffnmf.factorization.large.blocks import in_blocks
from diffnmf.factorization.large.samples import fit_blocks, transform_blocks
from diffnmf.factorization.sample_arrays import in_kind, tensor_of

__all__ = ["NMF"]


class NMF(FittedParts):
    """Non-negative matrix factorisation X ≈ W H, samples in rows: ``sklearn.decomposition.NMF``, and more.

    The parameters that scikit-learn has, too, come first, and mean what they mean there. It minimises, over
    non-negative W (n_samples, n_components) and H = ``components_``,

        0.5 * ||X - W H||_F^2
            + alpha_W * l1_ratio * n_features * sum(W) + 0.5 * alpha_W * (1 - l1_ratio) * n_features * ||W||_F^2
            + alpha_H * l1_ratio * n_samples * sum(H)  + 0.5 * alpha_H * (1 - l1_ratio) * n_samples * ||H||_F^2

    or with ``beta_loss`` another divergence in the place of the first term. The weights of every sample are solved for
    exactly in the end, so ``fit_transform(X)`` equals ``fit(X).transform(X)`` and the weights of a sample do not depend
    on which others are transformed with it, beyond rounding.

    Parameters
    ----------
    n_components : int, 'auto' or None, default='auto'
        Number of parts. 'auto' is that of a given H or W, otherwise, and for None, all features, which is hardly what
        you want: ``diffnmf.factorization.cross_validate_rank`` helps to choose.
    init : {'random', 'nndsvd', 'nndsvda', 'nndsvdar', 'custom', 'auto', 'merge', 'spa', 'uniform'}, NMF or None
        Where to start, default=None; see ``diffnmf.factorization.initialize``. 'custom' takes ``H`` and ``W`` of
        ``fit``, or one of them; a fitted NMF gives its components (in a grid search, which would clone it, a
        ``sklearn.frozen.FrozenEstimator`` of it). None is 'auto', for solver 'mu' 'nndsvda', and
        'random' where n_components exceeds a side of X. 'merge' and 'spa' are factorisations by themselves, with
        ``max_iter=0``.
    solver : {'hals', 'cd', 'anls', 'mu'} or method instance, default='hals'
        How the parts are found; 'cd' is another name of 'hals'. An instance of a class in
        ``diffnmf.factorization.METHODS`` has options.
    beta_loss : {'frobenius', 'kullback-leibler', 'itakura-saito'} or float, default='frobenius'
        The divergence to be minimised; others than 'frobenius' need solver 'mu'. X must not hold zeros at or below 0
        ('itakura-saito').
    tol : float, default=1e-4
        Stop when the norm of the projected gradient is this small relative to that at the start (for other losses than
        'frobenius': what the updates still move). 0 never stops early, and never warns.
    max_iter : int, default=200
        Iterations at the most.
    random_state : int, RandomState instance or None, default=None
        Of a random start, and of the orders of ``shuffle``. An int makes the result reproducible; 'auto' draws nothing
        but for very large X.
    alpha_W : float, default=0.0
        Penalty of the weights. A penalty on one factor alone has no minimum, since that factor can shrink while the
        other grows: give the other one, too.
    alpha_H : float or 'same', default='same'
        Penalty of the components.
    l1_ratio : float, default=0.0
        Share of the sum in the penalties, in [0, 1]; the rest is half the squared norm.
    verbose : int, default=0
        Print the iterations; for X in blocks show a bar on a terminal.
    shuffle : bool, default=False
        Take the components in a random order in every sweep of 'hals', by random_state; a ``HALS`` given as solver has
        its own seed.
    missing : {'error', 'ignore', 'unstored'}, default='error'
        What a NaN in X, or a masked entry of a masked array, is: an error, or an entry that is not known and does not
        count. 'unstored': X is sparse, and what it does not store is not known, as in a table of ratings; a zero that
        it stores is a zero. Nothing else is formed, for 'hals', and 'mu' with the Frobenius norm; init is 'random',
        which is its 'auto', 'uniform' or 'custom' then.
    n_init : int, default=1
        Fits from as many random starts, all at once; the one with the smallest error is kept.
    fixed : array-like or Tensor of shape (n_fixed, n_features), default=None
        The first components, which are known and stay as they are.
    device : str, torch.device or None, default=None
        Where to compute, such as 'cuda'. None is the CPU for arrays, and where they are for tensors.
    dtype : dtype or None, default=None
        What to compute in, such as 'float32'. None is that of X.
    checkpoint : str, Path or None, default=None
        For X in blocks: a folder in which the fit is kept once a minute, and from which the same fit goes on;
        random_state=None counts as 0 then.

    Attributes
    ----------
    components_ : ndarray or Tensor of shape (n_components, n_features)
        The parts.
    n_components_ : int
        Their number.
    reconstruction_err_ : float
        Frobenius norm of X - transform(X) @ components_ on the training data, over what is known, with its weights; for
        another divergence the square root of twice its sum.
    errors_ : ndarray of shape (iterations + 1,)
        That norm relative to the norm of X, at the start and after every iteration; of another divergence the root.
    n_iter_ : int
        Iterations run; those of the start are not counted, and at least 1 is.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X had names that are strings.

    Raises
    ------
    TypeError, ValueError
        In ``fit``, when X or a parameter is not as above; the message names it.

    Warns
    -----
    NMFConvergenceWarning
        When max_iter iterations did not reach tol. It is scikit-learn's ConvergenceWarning and diffnmf's own.

    Notes
    -----
    ``Blocks``, a path, an array of zarr or HDF5 and a memory map of more than a gigabyte are read in blocks, pass after
    pass, for solvers 'hals', 'anls' and 'mu', without ``weights``, ``missing``, ``fixed`` and ``n_init``.

    float32 stays float32; other array dtypes become float64, half-precision tensors float32. Sparse X (SciPy's CSR and
    CSC, torch's CSR) is never made dense; an entry that is not stored is a zero, but with missing='unstored'.

    Torch tensors in, torch tensors out: ``components_`` and results are on the device of the X given. They carry no
    gradient; for a differentiable transform use ``diffnmf.layers.NNLSLayer()(components_.T, X.T).T``.

    For many matrices at once, other methods and callbacks use ``diffnmf.factorization.factorize``.

    Examples
    --------
    >>> import numpy as np
    >>> from diffnmf import NMF
    >>> X = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
    >>> model = NMF(n_components=2, random_state=0)
    >>> W = model.fit_transform(X)
    >>> W.shape, model.components_.shape
    ((4, 2), (2, 3))
    >>> bool(np.abs(W @ model.components_ - X).max() < 1e-3)
    True

    Fill in what is missing:

    >>> X[1, 1] = np.nan
    >>> model = NMF(n_components=2, missing="ignore", random_state=0, max_iter=2000)
    >>> float(model.inverse_transform(model.fit_transform(X))[1, 1].round(2))
    2.0
    """

    def __init__(
        self,
        n_components: int | str | None = "auto",
        *,
        init: "str | NMF | None" = None,
        solver: str | Method = "hals",
        beta_loss: float | str = "frobenius",
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int | np.random.RandomState | None = None,
        alpha_W: float = 0.0,
        alpha_H: float | str = "same",
        l1_ratio: float = 0.0,
        verbose: int = 0,
        shuffle: bool = False,
        missing: str = "error",
        n_init: int = 1,
        fixed: Any = None,
        device: str | torch.device | None = None,
        dtype: Any = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.solver = solver
        self.beta_loss = beta_loss
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.verbose = verbose
        self.shuffle = shuffle
        self.missing = missing
        self.n_init = n_init
        self.fixed = fixed
        self.device = device
        self.dtype = dtype
        self.checkpoint = checkpoint

    def fit(self, X: Any, y: None = None, W: Any = None, H: Any = None, weights: Any = None) -> Self:
        """Learn the parts of X.

        Parameters
        ----------
        X : array-like, sparse matrix, Tensor or Blocks of shape (n_samples, n_features)
            Non-negative data.

        y : Ignored

        W : array-like or Tensor of shape (n_samples, n_components), default=None
            With init='custom': weights to start from, of the dtype of X. By default those that fit H.

        H : array-like or Tensor of shape (n_components, n_features), default=None
            With init='custom': parts to start from. By default those that fit W.

        weights : array-like or Tensor of shape (n_samples,), (n_samples, 1) or (n_samples, n_features), default=None
            How much every sample, or every entry, counts: ≥ 0.

        Returns
        -------
        self : NMF
        """
        self._fit(X, W, H, weights)
        return self

    def fit_transform(self, X: Any, y: None = None, W: Any = None, H: Any = None, weights: Any = None) -> Any:
        """Learn the parts of X and return its weights: ``fit(X).transform(X)``, in one go.

        Parameters
        ----------
        X, y, W, H, weights
            As for ``fit``.

        Returns
        -------
        W : ndarray or Tensor of shape (n_samples, n_components)
        """
        return in_kind(self._fit(X, W, H, weights).W.T, X)

    def transform(self, X: Any, weights: Any = None) -> Any:
        """The weights of every sample for the parts learnt: exact non-negative least squares, over what is known.

        Parameters
        ----------
        X : array-like, sparse matrix or Tensor of shape (n_samples, n_features)
            Non-negative data.

        weights : array-like or Tensor, default=None
            As for ``fit``.

        Returns
        -------
        W : ndarray or Tensor of shape (n_samples, n_components)
        """
        check_is_fitted(self)
        blocks = in_blocks(X)
        if blocks is not None:
            return in_kind(transform_blocks(self, blocks, weights, tensor_of(self.components_)).T, X)
        samples = checked_samples(self, X, weights, reset=False)
        components = tensor_of(self.components_)
        found = fitted_weights(self, samples, components)
        warn_of_far_weights(samples, components.T, found)
        return in_kind(found.T, X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "ignore"
        return tags

    def _fit(self, X: Any, W: Any, H: Any, weights: Any) -> Fit:
        """Set the attributes and return the factors."""
        blocks, samples = in_blocks(X), None
        if blocks is not None:
            result = fit_blocks(self, blocks, W, H, weights)
        else:
            samples = checked_samples(self, X, weights, reset=True)
            result = fit(self, samples, W, H)
        self.components_ = in_kind(result.H.T, X)
        self.n_components_ = len(self.components_)
        self.n_iter_ = result.iterations
        self.errors_ = result.errors
        self.reconstruction_err_ = result.distance
        if result.complaint:
            warn_user(*result.complaint)
        if samples is not None:
            warn_of_far_weights(samples, result.H, result.W)
        return result
