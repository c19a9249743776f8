"""Missing and weighted entries: what does not count does not count, what counts twice is there twice."""

import numpy as np
import pytest
import torch
from helpers import slow
from nmf_problems import random_matrix
from scipy.optimize import nnls as scipy_nnls
from torch.testing import assert_close

from diffnmf import NMF
from diffnmf.factorization import ANLS, HALS, MU, factorize

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]
methods = pytest.mark.parametrize("method", ["hals", "anls", "mu"])
MONOTONE = [HALS(extrapolate=False), ANLS(), MU(), MU("kullback-leibler"), MU(0.5), MU(3.0)]


def mask_of(*shape, share=0.3, seed=5):
    """True where an entry is known; no row and no column is unknown altogether."""
    mask = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) >= share
    mask[..., 0, :] = mask[..., :, 0] = True
    return mask


def weighted_error(Y, H, W, V):
    return (V * (Y - H @ W).square()).sum((-2, -1)).sqrt() / (V * Y.square()).sum((-2, -1)).sqrt()


@methods
def test_what_stands_at_a_hidden_entry_does_not_matter(method):
    Y, mask = random_matrix(12, 9), mask_of(12, 9)
    results = []
    for value in (0.0, 7.0, -3.0, torch.nan, torch.inf):
        hidden = torch.where(mask, Y, value)
        results.append(factorize(hidden, 3, mask=mask, method=method, max_iter=20, tol=0.0))
    for other in results[1:]:
        assert_close(other.H, results[0].H, rtol=0, atol=0)
        assert_close(other.errors, results[0].errors, rtol=0, atol=0)


@methods
def test_a_mask_is_a_weight_of_zero_and_one_and_a_full_one_is_none(method):
    Y, mask = random_matrix(2, 10, 8), mask_of(2, 10, 8)
    options = {"method": method, "init": "random", "max_iter": 15, "tol": 0.0}
    by_mask, by_weight = factorize(Y, 3, mask=mask, **options), factorize(Y, 3, weights=mask.double(), **options)
    assert_close(by_mask.H, by_weight.H)
    everything = factorize(Y, 3, mask=torch.ones(10, 8, dtype=torch.bool), **options)
    assert_close(everything.errors[-1], factorize(Y, 3, **options).errors[-1], rtol=0.02, atol=0)


@methods
@pytest.mark.parametrize("size", [2.0**-1000, 2.0**-160, 2.0**-60, 2.0**60, 2.0**160, 2.0**900])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_weights_have_no_unit(method, size, dtype):
    """Nothing but their proportions matters, to each other and to the penalties."""
    Y = torch.stack([random_matrix(12, 9, seed=0), 3 * random_matrix(12, 9, seed=1)]).to(dtype)
    weights = torch.stack([random_matrix(12, 9, seed=2), 40 * random_matrix(12, 9, seed=3)]).double()
    options = {"method": method, "max_iter": 20, "tol": 0.0, "mask": mask_of(12, 9)}
    usual = factorize(Y, 3, weights=weights, l1_W=0.25, ridge_H=0.5, **options)
    other = factorize(Y, 3, weights=weights * size, l1_W=0.25 * size, ridge_H=0.5 * size, **options)
    assert usual.errors[-1].max() < 0.7
    assert torch.equal(other.H, usual.H) and torch.equal(other.W, usual.W) and torch.equal(other.errors, usual.errors)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
@pytest.mark.parametrize("size", [2.0**-110, 2.0**100])
def test_the_estimator_has_no_unit_for_them_either(loss, size):
    X, weights = random_matrix(12, 9, seed=0).float().numpy(), random_matrix(12, 9, seed=2).numpy()
    options = {"solver": "mu", "beta_loss": loss, "max_iter": 20, "tol": 0.0, "random_state": 0, "dtype": np.float32}
    usual = NMF(3, **options)
    expected = usual.fit_transform(X, weights=weights)
    other = NMF(3, **options)
    assert_close(torch.from_numpy(other.fit_transform(X, weights=weights * size)), torch.from_numpy(expected))
    assert_close(other.reconstruction_err_, usual.reconstruction_err_ * size**0.5, rtol=1e-5, atol=0)


