"""What ``MiniBatchNMF`` does once it has its components."""

import math
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted

from diffnmf.factorization.far_predictions import largest_known, warn_of_far_predictions
from diffnmf.factorization.fitted_parts import FittedParts
from diffnmf.factorization.mini_batch_data import Rows, checked_rows
from diffnmf.factorization.mini_batch_fit import solved_weights
from diffnmf.factorization.mini_batch_learner import BatchOptions
from diffnmf.factorization.reconstruction import distance
from diffnmf.factorization.sample_arrays import tensor_of


class FittedBatches(FittedParts):
    """The weights of samples for the parts; a subclass has the parameters and learns."""

    missing: str

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "ignore"
        return tags

    def _weights(self, rows: Rows) -> tuple[Any, float]:
        """(N, k) as the user wants it, and how far what they make is from X."""
        options = BatchOptions.of(self)
        Ht = tensor_of(self.components_).to(rows.device, rows.dtype)
        parts, distances = [], []
        largest, known, partial = Ht.new_zeros(len(Ht)), Ht.new_zeros(()), False
        for samples, weights in solved_weights(options, rows, Ht):
            parts.append(weights.mT)
            Y, V = samples.Y, samples.weights
            distances.append(distance(Ht.mT, weights, Y, V, options.beta, observed=samples.observed))
            if options.missing != "error":
                partial |= samples.partial
                largest = torch.maximum(largest, weights.amax(1))
                known = torch.maximum(known, largest_known(Y, V))
        if partial:
            cure = "raise alpha_W and alpha_H, take fewer components"
            warn_of_far_predictions(Ht.mT, largest[:, None], known[None, None], None, cure)
        return rows.returned(torch.cat(parts)), math.hypot(*distances)
