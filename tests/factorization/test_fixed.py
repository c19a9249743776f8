"""Components that are known, and several starts at once."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch.testing import assert_close

from diffnmf import NMF, nnls
from diffnmf.factorization import HALS, MU, factorize, replicate

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]
METHODS = ["hals", "anls", "mu", HALS(extrapolate=False), MU(1.0), MU(1.0, extrapolate=True)]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_they_stay_and_the_rest_is_found(method, scale):
    H, W = random_matrix(2, 30, 4), scale * random_matrix(2, 4, 20, seed=1)
    known = H[..., :2]
    result = factorize(H @ W, 4, fixed=known, method=method, tol=0.0, max_iter=400)
    assert torch.equal(result.H[..., :2], known)
    assert (result.errors[-1] < (0.01 if method in ("hals", "anls") else result.errors[0])).all()


@pytest.mark.parametrize("method", [HALS(extrapolate=False), "anls", "mu"], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_never_increases(method, weighted):
    Y, known = random_matrix(15, 12), random_matrix(15, 2, seed=4)
    weights = 0.1 + random_matrix(15, 12, seed=5) if weighted else None
    result = factorize(Y, 5, fixed=known, weights=weights, method=method, init="random", tol=0.0, max_iter=40)
    assert (result.errors.diff() <= 1e-12).all()
    assert torch.equal(result.H[:, :2], known)


def test_all_of_them_known_is_non_negative_least_squares():
    Y, known = random_matrix(15, 12), random_matrix(15, 3, seed=4)
    for method in ("hals", "anls"):
        result = factorize(Y, 3, fixed=known, method=method, tol=1e-10, max_iter=500)
        assert result.converged
        assert_close(result.W, nnls(known, Y).W, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["hals", "anls", "mu", HALS(shuffle=True), MU(1.0)])
@pytest.mark.parametrize("hidden", [False, True])
def test_all_of_them_known_in_every_method_under_penalties(method, hidden):
    """The start is not the end there: iterations have a factor H of which no column moves."""
    Y, known = random_matrix(15, 12), random_matrix(15, 3, seed=4)
    exact = method in ("hals", "anls")
    options = {"mask": Y > 0.2} if hidden else {}
    result = factorize(
        Y, 3, fixed=known, method=method, ridge_W=1.0, tol=0.0, max_iter=1000 if exact else 25, **options
    )
    assert torch.equal(result.H, known)
    if exact:
        weights = (Y > 0.2).to(Y.dtype) if hidden else None
        assert_close(result.W, nnls(known, Y, ridge=1.0, weights=weights).W, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("batch", [(), (2,), (0,)])
def test_none_of_them_known(batch):
    """A selection of columns may be empty."""
    Y = random_matrix(*batch, 15, 12)
    result = factorize(Y, 3, fixed=Y[..., :0], tol=0.0, max_iter=5)
    assert torch.equal(result.H, factorize(Y, 3, tol=0.0, max_iter=5).H)


def test_with_a_start_of_ones_own_and_a_sparse_matrix():
    Y, known = random_matrix(15, 12), random_matrix(15, 2, seed=4)
    H0 = random_matrix(15, 4, seed=6)
    result = factorize(Y, 4, fixed=known, H0=H0, tol=0.0, max_iter=0)
    assert_close(result.H, torch.cat((known, H0[:, 2:]), 1))
    sparse = (Y * (Y > 0.7)).to_sparse_csr()
    for method in ("hals", "anls", "mu", MU(1.0)):
        result = factorize(sparse, 4, fixed=known, method=method, tol=0.0, max_iter=10)
        assert torch.equal(result.H[:, :2], known)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fixed": torch.ones(6, 3)}, ValueError, "fixed: expected at most k = 2 columns"),
        ({"fixed": -torch.ones(6, 1)}, ValueError, "fixed: expected entries ≥ 0"),
        ({"fixed": torch.ones(5, 1)}, ValueError, r"fixed: expected a shape that broadcasts to \(6, 1\)"),
        ({"fixed": torch.ones(6, 1), "method": "merge"}, ValueError, "fixed: expected None for method Merge"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        factorize(torch.rand(6, 5), 2, **options)


class TestEstimator:
    def test_fixed_and_starts_from_another_model(self):
        X = random_matrix(60, 12, rank=4).numpy()
        first = NMF(3, tol=0, max_iter=20, random_state=0).fit(X)
        model = NMF(4, fixed=first.components_[:2], tol=0, max_iter=50).fit(X)
        np.testing.assert_array_equal(model.components_[:2], first.components_[:2])
        again = NMF(init=first, tol=0, max_iter=0).fit(X)
        np.testing.assert_allclose(again.components_, first.components_)
        assert NMF(init=first, tol=0, max_iter=5).fit(X).reconstruction_err_ <= first.reconstruction_err_
        custom = NMF(init="custom", tol=0, max_iter=0).fit(X, H=first.components_)
        np.testing.assert_allclose(custom.components_, first.components_)

    def test_a_model_to_start_from_survives_clone_where_it_is_frozen(self):
        X = np.random.default_rng(0).random((30, 8))
        first = NMF(3, random_state=0, tol=0, max_iter=20).fit(X)
        frozen = clone(NMF(3, init=FrozenEstimator(first), tol=0, max_iter=0)).fit(X)
        np.testing.assert_allclose(frozen.components_, first.components_)
        with pytest.raises(ValueError, match=r"init: expected a fitted NMF.*FrozenEstimator"):
            clone(NMF(3, init=first)).fit(X)

    def test_the_best_of_several_starts(self):
        X = random_matrix(50, 20).numpy()
        options = {"random_state": 0, "max_iter": 100, "tol": 0}
        one, many = (NMF(6, init="random", n_init=n, **options).fit(X).reconstruction_err_ for n in (1, 8))
        assert many <= one * 1.001
        first, again = (NMF(6, n_init=3, **options).fit(X).components_ for _ in range(2))
        np.testing.assert_array_equal(first, again)


class TestReplicates:
    def test_each_is_the_factorisation_of_its_seed(self):
        Y = random_matrix(20, 15)
        found = replicate(Y, 3, n_init=4, tol=0.0, max_iter=30)
        assert found.factors.H.shape == (4, 20, 3)
        last = found.factors.errors[-1]
        assert (last[found.order].diff() >= 0).all()
        assert float(found.best.errors[-1]) == float(last.min())
        assert len(set(last.tolist())) == 4
        batch = factorize(Y.expand(2, 20, 15), 3, init="random", seed=[3, 9], tol=0.0, max_iter=30)
        for i, seed in enumerate((3, 9)):
            assert_close(batch.H[i], factorize(Y, 3, init="random", seed=seed, tol=0.0, max_iter=30).H)

    def test_an_array_is_named(self):
        with pytest.raises(TypeError, match="Y: expected a torch.Tensor; got ndarray"):
            replicate(np.ones((4, 3)), 2)

    def test_pieces_and_sparse_matrices(self, monkeypatch):
        from diffnmf.factorization import replicates

        Y = random_matrix(20, 15) * (random_matrix(20, 15, seed=1) < 0.3)
        whole = replicate(Y, 3, n_init=4, tol=1e-2, max_iter=300)
        monkeypatch.setattr(replicates, "ENTRIES", 300)
        pieces = replicate(Y, 3, n_init=4, tol=1e-2, max_iter=300)
        assert_close(pieces.factors.errors, whole.factors.errors)
        sparse = replicate(Y.to_sparse_csr(), 3, n_init=4, tol=0.0, max_iter=10)
        assert_close(sparse.factors.errors, replicate(Y, 3, n_init=4, tol=0.0, max_iter=10).factors.errors)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_init": 0}, "n_init: expected an int ≥ 1"),
            ({"init": "spa"}, "init: expected one that draws"),
            ({"Y": torch.rand(2, 5, 4)}, r"Y: expected a single matrix"),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            replicate(**{"Y": torch.rand(6, 5), "k": 2, **options})

    def test_as_many_seeds_as_problems(self):
        with pytest.raises(ValueError, match="seed: expected an int, or 3 of them"):
            factorize(torch.rand(3, 5, 4), 2, init="random", seed=[1, 2])


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_fixed_columns_whose_squares_leave_the_range_are_refused(scale):
    """W would be zero or no number, without a word."""
    Y, fixed = random_matrix(20, 15).float(), random_matrix(20, 2).float()
    with pytest.raises(ValueError, match="fixed: expected columns whose squares can be represented in torch.float32"):
        factorize(Y, 3, fixed=fixed * scale)
    for fine in (1e-12, 1e12):
        found = factorize(Y, 3, fixed=fixed * fine, init="random", tol=0.0, max_iter=20)
        assert_close(
            found.errors[-1],
            factorize(Y, 3, fixed=fixed, init="random", tol=0.0, max_iter=20).errors[-1],
            rtol=1e-2,
            atol=0,
        )
