"""MiniBatchNMF where not all of the data is known: NaN, masked arrays, and what sparse matrices do not store."""

import pickle

import numpy as np
import pytest
import torch
from scipy.sparse import csc_array, csr_array

from diffnmf import NMF, MiniBatchNMF
from diffnmf.errors import PredictionWarning
from diffnmf.factorization.mini_batch_learner import BatchOptions
from diffnmf.factorization.mini_batch_rules import Target, Visit
from diffnmf.factorization.sample_arrays import Samples

pytestmark = pytest.mark.usefixtures("one_thread")

PASSES = {"tol": 0.0, "max_no_improvement": None}


@pytest.fixture
def X():
    """300 samples of 20 features, made of 3 parts, with noise."""
    random = np.random.default_rng(0)
    return random.random((300, 3)) @ random.random((3, 20)) + 0.1 * random.random((300, 20))


@pytest.fixture
def known():
    return np.random.default_rng(1).random((300, 20)) > 0.3


def made(n_components=3, missing="ignore", **options):
    return MiniBatchNMF(n_components, missing=missing, **{"random_state": 0, "batch_size": 50, **options})


def hidden(X, known):
    return np.where(known, X, np.nan)


def stored(X, known):
    return csr_array((X[known], np.nonzero(known)), shape=X.shape)


def batches(X, size=50):
    return [X[start : start + size] for start in range(0, X.shape[0], size)]


def error_on_hidden(model, data, X, known):
    predicted = model.inverse_transform(model.transform(data))
    return np.linalg.norm((predicted - X)[~known]) / np.linalg.norm(X[~known])


