"""A fit that says of missing entries what nothing that is known allows tells so."""

import math
import warnings

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix
from scipy.sparse import csr_array
from sklearn.pipeline import make_pipeline

from diffnmf import NMF, non_negative_factorization
from diffnmf.errors import PredictionWarning
from diffnmf.factorization import cross_validate_rank, factorize

pytestmark = pytest.mark.usefixtures("one_thread")

MESSAGE = r"not known, or hardly count, are predicted up to 5e\+05 times the largest known one"
H0 = torch.tensor([[1.0, 0.0], [1.0, 1e-6], [0.0, 1.0]], dtype=torch.float64)  # the third row is known of no sample
PARTS = H0.T.numpy()


@pytest.fixture
def Y():
    """(3, 4): to explain the second row exactly takes 10⁶ of the second part."""
    known = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    return torch.cat((known, torch.full((1, 4), math.nan, dtype=torch.float64)))


def sparse(Y):
    return csr_array(torch.where(Y.isnan(), 0.0, Y).numpy())


WAYS = {
    "factorize, mask": lambda Y: factorize(Y, 2, mask=~Y.isnan(), fixed=H0, tol=0.0),
    "factorize, weights": lambda Y: factorize(
        Y.nan_to_num(7.0), 2, weights=0.5 * (~Y.isnan()).double(), fixed=H0, tol=0.0
    ),
    "transform": lambda Y: known_model().transform(Y.T.numpy()),
    "transform, sparse": lambda Y: known_model(missing="unstored").transform(sparse(Y).T.tocsr()),
    "function": lambda Y: non_negative_factorization(
        Y.T.numpy(), H=PARTS, n_components=2, update_H=False, init="custom", missing="ignore"
    ),
    "pipeline": lambda Y: make_pipeline(NMF(2, fixed=PARTS, missing="ignore")).fit_transform(Y.T.numpy()),
}


def known_model(missing="ignore"):
    model = NMF(2, missing=missing)
    model.components_, model.n_components_, model.n_features_in_ = PARTS, 2, 3
    return model


@pytest.mark.parametrize("way", WAYS)
def test_it_is_told_at_the_line_of_the_user(way, Y):
    with pytest.warns(PredictionWarning, match=MESSAGE) as caught:
        WAYS[way](Y)
    assert [entry.filename for entry in caught if entry.category is PredictionWarning] == [__file__]


def test_a_fit_is_kept_where_warnings_are_errors(Y):
    model = NMF(2, fixed=PARTS, missing="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PredictionWarning, match="raise alpha_W and alpha_H, take fewer components, or clip"):
            model.fit(Y.T.numpy())
    np.testing.assert_allclose(model.components_, PARTS)


def test_penalties_quiet_it(Y):
    factorize(Y, 2, mask=~Y.isnan(), fixed=H0, tol=0.0, ridge_W=1e-3)
    NMF(2, fixed=PARTS, missing="ignore", alpha_W=1e-3).fit(Y.T.numpy())


def test_some_problems_of_a_batch(Y):
    plenty = random_matrix(3, 4)
    batch = torch.stack((plenty, Y, plenty))
    with pytest.warns(PredictionWarning, match=r"largest known one in 1 of 3 problems: .* \(give ridge_H and ridge_W"):
        factorize(batch, 2, mask=~batch.isnan(), fixed=H0, tol=0.0)


def test_nothing_is_said_of_what_is_known(Y):
    """Neither where all is known, nor of a start that nothing was done with, nor by what clips predictions itself."""
    factorize(torch.tensor([[1e-9, 1.0], [1.0, 1e9]], dtype=torch.float64), 1, tol=0.0)
    start = {"H0": torch.full((3, 1), 1e6), "W0": torch.full((1, 4), 1e6)}
    factorize(Y, 1, mask=~Y.isnan(), max_iter=0, **{name: x.double() for name, x in start.items()}, tol=0.0)
    digits = random_matrix(12, 20)
    cross_validate_rank(torch.where(random_matrix(12, 20, seed=1) < 0.6, math.nan, digits), [8], missing="ignore")
    factorize(torch.zeros(3, 4), 2, mask=torch.zeros(3, 4, dtype=torch.bool), tol=0.0)
