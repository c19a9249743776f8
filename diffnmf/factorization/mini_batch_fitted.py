"""What ``MiniBatchNMF`` does once it has its components."""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from diffnmf.factorization.estimator import NMF
from diffnmf.factorization.mini_batch_data import Rows, checked_rows
from diffnmf.factorization.mini_batch_fit import solved_weights
from diffnmf.factorization.mini_batch_learner import Options
from diffnmf.factorization.reconstruction import distance
from diffnmf.factorization.sample_arrays import tensor_of


class FittedParts(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """``components_``, with what follows from them; a subclass has the parameters and learns."""

    components_: Any
    n_components_: int

    def transform(self, X: Any) -> Any:
        """The weights of every sample for the parts learnt; exact ones, unless transform_max_iter says otherwise.

        Parameters
        ----------
        X : array-like, sparse matrix or Tensor of shape (n_samples, n_features)
            Non-negative data.

        Returns
        -------
        W : ndarray or Tensor of shape (n_samples, n_components)
        """
        check_is_fitted(self)
        rows = checked_rows(self, X, reset=False)
        return self._weights(rows)[0]

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
        whole = NMF(self.n_components_)
        whole.components_, whole.n_components_ = self.components_, self.n_components_
        return whole.inverse_transform(X)

    @property
    def _n_features_out(self) -> int:
        """How many names get_feature_names_out makes."""
        return self.n_components_

    @property
    def _n_components(self) -> int:
        """The name under which scikit-learn's own class keeps it."""
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _weights(self, rows: Rows) -> tuple[Any, float]:
        """(N, k) as the user wants it, and how far what they make is from X."""
        options = Options.of(self)
        Ht = tensor_of(self.components_).to(rows.device, rows.dtype)
        parts, distances = [], []
        for Y, weights in solved_weights(options, rows, Ht):
            parts.append(weights.mT)
            distances.append(distance(Ht.mT, weights, Y, None, options.beta))
        return rows.returned(torch.cat(parts)), float(np.linalg.norm(distances))