def test_weights_that_would_be_zero_beside_others_are_told():
    Y, weights = random_matrix(6, 5, seed=0), torch.ones(6, 5).double()
    weights[0, 0] = 1e-60
    with pytest.raises(ValueError, match="weights: expected those of a matrix .* times the largest, or 0; got 1.0e-60"):
        factorize(Y.float(), 2, weights=weights)
    assert factorize(Y.double(), 2, weights=weights).H.isfinite().all()
    for size in (1e-60, 1e60):
        with pytest.raises(ValueError, match="weights: expected 0 or numbers that torch.float32, .* can represent"):
            NMF(2, dtype=np.float32).fit(Y.float().numpy(), weights=np.full((6, 5), size))


def test_hals_with_equal_weights_takes_the_steps_of_hals():
    Y = random_matrix(20, 15)
    method = HALS(extrapolate=False, sweeps=1)
    options = {"method": method, "init": "random", "max_iter": 30, "tol": 0.0}
    weighted, plain = factorize(Y, 4, weights=torch.full((20, 15), 2.0).double(), **options), factorize(Y, 4, **options)
    assert_close(weighted.H, plain.H)
    assert_close(weighted.errors, plain.errors)


@methods
def test_a_whole_number_of_weight_is_so_many_copies(method):
    Y, H0, W0 = random_matrix(8, 6), random_matrix(8, 3, seed=1), random_matrix(3, 6, seed=2)
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 0.0]).double()
    options = {"method": method, "max_iter": 30, "tol": 0.0, "H0": H0}
    columns = torch.arange(6).repeat_interleave(weights.long())
    copies = factorize(Y[:, columns], 3, W0=W0[:, columns], **options)
    weighted = factorize(Y, 3, W0=W0, weights=weights.expand(8, 6), **options)
    if method == "hals":  # the number of its sweeps differs
        assert_close(weighted.errors[-1], copies.errors[-1], rtol=0.1, atol=0)
    else:
        assert_close(weighted.H, copies.H, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", MONOTONE, ids=str)
def test_the_error_on_what_is_known_never_increases(method):
    Y, mask = random_matrix(15, 11) + 0.1, mask_of(15, 11)
    weights = mask * torch.linspace(0.1, 5, 11).double()
    errors = factorize(Y, 4, weights=weights, method=method, init="random", max_iter=60, tol=1e-12).errors
    assert (errors.diff() <= 1e-12 * errors[0]).all()
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_nor_does_it_where_one_gram_matrix_serves_all_columns(share):
    Y, mask = random_matrix(2, 40, 35), mask_of(40, 35, share=share)
    weights = mask * (0.8 + 0.2 * random_matrix(40, 35, seed=7))
    options = {"weights": weights, "init": "random", "l1_W": 0.01, "ridge_H": 0.01, "max_iter": 40, "tol": 1e-12}
    errors = factorize(Y, 24, method=HALS(extrapolate=False), **options).errors
    plain = factorize(Y, 24, **options).errors[-1]
    assert (errors[-1] < 0.5 * errors[0]).all()
    assert (plain < 1.1 * errors[-1]).all()
    unpenalized = {**options, "l1_W": 0.0, "ridge_H": 0.0}
    errors = factorize(Y, 24, method=HALS(extrapolate=False), **unpenalized).errors
    assert (errors.diff(dim=0) <= 1e-12 * errors[0]).all()


@methods
def test_the_history_is_of_what_is_known(method):
    Y, mask = random_matrix(3, 14, 9), mask_of(14, 9)
    weights = mask * (1 + torch.arange(9.0)).double()
    H, W, errors, *_ = factorize(
        torch.where(mask, Y, torch.nan), 3, weights=weights, method=method, max_iter=12, tol=0.0
    )
    assert_close(errors[-1], weighted_error(Y, H, W, weights))


@methods
def test_stationary_where_it_says_so(method):
    Y, mask = random_matrix(20, 15, rank=3), mask_of(20, 15)
    H, W, _, _, converged = factorize(Y, 3, mask=mask, method=method, tol=1e-3, max_iter=20000, init="random")
    assert converged
    residual = mask * (H @ W - Y)
    worst = max(torch.minimum(X, G).abs().max() for X, G in ((H, residual @ W.T), (W, H.T @ residual)))
    assert worst < 0.05


@pytest.mark.parametrize("method", ["hals", *slow("anls")])
def test_planted_factors_predict_what_is_hidden(method):
    Y, mask = random_matrix(60, 50, rank=4), mask_of(60, 50)
    H, W, *_ = factorize(torch.where(mask, Y, torch.nan), 4, mask=mask, method=method, tol=1e-6, max_iter=500)
    assert (H @ W - Y)[~mask].norm() < 1e-3 * Y[~mask].norm()


def test_rows_and_columns_of_which_nothing_is_known():
    Y, mask = random_matrix(12, 9), mask_of(12, 9)
    mask[3], mask[:, 5] = False, False
    for method in ("hals", "anls", "mu"):
        H, W, errors, *_ = factorize(Y, 3, mask=mask, method=method, max_iter=10, tol=0.0)
        assert H.isfinite().all()
        assert W.isfinite().all()
        assert errors[-1] < errors[0] or method != "mu"
    nothing = factorize(Y, 3, mask=torch.zeros(12, 9, dtype=torch.bool), max_iter=3, tol=0.0)
    assert (nothing.errors == 0).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": torch.ones(6, 5)}, TypeError, "mask: expected a tensor of dtype bool"),
        (
            {"mask": torch.ones(5, 6).bool()},
            ValueError,
            r"mask: expected a shape that broadcasts to that of Y \(6, 5\)",
        ),
        ({"weights": -torch.ones(6, 5)}, ValueError, "weights: expected finite numbers ≥ 0"),
        ({"weights": torch.full((6, 5), torch.nan)}, ValueError, "weights: expected finite numbers ≥ 0"),
        ({"weights": [1.0]}, TypeError, "weights: expected a torch.Tensor"),
        ({"mask": torch.ones(6, 5).bool(), "method": "spa"}, ValueError, "mask, weights: expected None for method SPA"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        factorize(torch.rand(6, 5), 2, **options)


class TestEstimator:
    @pytest.fixture
    def X(self):
        random = np.random.default_rng(0)
        return random.random((60, 3)) @ random.random((3, 12))

    def test_a_nan_is_refused_unless_it_is_ignored(self, X):
        X[3, 4] = np.nan
        for data in (X, torch.tensor(X)):
            with pytest.raises(ValueError, match="NaN"):
                NMF(3).fit(data)
            assert np.isfinite(NMF(3, missing="ignore").fit(data).reconstruction_err_)
        X[0, 0] = np.inf
        for data in (X, torch.tensor(X)):
            with pytest.raises(ValueError, match="infinity"):
                NMF(3, missing="ignore").fit(data)

    @pytest.mark.parametrize("solver", ["hals", *slow("anls")])
    def test_what_is_missing_is_filled_in(self, X, solver):
        known = np.random.default_rng(1).random(X.shape) > 0.3
        model = NMF(3, missing="ignore", solver=solver, max_iter=1000, tol=1e-6, random_state=0)
        W = model.fit_transform(np.where(known, X, np.nan))
        np.testing.assert_allclose(model.inverse_transform(W)[~known], X[~known], rtol=0.05)
        np.testing.assert_array_equal(W, model.transform(np.where(known, X, np.nan)))
        assert model.reconstruction_err_ == pytest.approx(np.linalg.norm((X - W @ model.components_)[known]), rel=1e-6)

    def test_transform_leaves_out_what_is_missing(self, X):
        model = NMF(3, missing="ignore", tol=1e-3, max_iter=1000).fit(X)
        new = X[:7].copy()
        new[0, :5], new[1, 2], new[2] = np.nan, np.nan, np.nan
        found = model.transform(new)
        for row, W in zip(new[[0, 1, 3]], found[[0, 1, 3]], strict=True):
            known = ~np.isnan(row)
            np.testing.assert_allclose(W, scipy_nnls(model.components_[:, known].T, row[known])[0], atol=1e-9)
        assert (found[2] == 0).all()

    def test_weights_of_samples_and_of_entries(self, X):
        X = X + 0.1 * np.random.default_rng(2).random(X.shape)
        weights = np.where(np.arange(60) < 30, 100.0, 0.01)
        options = {"random_state": 0, "max_iter": 500, "tol": 1e-3}
        model, plain = NMF(2, **options).fit(X, weights=weights), NMF(2, **options).fit(X)

        def error(model, rows):
            return np.linalg.norm(X[rows] - model.inverse_transform(model.transform(X[rows])))

        assert error(model, slice(30)) < error(plain, slice(30))
        assert error(model, slice(30, 60)) > error(plain, slice(30, 60))
        again = NMF(2, **options).fit(X, weights=np.repeat(weights[:, None], 12, 1))
        np.testing.assert_allclose(again.components_, model.components_, rtol=1e-9)
        with pytest.raises(ValueError, match=r"weights: expected a shape that broadcasts to \(n_samples, n_features\)"):
            NMF(2).fit(X, weights=np.ones(12))

    def test_weights_come_in_any_container(self, X):
        pandas = pytest.importorskip("pandas")
        weights = np.arange(1.0, 61.0)
        series = pandas.Series(weights, index=range(100, 160))
        reversed_, swapped = weights[::-1].copy()[::-1], weights.astype(">f8")
        model = NMF(2, random_state=0, tol=0, max_iter=5)
        expected = model.fit(X, weights=weights).components_
        for same in (series, series.to_frame(), weights.tolist(), reversed_, swapped):
            np.testing.assert_array_equal(model.fit(X, weights=same).components_, expected)
        with pytest.raises(ValueError, match="weights: expected numbers; got str"):
            model.fit(X, weights="balanced")


@methods
def test_what_nothing_is_known_of_is_zero(method):
    """Not what the start happened to hold there."""
    Y, known = random_matrix(2, 12, 10), mask_of(2, 12, 10)
    known[0, 3], known[1, :, 4] = False, False
    found = factorize(Y, 3, mask=known, method=method, init="random", tol=0.0, max_iter=5)
    assert (found.H == 0).all(-1).nonzero().tolist() == [[0, 3]]
    assert (found.W == 0).all(-2).nonzero().tolist() == [[1, 4]]
    fixed = torch.rand(12, 1).double()
    kept = factorize(Y, 3, mask=known, method=method, fixed=fixed, tol=0.0, max_iter=5)
    assert_close(kept.H[..., :1], fixed.expand(2, -1, -1))
    assert (kept.H[0, 3, 1:] == 0).all()


@pytest.mark.filterwarnings("ignore::diffnmf.errors.PredictionWarning")
def test_problems_with_even_and_uneven_weights_beside_each_other_are_as_alone():
    """For even weights one Gram matrix serves all columns, for uneven ones each has its own."""
    Y = random_matrix(3, 60, 50)
    known = (
        torch.rand(3, 60, 50, generator=torch.Generator().manual_seed(1))
        < torch.tensor([0.3, 0.9, 0.95])[:, None, None]
    )
    options = {"tol": 0.0, "max_iter": 20, "init": "random"}
    together = factorize(Y, 40, mask=known, seed=[0, 1, 2], **options)
    for i in range(3):
        alone = factorize(Y[i], 40, mask=known[i], seed=i, **options)
        assert_close(together.errors[:, i], alone.errors, rtol=1e-9, atol=0)


def test_the_rows_of_a_factor_are_shuffled_with_weights_too():
    Y, V = random_matrix(15, 12), random_matrix(15, 12, seed=1)
    start = {"H0": random_matrix(15, 4, seed=2), "W0": random_matrix(4, 12, seed=3)}
    options = {"weights": V, "max_iter": 12, "tol": 0.0, **start}
    by_shuffle = [factorize(Y, 4, method=HALS(shuffle=x, extrapolate=False), **options) for x in (False, True)]
    assert not torch.allclose(by_shuffle[0].H, by_shuffle[1].H, rtol=1e-6)
    for found in by_shuffle:
        assert (found.errors.diff() < 0).all()
        assert_close(found.errors[-1], weighted_error(Y, found.H, found.W, V))
    assert_close(by_shuffle[0].errors[-1], by_shuffle[1].errors[-1], rtol=0.05, atol=0)
