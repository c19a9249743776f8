"""Beta-divergences: the formulas, the iterates of scikit-learn, descent, zeros, weights at the minimum."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix
from scipy.optimize import minimize
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.decomposition import NMF as THEIRS
from sklearn.decomposition import non_negative_factorization
from torch.testing import assert_close

from diffnmf import NMF, Blocks, MiniBatchNMF
from diffnmf.factorization import MU, factorize
from diffnmf.factorization.reconstruction import Loss, weights_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]
BETAS = [-0.5, 0, 0.5, 1, 1.5, 2.5]


def divergence(Y, P, beta):
    """√(2 Σ d_β), from the formulas, for positive P."""
    Y, P = np.asarray(Y, dtype=float), np.asarray(P, dtype=float)
    if beta == 1:
        terms = np.where(Y > 0, Y * np.log(np.where(Y > 0, Y, 1) / P), 0) - Y + P
    elif beta == 0:
        terms = Y / P - np.log(Y / P) - 1
    else:
        terms = (Y**beta + (beta - 1) * P**beta - beta * Y * P ** (beta - 1)) / (beta * (beta - 1))
    return np.sqrt(2 * terms.sum())


def csr_tensor(Y):
    return torch.from_numpy(np.ascontiguousarray(Y)).to_sparse_csr()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_the_iterates_are_those_of_scikit_learn(beta, scale):
    Y = scale * (random_matrix(20, 9) + 0.05)
    H0, W0 = random_matrix(20, 4, seed=1), scale * random_matrix(4, 9, seed=2)
    weights, components, _ = non_negative_factorization(
        Y.T.numpy(), W=W0.T.numpy().copy(), H=H0.T.numpy().copy(), n_components=4, init="custom", solver="mu",
        beta_loss=beta, tol=0, max_iter=30, alpha_W=1e-3, l1_ratio=0.5,
    )  # fmt: skip
    penalties = {"l1_W": 20e-3 / 2, "ridge_W": 20e-3 / 2, "l1_H": 9e-3 / 2, "ridge_H": 9e-3 / 2}
    H, W, errors, *_ = factorize(Y, 4, method=MU(beta), H0=H0, W0=W0, tol=0.0, max_iter=30, **penalties)
    assert_close(H, torch.from_numpy(components.T), rtol=1e-6, atol=1e-9)
    assert_close(W, torch.from_numpy(weights.T), rtol=1e-6, atol=1e-9 * scale)
    assert float(errors[-1]) == pytest.approx(divergence(Y, H @ W, beta), rel=1e-9)


@pytest.mark.parametrize("beta", BETAS)
def test_the_divergence_never_increases(beta):
    Y = random_matrix(2, 15, 10) + 0.01
    errors = factorize(Y, 4, method=MU(beta), init="random", tol=1e-12, max_iter=200).errors
    assert (errors.diff(dim=0) <= 1e-12 * errors[0]).all()
    assert (errors[-1] < errors[0]).all()
    assert len(errors) == 201


def test_extrapolation_gets_further():
    for beta in (1.0, 1.5):
        Y = torch.poisson(5 * random_matrix(60, 80, rank=6), generator=torch.Generator().manual_seed(0))
        plain, ahead = (
            factorize(Y, 6, method=MU(beta, extrapolate=x), init="random", tol=0.0, max_iter=iterations).errors[-1]
            for x, iterations in ((False, 60), (True, 30))
        )
        assert ahead < plain
        later = factorize(Y, 6, method=MU(beta, extrapolate=True), init="random", tol=0.0, max_iter=500)
        assert later.errors[-1] < ahead


@pytest.mark.parametrize("name", ["kullback-leibler", 0.5, 1.5, 2.5])
def test_zeros_of_all_kinds(name):
    Y = torch.poisson(random_matrix(15, 12), generator=torch.Generator().manual_seed(1))
    Y[3], Y[:, 4] = 0, 0
    H, W, errors, *_ = factorize(Y, 4, method=MU(name), init="random", tol=0.0, max_iter=300)
    assert H.isfinite().all()
    assert W.isfinite().all()
    assert errors.isfinite().all()
    assert (H @ W)[3].max() < 0.1
    zero = factorize(torch.zeros(5, 4), 2, method=MU(name), tol=0.0, max_iter=10)
    assert zero.errors.isfinite().all()


def test_zeros_are_refused_where_they_cost_without_end():
    with pytest.raises(ValueError, match="Y: expected entries > 0 at beta_loss ≤ 0"):
        factorize(torch.zeros(5, 4), 2, method=MU("itakura-saito"))
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[0, 0] = False
    Y = torch.rand(5, 4) + 0.1
    Y[0, 0] = 0
    assert factorize(Y, 2, method=MU("itakura-saito"), mask=mask, tol=0.0, max_iter=5).errors.isfinite().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beta_loss": "hinge"}, ValueError, "beta_loss: expected one of frobenius, itakura-saito, kullback-leibler"),
        ({"beta_loss": None}, TypeError, "beta_loss: expected a finite number"),
        ({"beta_loss": float("nan")}, ValueError, "beta_loss: expected a finite number"),
        ({"beta_loss": 0.5, "extrapolate": True}, ValueError, r"extrapolate: expected False but for beta_loss in"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        MU(**options)


class TestEstimator:
    @pytest.fixture
    def X(self):
        random = np.random.default_rng(0)
        return random.poisson(5 * random.random((50, 3)) @ random.random((3, 12))).astype(float)

    @pytest.mark.parametrize("beta", ["kullback-leibler", 1.5, 0.5])
    def test_the_divergence_is_that_of_its_own(self, X, beta):
        theirs = THEIRS(3, solver="mu", beta_loss=beta, init="nndsvda", tol=0, max_iter=1000).fit(X)
        ours = NMF(3, solver="mu", beta_loss=beta, init="nndsvda", tol=0, max_iter=1000).fit(X)
        assert ours.reconstruction_err_ <= theirs.reconstruction_err_ * (1 + 1e-6)

    @pytest.mark.parametrize("penalty", [0.0, 0.01])
    @pytest.mark.parametrize("beta", [1.0, 1.7])
    def test_the_weights_are_at_the_minimum(self, X, beta, penalty):
        model = NMF(3, solver="mu", beta_loss=beta, tol=0, max_iter=50, alpha_W=penalty, l1_ratio=1.0).fit(X)
        H, l1 = model.components_, 12 * penalty

        def cost(w, row):
            return divergence(row, np.maximum(w @ H, 1e-12), beta) ** 2 / 2 + l1 * w.sum()

        for row, w in zip(X[:8], model.transform(X[:8]), strict=True):
            best = minimize(cost, w + 0.01, args=(row,), bounds=[(0, None)] * 3, tol=1e-14)
            assert cost(w, row) <= best.fun * (1 + 1e-7) + 1e-9

    def test_they_do_not_depend_on_the_company(self, X):
        model = NMF(3, solver="mu", beta_loss=1, tol=0, max_iter=50).fit(X)
        together = model.transform(X)
        alone = np.concatenate([model.transform(row[None]) for row in X])
        np.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(model.fit_transform(X), model.transform(X))

    @pytest.mark.parametrize("scale", [1e-14, 1e150])
    @pytest.mark.parametrize("beta", BETAS)
    def test_the_units_do_not_count(self, X, beta, scale):
        """Power spectra are tiny: their weights stopped far from the minimum, and their divergence was of a floor."""
        X = X + 0.1
        options = {"solver": "mu", "beta_loss": beta, "init": "random", "random_state": 0, "tol": 0, "max_iter": 30}
        usual, extreme = (NMF(3, **options).fit(x) for x in (X, scale * X))
        root = scale**0.5
        np.testing.assert_allclose(extreme.transform(scale * X) / root, usual.transform(X), rtol=1e-6, atol=1e-9)
        assert extreme.reconstruction_err_ / scale ** (beta / 2) == pytest.approx(usual.reconstruction_err_, rel=1e-9)
        size = divergence(X, usual.transform(X) @ usual.components_, beta)
        assert usual.reconstruction_err_ == pytest.approx(size, rel=1e-9)

    @pytest.mark.parametrize("beta", [1.0, 1.5])
    def test_the_units_of_sparse_data_do_not_count(self, X, beta):
        options = {"solver": "mu", "beta_loss": beta, "init": "random", "random_state": 0, "tol": 0, "max_iter": 30}
        dense, sparse = NMF(3, **options).fit(X), NMF(3, **options).fit(csr_array(1e-14 * X))
        assert sparse.reconstruction_err_ / 1e-14 ** (beta / 2) == pytest.approx(dense.reconstruction_err_, rel=1e-6)

    def test_penalties_have_the_units_of_the_data(self, X):
        """s^β / √s and s^β / s, as W and H count √s each."""
        H, found = np.random.default_rng(1).random((3, 12)), {}
        for scale in (1.0, 1e-14):
            alpha = 1e-2 * scale**0.5 * np.array([1.0, 0.0])
            found[scale] = weights_of(
                torch.from_numpy(H.T * scale**0.5), torch.from_numpy(X.T * scale), None, Loss(1.0, *alpha)
            )
        assert_close(found[1e-14] / 1e-14**0.5, found[1.0], rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("beta", [0.5, 1.0, 1.5, 2.5])
    def test_nor_does_the_length_of_a_component(self, X, beta, sparse):
        """Given components, such as reference spectra, have any: their weights stopped far from the minimum."""
        H = np.random.default_rng(1).random((12, 3))
        target = csr_tensor(X.T) if sparse else torch.from_numpy(X.T)
        usual = weights_of(torch.from_numpy(H), target, None, Loss(beta))
        for lengths in ([1.0, 1e4, 1e-4], [1.0, 1.0, 1e-6]):
            found = weights_of(torch.from_numpy(H * lengths), target, None, Loss(beta))
            assert_close(found * torch.tensor(lengths).double()[:, None], usual, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("penalty", [{"l1": 0.3}, {"ridge": 0.3}])
    @pytest.mark.parametrize("sparse", [False, True])
    def test_penalties_of_components_of_other_lengths(self, X, penalty, sparse):
        H = np.random.default_rng(1).random((12, 3)) * [1.0, 20.0, 0.05]
        target = csr_tensor(X.T) if sparse else torch.from_numpy(X.T)
        W = weights_of(torch.from_numpy(H), target, None, Loss(1.0, **penalty)).numpy()

        def cost(w, column):
            size = penalty.get("l1", 0) * w.sum() + penalty.get("ridge", 0) * (w @ w) / 2
            return divergence(column, np.maximum(H @ w, 1e-12), 1.0) ** 2 / 2 + size

        for column, w in list(zip(X, W.T, strict=True))[:8]:
            best = minimize(cost, w + 0.01, args=(column,), bounds=[(0, None)] * 3, tol=1e-14)
            assert cost(w, column) <= best.fun * (1 + 1e-7) + 1e-9

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("penalty", [{}, {"alpha_W": 0.01, "alpha_H": 0.0, "l1_ratio": 0.5}], ids=["", "penalty"])
    @pytest.mark.parametrize("beta", [0.0, 1.0, 1.5])
    def test_nor_does_a_louder_sample(self, X, beta, penalty, sparse):
        """Beside one 80 dB louder the weights of a quiet one were those of a floor, or zero."""
        X = X + 0.1
        model = NMF(3, solver="mu", beta_loss=beta, tol=0, max_iter=30, init="random", random_state=0).fit(X)
        if not penalty:
            quiet = np.concatenate([1e-10 * X[:25], X[25:]])
            whole = NMF(3, solver="mu", beta_loss=beta, tol=0, max_iter=30, init="random", random_state=0).fit(quiet)
            said = whole.transform(quiet) @ whole.components_
            assert whole.reconstruction_err_ == pytest.approx(divergence(quiet, said, beta), rel=1e-6)
        model.set_params(**penalty)
        quiet = np.concatenate([1e-8 * X[:3], X[3:6], 1e-10 * X[6:9], np.full((1, 12), 1e-5)])
        quiet = csr_array(quiet) if sparse and beta > 0 else quiet
        together = model.transform(quiet)
        alone = np.concatenate([model.transform(quiet[i : i + 1]) for i in range(10)])
        sizes = together.max(1, keepdims=True)
        if not penalty:
            assert (sizes > 0).all()
            np.testing.assert_allclose(together[:3] / 1e-8, model.transform(X[:3]), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(alone / np.maximum(sizes, 1e-300), together / np.maximum(sizes, 1e-300), atol=1e-7)

    def test_mini_batches_measure_in_every_unit(self, X):
        errors = [
            MiniBatchNMF(3, beta_loss=3.0, init="custom", max_iter=1, tol=0, max_no_improvement=None, batch_size=10)
            .fit(scale * X, H=scale**0.5 * np.random.default_rng(1).random((3, 12)))
            .reconstruction_err_
            / scale**1.5
            for scale in (2.0**-480, 1.0)
        ]
        assert errors[0] == pytest.approx(errors[1], rel=1e-6)

    @pytest.mark.parametrize(
        "model", [NMF(2, solver="mu"), MiniBatchNMF(2), MiniBatchNMF(2, transform_max_iter=5)], ids=str
    )
    def test_zeros_are_refused_by_transform_as_by_fit(self, X, model):
        model = clone(model).set_params(beta_loss="itakura-saito", tol=0, max_iter=2).fit(X + 0.1)
        zeros = X + 0.1
        zeros[1, 2] = 0.0
        for new in (zeros, csr_array(zeros)):
            with pytest.raises(ValueError, match="X: expected entries > 0 at beta_loss ≤ 0"):
                model.transform(new)
        if isinstance(model, NMF):
            with pytest.raises(ValueError, match="X: expected entries > 0"):
                model.transform(Blocks(zeros))
            counts = np.ones_like(zeros)
            counts[1, 2] = 0.0  # where nothing is known there may be a zero
            assert np.isfinite(model.transform(zeros, weights=counts)).all()
