"""MiniBatchNMF as an estimator of scikit-learn: NMF that looks at some samples at a time.

Imported only when ``diffnmf.MiniBatchNMF`` is asked for, because it needs scikit-learn.
"""

from typing import Any, Self

import numpy as np
import torch

from diffnmf.errors import warn_user
from diffnmf.factorization.estimator import NMF
from diffnmf.factorization.estimator_fit import NMFConvergenceWarning
from diffnmf.factorization.mini_batch_data import Rows, checked_rows
from diffnmf.factorization.mini_batch_fit import Passes, fit_rows, fit_stream, learn_batch
from diffnmf.factorization.mini_batch_fitted import FittedBatches
from diffnmf.factorization.mini_batch_learner import BatchOptions, Learner
from diffnmf.factorization.sample_arrays import is_stream

__all__ = ["MiniBatchNMF"]


class MiniBatchNMF(FittedBatches):
    """NMF of a batch of samples at a time: ``sklearn.decomposition.MiniBatchNMF``, also fed by streams.

    It reduces what ``NMF`` reduces, X ≈ W H with the same penalties, for data of which there are many samples, or which
    come one after the other. Every batch improves H = ``components_`` at once. For the squared error that is done by
    coordinate descent over the sums W_bᵀW_b and W_bᵀX_b, so that an old batch goes on counting (Mairal et al. 2010,
    Online learning for matrix factorization and sparse coding); for other losses by scikit-learn's multiplicative
    updates.

    The parameters that scikit-learn has, too, come first, and mean what they mean there.

    Parameters
    ----------
    n_components : int, 'auto' or None, default='auto'
        Number of parts. 'auto' is that of a given H, otherwise, and for None, all features.
    init : {'random', 'nndsvd', 'nndsvda', 'nndsvdar', 'custom', 'auto', 'merge', 'spa', 'uniform'}, NMF or None
        Where to start, default=None, as for ``NMF``. Of a matrix with more than 2,048 samples (batch_size or 2k, if
        that is more) it is that of so many of them, chosen at random; of a stream that of its first batch. Where these
        leave a part all zero, as few samples do, it is 'random'; so is 'auto' with missing='unstored', which takes
        'uniform' and 'custom' beside these two. 'custom' takes ``H`` of ``fit``, and ``W`` if that is given.
    batch_size : int, default=1024
        Number of samples in a batch of a matrix; batches of a stream have the size that they have.
    beta_loss : {'frobenius', 'kullback-leibler', 'itakura-saito'} or float, default='frobenius'
        The divergence to be minimised. X must not hold zeros at or below 0 ('itakura-saito').
    tol : float, default=1e-4
        Stop when no batch moves H by more than that, relative to its norm. Also how much better costs have to become,
        see max_no_improvement. 0: never stop for H, and any improvement counts.
    max_no_improvement : int or None, default=10
        Stop when so many batches in a row have not improved the smoothed cost: the mean over all batches of what each
        cost when it was seen last. None: never. In the first pass nothing is stopped.
    max_iter : int, default=200
        Passes over the data at the most.
    alpha_W : float, default=0.0
        Penalty of the weights, see ``NMF``.
    alpha_H : float or 'same', default='same'
        Penalty of the components.
    l1_ratio : float, default=0.0
        Share of the sum in the penalties, in [0, 1]; the rest is half the squared norm.
    forget_factor : float, default=0.7
        What is left of the past, in [0, 1]. ``fit`` on a matrix: after a pass. In the first pass under the squared
        error, on a stream, and in ``partial_fit``: after batch_size samples, or after a batch where that is larger.
    fresh_restarts : bool, default=False
        Solve for the weights of a batch each time, rather than improve a little those that it had in the pass before.
        Batches of a stream and of ``partial_fit`` have none from before, and are always solved for.
    fresh_restarts_max_iter : int, default=30
        Iterations of such a solve at the most; fewer where they move the weights by less than tol.
    transform_max_iter : int or None, default=None
        None: the weights that come out are the exact ones. Otherwise so many iterations from even ones, which may take
        less time.
    random_state : int, RandomState instance or None, default=None
        Of a random start, and of the samples that make up the start.
    verbose : int, default=0
        Print every step.
    device : str, torch.device or None, default=None
        Where to compute, such as 'cuda'; batches are brought there one by one. None is the CPU for arrays, and where
        they are for tensors.
    dtype : dtype or None, default=None
        What to compute in, such as 'float32'. None is that of X.
    missing : {'error', 'ignore', 'unstored'}, default='error'
        What a NaN in X, or a masked entry of a masked array, is: an error, or an entry that is not known and does not
        count. 'unstored': X is sparse, and what it does not store is not known, as in a table of ratings; a zero that
        it stores is a zero. Only with the Frobenius norm. Under that norm what is not known costs k(k + 1)/2 numbers a
        feature in memory.

    Attributes
    ----------
    components_ : ndarray or Tensor of shape (n_components, n_features)
        The parts.
    n_components_ : int
        Their number.
    reconstruction_err_ : float
        Frobenius norm of X - transform(X) @ components_ on the training data, over what is known; for another
        divergence the square root of twice its sum. Only after ``fit`` on a matrix.
    n_iter_ : int
        Passes begun. Only after ``fit``.
    n_steps_ : int
        Batches processed.
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
        When max_iter passes were not enough for tol and max_no_improvement. It is scikit-learn's ConvergenceWarning and
        diffnmf's own.

    Notes
    -----
    Batches are taken in the order of the rows: shuffle samples that are sorted. float32 stays float32; other array
    dtypes become float64, half-precision tensors float32. Sparse X is never made dense.

    Examples
    --------
    >>> import numpy as np
    >>> from diffnmf import MiniBatchNMF
    >>> random = np.random.default_rng(0)
    >>> X = random.random((600, 3)) @ random.random((3, 20))
    >>> model = MiniBatchNMF(n_components=3, batch_size=100, random_state=0)
    >>> W = model.fit_transform(X)
    >>> W.shape, model.components_.shape
    ((600, 3), (3, 20))
    >>> bool(model.reconstruction_err_ < 0.05 * np.linalg.norm(X))
    True

    Batches that come one by one, from wherever they are:

    >>> stream = (X[start : start + 100] for start in range(0, 600, 100))
    >>> MiniBatchNMF(n_components=3, random_state=0).fit(stream).n_steps_
    6
    """

    def __init__(
        self,
        n_components: int | str | None = "auto",
        *,
        init: "str | NMF | None" = None,
        batch_size: int = 1024,
        beta_loss: float | str = "frobenius",
        tol: float = 1e-4,
        max_no_improvement: int | None = 10,
        max_iter: int = 200,
        alpha_W: float = 0.0,
        alpha_H: float | str = "same",
        l1_ratio: float = 0.0,
        forget_factor: float = 0.7,
        fresh_restarts: bool = False,
        fresh_restarts_max_iter: int = 30,
        transform_max_iter: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        device: str | torch.device | None = None,
        dtype: Any = None,
        missing: str = "error",
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.batch_size = batch_size
        self.beta_loss = beta_loss
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.max_iter = max_iter
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.forget_factor = forget_factor
        self.fresh_restarts = fresh_restarts
        self.fresh_restarts_max_iter = fresh_restarts_max_iter
        self.transform_max_iter = transform_max_iter
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.dtype = dtype
        self.missing = missing

    def fit(self, X: Any, y: None = None, W: Any = None, H: Any = None) -> Self:
        """Learn the parts of X, in passes over batches of it.

        Parameters
        ----------
        X : array-like, sparse matrix or Tensor of shape (n_samples, n_features), or an iterable of batches
            Non-negative data. Batches of rows come from a ``torch.utils.data.DataLoader``, a list, or whatever can be
            iterated over, max_iter times at the most; an iterator, such as a generator, is gone through once. Where a
            batch is a tuple or list, such as images and labels, its first member counts; a batch of more than two
            dimensions is flattened to (b, n_features).
        y : Ignored
        W : array-like or Tensor of shape (n_samples, n_components), default=None
            With init='custom': weights to start from. A stream has no use for them.
        H : array-like or Tensor of shape (n_components, n_features), default=None
            With init='custom': parts to start from.

        Returns
        -------
        self : MiniBatchNMF
        """
        if not is_stream(X):
            self._fit_rows(X, W, H)
            return self
        passes, first = fit_stream(self, BatchOptions.of(self), X, W, H)
        self._learnt(passes.learner, first)
        self._passed(passes)
        return self

    def fit_transform(self, X: Any, y: None = None, W: Any = None, H: Any = None) -> Any:
        """Learn the parts of X and return its weights: ``fit(X).transform(X)``, in one go.

        Parameters
        ----------
        X : array-like, sparse matrix or Tensor of shape (n_samples, n_features)
            Non-negative data. The weights of a stream are asked for batch by batch, with ``transform``.
        y, W, H
            As for ``fit``.

        Returns
        -------
        W : ndarray or Tensor of shape (n_samples, n_components)
        """
        return self._fit_rows(X, W, H)

    def partial_fit(self, X: Any, y: None = None, W: Any = None, H: Any = None) -> Self:
        """Learn from X as a single batch, after whatever has been learnt before.

        Parameters
        ----------
        X : array-like, sparse matrix or Tensor of shape (n_samples, n_features)
            Non-negative data.
        y : Ignored
        W : array-like or Tensor, default=None
            Taken for the sake of scikit-learn, and checked in the first call.
        H : array-like or Tensor of shape (n_components, n_features), default=None
            In the first call, with init='custom': parts to start from.

        Returns
        -------
        self : MiniBatchNMF
        """
        options, begun = BatchOptions.of(self), hasattr(self, "components_")
        rows = checked_rows(self, X, reset=not begun)
        self._learnt(learn_batch(self, options, self._learner if begun else None, rows, W, H), rows)
        self.n_steps_: int = self.n_steps_ + 1 if begun else 1
        return self

    def _fit_rows(self, X: Any, W: Any, H: Any) -> Any:
        """Set the attributes and return the weights."""
        options = BatchOptions.of(self)
        rows = checked_rows(self, X, reset=True)
        passes = fit_rows(self, options, rows, W, H)
        self._learnt(passes.learner, rows)
        weights, self.reconstruction_err_ = self._weights(rows)
        self._passed(passes)
        return weights

    def _learnt(self, learner: Learner, rows: Rows) -> None:
        self._learner = learner
        if hasattr(self, "reconstruction_err_"):
            del self.reconstruction_err_  # that of the parts before
        self.components_ = rows.returned(learner.components)
        self.n_components_ = len(self.components_)

    def _passed(self, passes: Passes) -> None:
        """What there is to say of the passes."""
        self.n_iter_, self.n_steps_ = passes.iterations, passes.steps
        if self.tol > 0 and not passes.converged:
            text = (
                f"Maximum number of iterations {self.max_iter} reached. Increase it to improve convergence."
                f" (MiniBatchNMF has not stopped within max_iter={self.max_iter} passes; raise it, or tol={self.tol})"
            )
            warn_user(text, NMFConvergenceWarning)
