"""NMF as an estimator of scikit-learn: rows of X are samples, so X = Yᵀ.

Imported only when ``diffnmf.NMF`` is asked for, because it needs scikit-learn.
"""

import warnings
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from diffnmf.checks import check_count
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization.base import Method
from diffnmf.factorization.factorize import Factors, factorize
from diffnmf.factorization.sample_arrays import check_non_negative, device_of, in_kind, matrix_of, tensor_of
from diffnmf.layers import NNLSLayer
from diffnmf.solvers.norms import safe_norm


class NMFConvergenceWarning(ConvergenceWarning, SklearnConvergenceWarning):
    """What ``NMF`` warns with: filters on the class of this library and on that of scikit-learn both catch it."""


class NMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Non-negative matrix factorisation X ≈ W H, samples in rows, by ``diffnmf.factorization.factorize``.

    It minimises, over non-negative matrices of n_components parts,

        0.5 * ||X - transform(X) @ components_||_F^2
            + l1_W * sum(transform(X)) + 0.5 * ridge_W * ||transform(X)||_F^2
            + l1_H * sum(components_)  + 0.5 * ridge_H * ||components_||_F^2

    In the notation of the library, X = Yᵀ, ``components_`` = Hᵀ and ``transform(X)`` = Wᵀ. The parts come from
    ``method``; the weights of every sample are then solved for exactly, so ``fit_transform(X)`` equals
    ``fit(X).transform(X)`` and the weights of a sample do not depend on which others are transformed with it, beyond
    rounding.

    Parameters
    ----------
    n_components : int, None or 'auto', default='auto'
        Number of parts. None and 'auto' mean all features, as in scikit-learn, which is hardly what you want:
        ``diffnmf.factorization.cross_validate_rank`` helps to choose.
    method : {'hals', 'unit_columns', 'anls', 'mu', 'published_hals', 'merge', 'spa'} or method instance, default='hals'
        How the parts are found; see ``diffnmf.factorization.METHODS``.
    init : {'auto', 'merge', 'random', 'uniform', 'nndsvd', 'nndsvda', 'spa'} or None, default=None
        Where to start; see ``diffnmf.factorization.initialize``. None is 'auto', and 'random' for method 'mu'.
    l1_H, l1_W : float, default=0.0
        Weight of the sum of ``components_``, and of the sum of the weights: makes them sparse. Like all penalties
        not scaled with the size of X, unlike ``alpha_H`` and ``alpha_W`` of scikit-learn. A penalty on one factor
        alone has no minimum, since that factor can shrink while the other grows: give the other one, too.
    ridge_H, ridge_W : float, default=0.0
        Weight of half the squared norms.
    tol : float, default=1e-4
        Stop when the norm of the projected gradient is this small relative to that at the start. 0 never stops early,
        and never warns.
    max_iter : int, default=200
        Iterations at the most.
    random_state : int, RandomState instance or None, default=None
        Of a random start. An int makes the result reproducible; 'auto' draws nothing but for very large X.
    device : str, torch.device or None, default=None
        Where to compute, such as 'cuda'. None is the CPU for arrays, and where they are for tensors.

    Attributes
    ----------
    components_ : ndarray or Tensor of shape (n_components, n_features)
        The parts.
    n_components_ : int
        Their number.
    reconstruction_err_ : float
        Frobenius norm of X - transform(X) @ components_ on the training data.
    errors_ : ndarray of shape (iterations + 1,)
        That norm relative to the norm of X, at the start and after every iteration.
    n_iter_ : int
        Iterations run; those of the start are not counted, and at least 1 is.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, where X had names that are strings.

    Warns
    -----
    NMFConvergenceWarning
        When max_iter iterations did not reach tol. It is scikit-learn's ConvergenceWarning and diffnmf's own.

    Notes
    -----
    float32 stays float32; other array dtypes become float64, half-precision tensors float32. Sparse matrices are
    refused, since every method here works on the dense X: use ``X.toarray()`` if it fits in memory. Missing values are
    refused, too.

    Torch tensors in, torch tensors out: ``components_`` and results are on the device of the X given. They carry no
    gradient; for a differentiable transform use ``diffnmf.layers.NNLSLayer()(components_.T, X.T).T``.

    For many matrices at once, starts of your own and callbacks use ``diffnmf.factorization.factorize``.

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
    """

    def __init__(
        self,
        n_components: int | str | None = "auto",
        *,
        method: str | Method = "hals",
        init: str | None = None,
        l1_H: float = 0.0,
        l1_W: float = 0.0,
        ridge_H: float = 0.0,
        ridge_W: float = 0.0,
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int | np.random.RandomState | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.init = init
        self.l1_H = l1_H
        self.l1_W = l1_W
        self.ridge_H = ridge_H
        self.ridge_W = ridge_W
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: None = None) -> Self:
        """Learn the parts of X.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features)
            Non-negative data.

        y : Ignored

        Returns
        -------
        self : NMF
        """
        self._fit(X)
        return self

    def fit_transform(self, X: Any, y: None = None) -> Any:
        """Learn the parts of X and return its weights: ``fit(X).transform(X)``, in one go.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features)
            Non-negative data.

        y : Ignored

        Returns
        -------
        W : ndarray or Tensor of shape (n_samples, n_components)
        """
        return self._fit(X)

    def transform(self, X: Any) -> Any:
        """The weights of every sample for the parts learnt: exact non-negative least squares.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features)
            Non-negative data.

        Returns
        -------
        W : ndarray or Tensor of shape (n_samples, n_components)
        """
        check_is_fitted(self)
        return in_kind(self._weights(self._samples(X, reset=False)), X)

    def inverse_transform(self, X: Any) -> Any:
        """What the parts make of given weights: X @ components_.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_components)
            Weights.

        Returns
        -------
        X_original : ndarray or Tensor of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        weights = matrix_of(X) if isinstance(X, Tensor) else tensor_of(check_array(X, dtype=[np.float64, np.float32]))
        if weights.ndim != 2 or weights.shape[1] != self.n_components_:
            raise ValueError(
                f"X: expected weights (n_samples, n_components = {self.n_components_}), what transform returns;"
                f" got {tuple(weights.shape)}"
            )
        return in_kind(weights @ tensor_of(self.components_).to(weights), X)

    @property
    def _n_features_out(self) -> int:
        """How many names get_feature_names_out makes."""
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _fit(self, X: Any) -> Any:
        """Set the attributes and return the weights."""
        samples = self._samples(X, reset=True)
        factors = self._factorize(samples)
        self.components_ = in_kind(factors.H.T, X)
        self.n_components_ = len(self.components_)
        # A start that needs no iterations counts as one: scikit-learn asks for at least that.
        self.n_iter_ = max(1, int(factors.iterations))
        self.errors_ = factors.errors.cpu().numpy()
        weights = self._weights(samples)
        residual = samples - weights @ factors.H.T
        self.reconstruction_err_ = float(safe_norm(residual, dim=(0, 1)))
        if self.tol > 0 and not bool(factors.converged):
            warnings.warn(
                f"NMF has not converged to tol={self.tol} in max_iter={self.max_iter} iterations; raise one of them",
                NMFConvergenceWarning,
                stacklevel=3,
            )
        return in_kind(weights, X)

    def _factorize(self, samples: Tensor) -> Factors:
        """The factors of the samples (N, F), without a warning."""
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        names = ("tol", "max_iter", "l1_H", "l1_W", "ridge_H", "ridge_W")
        options = {name: getattr(self, name) for name in names}
        k = self._count(samples.shape[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return factorize(samples.T, k, method=self.method, init=self.init, seed=seed, **options)

    def _count(self, features: int) -> int:
        k = self.n_components
        if k is None or (isinstance(k, str) and k == "auto"):
            return features
        return check_count("n_components", k, at_least=1, alternative="None or 'auto' for all features")

    def _weights(self, samples: Tensor) -> Tensor:
        """(N, n_components) for the samples (N, F), from ``components_`` alone, so that every way in gives the same."""
        H = tensor_of(self.components_).to(samples.device).T
        solve = NNLSLayer(l1=self.l1_W, ridge=self.ridge_W, backward="detached")
        return solve(H, samples.T).T.to(samples.dtype).contiguous()

    def _samples(self, X: Any, *, reset: bool) -> Tensor:
        """X, checked, as a tensor (N, F) where the work is done."""
        if isinstance(X, Tensor):
            samples = matrix_of(X)
            validate_data(self, X, reset=reset, skip_check_array=True)
        else:
            samples = tensor_of(validate_data(self, X, reset=reset, dtype=[np.float64, np.float32]))
        check_non_negative(samples)
        return samples.to(device=device_of(self.device))
