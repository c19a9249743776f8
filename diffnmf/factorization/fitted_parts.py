"""What every estimator of scikit-learn here has once it has its components."""

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from diffnmf.factorization.sample_arrays import in_kind, matrix_of, tensor_of
from diffnmf.solvers.devices import precise_products


class FittedParts(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """``components_``, with what follows from them; a subclass has the parameters and learns."""

    components_: Any
    n_components_: int

    def inverse_transform(self, X: Any) -> Any:
        """What the parts make of given weights: X @ components_. This fills in what is missing.

        Parameters
        ----------
        X : array-like, sparse matrix or Tensor of shape (n_samples, n_components)
            Weights.

        Returns
        -------
        X_original : ndarray or Tensor of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        if isinstance(X, Tensor):
            weights = matrix_of(X)
        else:  # sparse as scikit-learn's own takes them, and as dense as what comes of them
            weights = tensor_of(check_array(X.toarray() if issparse(X) else X, dtype=[np.float64, np.float32]))
        if weights.ndim != 2 or weights.shape[1] != self.n_components_:
            raise ValueError(
                f"X: expected weights (n_samples, n_components = {self.n_components_}), what transform returns;"
                f" got {tuple(weights.shape)}"
            )
        with precise_products(weights.device):
            return in_kind(weights @ tensor_of(self.components_).to(weights), X)

    @property
    def _n_features_out(self) -> int:
        """How many names get_feature_names_out makes."""
        return self.n_components_

    @property
    def _n_components(self) -> int:
        """The name under which scikit-learn's own class keeps it, and its tests look for it."""
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