class TestFit:
    @pytest.mark.parametrize("options", [{}, {"fresh_restarts": True}, {"forget_factor": 1.0}, {"init": "nndsvda"}])
    def test_what_is_hidden_is_predicted(self, X, known, options):
        Z = hidden(X, known)
        full = NMF(3, missing="ignore", tol=1e-4, max_iter=2000).fit(Z)
        model = made(max_iter=40, **PASSES, **options).fit(Z)
        assert model.reconstruction_err_ <= 1.1 * full.reconstruction_err_
        assert error_on_hidden(model, Z, X, known) <= 1.2 * error_on_hidden(full, Z, X, known) < 0.05
        filled = made(missing="error", max_iter=40, **PASSES).fit(np.where(known, X, 0.0))
        assert error_on_hidden(filled, np.where(known, X, 0.0), X, known) > 0.2

    def test_another_loss(self, X, known):
        Z = hidden(X, known)
        model = made(beta_loss="kullback-leibler", max_iter=200, **PASSES).fit(Z)
        assert error_on_hidden(model, Z, X, known) < 0.06

    @pytest.mark.parametrize("loss", ["kullback-leibler", 1.5])
    def test_another_loss_of_complete_data_is_as_ever(self, X, loss):
        one, other = (
            made(missing=missing, beta_loss=loss, max_iter=3, **PASSES).fit(X) for missing in ("ignore", "error")
        )
        np.testing.assert_array_equal(one.components_, other.components_)

    @pytest.mark.parametrize("penalties", [{}, {"alpha_W": 1e-3, "alpha_H": 1e-3, "l1_ratio": 0.5}])
    def test_the_end_is_a_stationary_point_of_what_is_known(self, X, known, penalties):
        """With all samples in one batch, and nothing remembered, it is block coordinate descent."""
        X, known = X[:60], known[:60]
        Z = hidden(X, known)
        model = made(batch_size=60, forget_factor=0.0, max_iter=400, **PASSES, **penalties)
        W, H = model.fit_transform(Z), model.components_
        residual = np.where(known, W @ H - X, 0.0)
        alpha, ratio = penalties.get("alpha_H", 0.0), penalties.get("l1_ratio", 0.0)
        gradient = W.T @ residual + alpha * 60 * (ratio + (1 - ratio) * H)
        slope = np.where(H > 0, gradient, np.minimum(gradient, 0.0))
        assert np.abs(slope).max() < 1e-4 * np.abs(W.T @ np.where(known, X, 0.0)).max()

    @pytest.mark.parametrize("kind", ["ignore", "unstored"])
    @pytest.mark.parametrize("forget_factor", [0.5, 1.0])
    def test_the_sums_hold_every_batch_once_with_its_latest_weights(self, X, known, kind, forget_factor):
        model = made(missing=kind, forget_factor=forget_factor, max_iter=4, **PASSES)
        data = hidden(X, known) if kind == "ignore" else stored(X, known)
        model.fit(data)
        model.set_params(fresh_restarts=True, fresh_restarts_max_iter=1)
        learner, options = model._learner, BatchOptions.of(model)
        learner.memory = options.rule(learner.Ht, 20).remember(learner.Ht)
        seen = {}
        for step in range(9):
            number, rho = step % 3, 0.9
            some = slice(50 * number, 50 * number + 50)
            samples = _samples(X[some], known[some], kind)
            for visit in seen.values():
                visit.share *= rho
            seen[number] = Visit(learner.step(samples, options, rho, seen.get(number))[0], 1.0)
        first, second = torch.triu_indices(3, 3)
        V = [torch.tensor(known[50 * i : 50 * i + 50], dtype=torch.float64) for i in range(3)]
        Y = [torch.tensor(X[50 * i : 50 * i + 50]) / learner.root**2 for i in range(3)]
        hold = sum(v.share * (v.W[:, first] * v.W[:, second]) @ V[i] for i, v in seen.items())
        pull = sum(v.share * v.W @ (V[i] * Y[i]) for i, v in seen.items())
        np.testing.assert_allclose(learner.memory.hold, hold, rtol=1e-10)
        np.testing.assert_allclose(learner.memory.pull, pull, rtol=1e-10)

    def test_a_batch_with_hardly_any_weight_is_taken_out_whole(self):
        """Beside the sums that there were, its own are rounding; as long as it is in, they are in."""
        V, Y = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]], dtype=torch.float64), torch.ones(1, 2, 3).double()
        Ht = torch.ones(1, 2, 2, dtype=torch.float64)
        rule = BatchOptions.of(made(2)).rule(Ht, 2)
        memory, last = rule.remember(Ht), None
        for small in (1.0, 1e-7, 1.5e-7, 2e-7):
            W = torch.tensor([[[1.0, 1.0, 1.0], [small, small, small]]], dtype=torch.float64)
            rule.improve_components(memory, 1.0, Target(Y * V, V), W, last, Ht)
            last = Visit(W, 1.0)
        first, second = torch.triu_indices(2, 2)
        np.testing.assert_allclose(memory.hold, (W[:, first] * W[:, second]) @ V.mT, rtol=1e-6, atol=1e-15)
        np.testing.assert_allclose(memory.pull, W @ (V * Y).mT, rtol=1e-6)

    @pytest.mark.parametrize("make", [csr_array, csc_array, lambda X: torch.tensor(X.toarray()).to_sparse_csr()])
    def test_what_is_not_stored_is_a_nan(self, X, known, make):
        Z, options = hidden(X, known), {"init": "custom", "max_iter": 3, **PASSES}
        H = np.random.default_rng(2).random((3, 20))
        dense, sparse = made(**options), made(missing="unstored", **options)
        dense.fit(Z, H=H)
        S = make(stored(X, known))
        sparse.fit(S, H=torch.tensor(H) if isinstance(S, torch.Tensor) else H)
        np.testing.assert_allclose(sparse.components_, dense.components_, rtol=1e-9)
        np.testing.assert_allclose(sparse.transform(S), dense.transform(Z), rtol=1e-9)
        assert sparse.reconstruction_err_ == pytest.approx(dense.reconstruction_err_, rel=1e-9)
        np.testing.assert_allclose(sparse.partial_fit(S).components_, dense.partial_fit(Z).components_, rtol=1e-8)

    def test_a_zero_that_is_stored_is_a_zero(self, X, known):
        X[:, :5] = 0
        model = made(missing="unstored", max_iter=40, **PASSES).fit(stored(X, known))
        assert model.components_[:, :5].max() < 1e-3

    @pytest.mark.parametrize("make", [np.asarray, csr_array, csc_array])
    def test_complete_data_is_as_without(self, X, make):
        """The sums of all features are then the same; what is not stored is a zero."""
        X[np.median(X) > X] = 0
        one, other = (
            made(missing=missing, init="nndsvda", max_iter=3, **PASSES).fit(make(X)) for missing in ("ignore", "error")
        )
        np.testing.assert_allclose(one.components_, other.components_, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("make", [torch.tensor, lambda Z: np.ma.masked_invalid(np.nan_to_num(Z, nan=-1.0))])
    def test_other_kinds_of_data(self, X, known, make):
        Z = hidden(X, known)
        options = {"max_iter": 3, **PASSES}
        expected = made(**options).fit(Z)
        data = torch.tensor(Z) if make is torch.tensor else np.ma.array(np.nan_to_num(Z, nan=7.0), mask=~known)
        np.testing.assert_allclose(made(**options).fit(data).components_, expected.components_, rtol=1e-12)

    def test_a_memory_map_is_not_read_as_a_whole(self, X, known, tmp_path):
        np.save(tmp_path / "X.npy", hidden(X, known))
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        options = {"max_iter": 3, **PASSES}
        expected = made(**options).fit(hidden(X, known)).components_
        np.testing.assert_array_equal(made(**options).fit(mapped).components_, expected)

    @pytest.mark.parametrize("kind", ["ignore", "unstored"])
    @pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
    def test_units_do_not_matter(self, X, known, kind, scale):
        make = hidden if kind == "ignore" else stored
        one, other = (made(missing=kind, max_iter=3, **PASSES).fit(make(x, known)) for x in (X, X * scale))
        np.testing.assert_allclose(other.components_, one.components_ * scale**0.5, rtol=1e-12)

    @pytest.mark.parametrize("kind", ["ignore", "unstored"])
    @pytest.mark.parametrize("options", [{}, {"alpha_W": 1e-3, "l1_ratio": 0.5}])
    def test_transform_max_iter(self, X, known, kind, options):
        data = hidden(X, known) if kind == "ignore" else stored(X, known)
        H = np.random.default_rng(2).random((3, 20))
        model = made(missing=kind, init="custom", max_iter=5, **PASSES, **options).fit(data, H=H)
        exact = model.transform(data)
        far, near = (model.set_params(transform_max_iter=number).transform(data) for number in (1, 500))
        np.testing.assert_allclose(near, exact, atol=1e-6)
        assert np.abs(far - exact).max() > 1e-2

    def test_float32(self, X, known):
        Z = hidden(X, known).astype(np.float32)
        model = made(max_iter=40, **PASSES).fit(Z)
        assert model.components_.dtype == np.float32
        assert error_on_hidden(model, Z, X, known) < 0.05

    def test_where_nothing_is_known(self, X, known):
        known[7], known[:, 4] = False, False
        Z = hidden(X, known)
        H = np.random.default_rng(2).random((3, 20))
        model = made(init="custom", max_iter=5, **PASSES)
        W = model.fit_transform(Z, H=H)
        assert (W[7] == 0).all()
        np.testing.assert_allclose(model.components_[:, 4], H[:, 4], rtol=1e-12)  # as it was
        penalized = made(init="custom", alpha_W=1e-3, alpha_H=1e-3, max_iter=50, **PASSES).fit(Z, H=H)
        assert penalized.components_[:, 4].max() < 1e-6

    def test_what_weights_of_zero_leave_is_not_learnt_from(self):
        """Sums of which all has been taken out again hold rounding: components of 1e74 came of it."""
        random = np.random.default_rng(0)
        W = np.zeros((1000, 5))
        W[np.arange(1000), np.arange(1000) // 200] = random.random(1000) + 0.5
        H = np.kron(np.eye(5), np.ones((1, 40))) * random.random((5, 200))
        Z = np.where(random.random((1000, 200)) < 0.05, W @ H, np.nan)
        model = made(5, batch_size=100, max_iter=60, **PASSES)
        with pytest.warns(PredictionWarning):
            model.fit(Z)
        assert model.components_.max() < 1e6


class TestStreams:
    @pytest.mark.parametrize("kind", ["ignore", "unstored"])
    def test_an_iterator_is_partial_fit_over_its_batches(self, X, known, kind):
        parts = batches((hidden if kind == "ignore" else stored)(X, known))
        streamed, stepwise = made(missing=kind), made(missing=kind)
        streamed.fit(iter(parts))
        for number, part in enumerate(parts):
            if number == 3:  # it is kept with all that it remembers
                stepwise = pickle.loads(pickle.dumps(stepwise))
            stepwise.partial_fit(part)
        np.testing.assert_array_equal(streamed.components_, stepwise.components_)

    def test_batches_that_are_complete_count_too(self, X, known):
        known[50:150] = True
        assert error_on_hidden(made(max_iter=20, **PASSES).fit(batches(hidden(X, known))), X, X, ~known) < 0.05

    def test_a_stream_that_begins_with_nothing_known(self, X, known):
        Z = hidden(X, known)
        nothing = np.full((50, 20), np.nan)
        model = made().fit(iter([nothing, *batches(Z)]))
        assert model.components_.max() > 0
        assert np.isfinite(model.components_).all()

    def test_it_does_not_go_on_with_another_kind(self, X, known):
        model = made().partial_fit(hidden(X, known))
        with pytest.raises(ValueError, match="missing: expected 'ignore', as in the batches before; got 'error'"):
            model.set_params(missing="error").partial_fit(X)


class TestWarnings:
    def test_predictions_far_above_what_is_known(self, X):
        """A pixel is known in one sample alone, in which its component hardly is."""
        known = np.ones((300, 20), dtype=bool)
        Y = np.zeros((300, 20))
        Y[:, :10] = np.random.default_rng(0).random((300, 1)) + 0.5
        Y[:100, 10:] = 1.0
        Y[0, :10], Y[0, 10:] = 1e-5, 1.0
        known[1:, 5] = False
        Y[0, 5] = 1.0
        model = MiniBatchNMF(2, missing="ignore", init="custom", batch_size=300, max_iter=1, **PASSES)
        H = np.repeat(np.eye(2), 10, axis=1)
        H[0, 5] = 1e4
        with pytest.warns(PredictionWarning, match=r"predicted up to .*: too little .* \(raise alpha_W") as seen:
            model.fit(hidden(Y, known), H=H)
        assert len(seen) == 1
        assert seen[0].filename == __file__
        with pytest.warns(PredictionWarning):
            model.transform(hidden(Y, known))

    def test_without_gaps_there_is_none(self, X):
        made(max_iter=2, **PASSES).fit(X)


class TestMessages:
    @pytest.mark.parametrize(
        ("missing", "data", "message"),
        [
            ("error", "nan", r"X: expected finite numbers; Input X contains NaN .*missing='ignore' takes a NaN"),
            ("error", "nan tensor", "X: expected finite numbers; Input X contains NaN .*missing='ignore' takes a NaN"),
            ("unstored", "nan", "X: expected finite numbers; Input X contains NaN .*leave it out of the sparse X"),
            ("unstored", "dense", "X: expected a sparse matrix with missing='unstored'; got a dense one"),
            ("ignore", "infinite", "Input X contains infinity"),
            ("ignore", "sparse nan", r"X: expected finite numbers in a sparse matrix; .* \(use a dense X\)"),
            ("ignore", "negative", "Negative values in data passed to NMF; X: expected entries ≥ 0, got -1"),
            ("zero", "dense", "missing: expected one of error, ignore, unstored; got 'zero'"),
        ],
    )
    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_wrong_data(self, X, known, missing, data, message, method):
        Z = hidden(X, known)
        infinite, negative = Z.copy(), Z.copy()
        infinite[0, 0], negative[0, 0] = np.inf, -1.0
        kinds = {
            "nan": Z if missing == "error" else csr_array(Z),
            "nan tensor": torch.tensor(Z),
            "dense": X,
            "infinite": infinite,
            "sparse nan": csr_array(Z),
            "negative": negative,
        }
        with pytest.raises(ValueError, match=message):
            getattr(made(missing=missing), method)(kinds[data])

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_another_loss_of_what_is_stored(self, X, known, method):
        with pytest.raises(ValueError, match="beta_loss: expected 'frobenius' with missing='unstored'"):
            getattr(made(missing="unstored", beta_loss="kullback-leibler"), method)(stored(X, known))


def _samples(X, known, kind):
    if kind == "unstored":
        S = stored(X, known)
        parts = (torch.tensor(x.astype(np.int64)) for x in (S.indptr, S.indices))
        return Samples(
            torch.sparse_csr_tensor(*parts, torch.tensor(S.data), size=X.shape, check_invariants=True).mT, None, True
        )
    return Samples(torch.tensor(hidden(X, known)).mT, torch.tensor(known, dtype=torch.float64).mT)
