"""diffnmf.MiniBatchNMF: the checks of scikit-learn, sums, streams, stopping, and what it says when things go wrong."""

import pickle

import numpy as np
import pytest
import torch
from scipy.sparse import csc_array, csr_array
from sklearn import decomposition
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import DataLoader, TensorDataset

from diffnmf import NMF, MiniBatchNMF, non_negative_factorization
from diffnmf.factorization import HALS
from diffnmf.factorization.mini_batch_fit import Watch
from diffnmf.factorization.mini_batch_learner import BatchOptions
from diffnmf.factorization.mini_batch_rules import Memory, Visit
from diffnmf.factorization.sample_arrays import Samples

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES = ["frobenius", "kullback-leibler"]


@pytest.fixture
def X():
    """300 samples of 12 features, made of 3 parts, with noise."""
    random = np.random.default_rng(0)
    return random.random((300, 3)) @ random.random((3, 12)) + 0.05 * random.random((300, 12))


def made(n_components=3, **options):
    return MiniBatchNMF(n_components, **{"random_state": 0, "batch_size": 50, **options})


def batches(X, size=50):
    return [X[start : start + size] for start in range(0, len(X), size)]


class TestScikitLearn:
    # They fit noise with few iterations, which does not converge and is not meant to.
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
    @parametrize_with_checks(
        [
            MiniBatchNMF(max_iter=5),
            MiniBatchNMF(2, max_iter=5, batch_size=30, init="nndsvd", alpha_W=0.01, l1_ratio=0.5, fresh_restarts=True),
            MiniBatchNMF(2, beta_loss="kullback-leibler", transform_max_iter=20, tol=0.0, max_iter=5),
            MiniBatchNMF(2, missing="ignore", max_iter=5),
        ]
    )
    def test_every_check(self, estimator, check):
        check(estimator)

    def test_its_parameters_are_those_of_scikit_learn_and_three_more(self):
        theirs, ours = decomposition.MiniBatchNMF().get_params(), MiniBatchNMF().get_params()
        assert {name: ours[name] for name in theirs} == theirs
        assert set(ours) - set(theirs) == {"device", "dtype", "missing"}

    def test_attributes(self, X):
        model = made(max_iter=3, tol=0.0)
        W = model.fit_transform(X)
        assert model.components_.shape == (3, 12)
        assert W.shape == (300, 3)
        assert min(W.min(), model.components_.min()) >= 0
        assert model.n_components_ == 3
        assert model.n_features_in_ == 12
        assert 0 <= 6 * model.n_iter_ - model.n_steps_ < 6
        assert model.reconstruction_err_ == pytest.approx(np.linalg.norm(X - W @ model.components_), rel=1e-12)
        assert list(model.get_feature_names_out()) == ["minibatchnmf0", "minibatchnmf1", "minibatchnmf2"]
        np.testing.assert_allclose(model.inverse_transform(W), W @ model.components_, rtol=1e-12)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_clone_pickle_and_set_output(self, X, loss):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(X, columns=list("abcdefghijkl"))
        model = made(beta_loss=loss, max_iter=3, tol=0.0).set_output(transform="pandas")
        assert list(model.fit_transform(frame).columns) == ["minibatchnmf0", "minibatchnmf1", "minibatchnmf2"]
        assert list(model.feature_names_in_) == list("abcdefghijkl")
        assert clone(model).get_params() == model.get_params()
        loaded = pickle.loads(pickle.dumps(model))
        for one in (model, loaded):  # both go on from where they were
            one.partial_fit(frame)
        np.testing.assert_array_equal(loaded.components_, model.components_)
        np.testing.assert_array_equal(loaded.transform(frame), model.transform(frame))


class TestFit:
    def test_it_ends_near_the_error_of_nmf(self, X):
        full = NMF(3, random_state=0, tol=1e-4, max_iter=2000).fit(X)
        batchwise = made(batch_size=100, max_iter=120, tol=0.0, max_no_improvement=None).fit(X)
        assert batchwise.reconstruction_err_ <= 1.02 * full.reconstruction_err_

    def test_with_fresh_restarts_a_pass_is_one_over_a_stream(self, X):
        """Nothing is left of the weights before, so that the batches might as well come from anywhere."""
        options = {"init": "custom", "max_iter": 1, "tol": 0.0, "fresh_restarts_max_iter": 5}
        H = np.random.default_rng(1).random((3, 12))
        matrix = made(fresh_restarts=True, **options).fit(X, W=np.ones((300, 3)), H=H)
        np.testing.assert_array_equal(matrix.components_, made(**options).fit(batches(X), H=H).components_)
        other = made(**options).fit(X, W=np.ones((300, 3)), H=H)
        assert not np.allclose(other.components_, matrix.components_)

    @pytest.mark.parametrize("loss", [1.0, 1.5])
    def test_other_losses_go_the_way_of_scikit_learn(self, X, loss):
        X = X / X.max()
        random = np.random.default_rng(1)
        start = {"W": random.random((300, 3)), "H": random.random((3, 12))}
        options = {"n_components": 3, "init": "custom", "batch_size": 50, "beta_loss": loss, "alpha_W": 1e-4}
        ours, theirs = (
            kind(**options, l1_ratio=0.5, tol=0.0, max_iter=2, max_no_improvement=None)
            for kind in (MiniBatchNMF, decomposition.MiniBatchNMF)
        )
        for model in (ours, theirs):
            model.fit(X, **{name: factor.copy() for name, factor in start.items()})
        np.testing.assert_allclose(ours.components_, theirs.components_, rtol=1e-6)

    def test_other_losses_go_the_way_of_scikit_learn_batch_by_batch(self, X):
        X = X / X.max()
        H = np.random.default_rng(1).random((3, 12))
        options = {"n_components": 3, "init": "custom", "batch_size": 50, "beta_loss": "kullback-leibler"}
        ours, theirs = (kind(**options) for kind in (MiniBatchNMF, decomposition.MiniBatchNMF))
        for model in (ours, theirs):
            start = H.copy()
            for batch in batches(X):
                model.partial_fit(batch, W=np.ones((50, 3)), H=start)
        np.testing.assert_allclose(ours.components_, theirs.components_, rtol=1e-6)

    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.parametrize("alpha_W", [0.0, 1e-3])
    @pytest.mark.parametrize("init", [None, "custom"])
    def test_other_losses_learn_from_large_numbers(self, X, init, alpha_W):
        """A start of the size of Y, not of its root, outweighed the batches: H hardly moved, which ended the fit."""
        errors = []
        for scale in (1.0, 2.0**40):
            model = made(beta_loss="kullback-leibler", init=init, batch_size=25, max_iter=20)
            model.set_params(alpha_W=scale**0.5 * alpha_W, alpha_H=0.0, l1_ratio=1.0)
            model.fit(scale * X, H=scale * X[:3] if init == "custom" else None)
            errors.append(model.reconstruction_err_ / scale**0.5)
            assert model.n_iter_ == 20
        assert errors[1] < 2 * errors[0]

    def test_a_few_passes_are_below_what_scikit_learn_reaches_from_the_same_start(self, X):
        random = np.random.default_rng(1)
        start = {"W": random.random((300, 3)), "H": random.random((3, 12))}
        options = {"n_components": 3, "init": "custom", "batch_size": 50, "tol": 0.0, "max_no_improvement": None}
        ours = MiniBatchNMF(**options, max_iter=3).fit(X, **start)
        theirs = decomposition.MiniBatchNMF(**options, max_iter=30).fit(X, **{x: start[x].copy() for x in start})
        W, H, _ = non_negative_factorization(X, H=theirs.components_, update_H=False)
        assert ours.reconstruction_err_ < np.linalg.norm(X - W @ H)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_one_batch_and_nothing_remembered_is_the_full_method(self, X, loss):
        options = {"beta_loss": loss, "init": "random", "random_state": 0, "tol": 0.0, "max_iter": 40}
        solver = "mu" if loss == "kullback-leibler" else HALS(extrapolate=False, revive=False)
        whole = MiniBatchNMF(3, batch_size=300, forget_factor=0.0, max_no_improvement=None, **options).fit(X)
        full = NMF(3, solver=solver, **options).fit(X)
        np.testing.assert_allclose(whole.components_, full.components_, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("forget_factor", [0.5, 1.0])
    def test_the_sums_hold_every_batch_once_with_its_latest_weights(self, X, forget_factor):
        model = made(forget_factor=forget_factor, max_iter=4, tol=0.0, max_no_improvement=None).fit(X)
        seen, parts = {}, batches(X)
        model.set_params(fresh_restarts=True, fresh_restarts_max_iter=1)
        learner, options = model._learner, BatchOptions.of(model)
        learner.memory = options.rule(learner.Ht, 12).remember(learner.Ht)
        for step in range(9):
            number, rho = step % 3, 0.9
            samples = Samples(torch.tensor(parts[number]).mT)
            for visit in seen.values():
                visit.share *= rho
            seen[number] = Visit(learner.step(samples, options, rho, seen.get(number))[0], 1.0)
        hold = sum(v.share * v.W @ v.W.mT for v in seen.values())
        pull = sum(v.share * v.W @ torch.tensor(parts[i] / learner.root**2) for i, v in seen.items())
        np.testing.assert_allclose(learner.memory.hold, hold, rtol=1e-10)
        np.testing.assert_allclose(learner.memory.pull, pull, rtol=1e-10)
        assert learner.memory.samples == pytest.approx(50 * sum(v.share for v in seen.values()))

    def test_penalties_are_those_of_nmf(self, X):
        options = {"alpha_W": 0.02, "alpha_H": 0.001, "l1_ratio": 0.5, "random_state": 0}
        full = NMF(3, tol=1e-6, max_iter=5000, **options).fit(X)
        batchwise = MiniBatchNMF(3, batch_size=100, tol=0.0, max_iter=120, max_no_improvement=None, **options).fit(X)
        objectives = [_objective(X, model, **options) for model in (full, batchwise)]
        assert objectives[1] == pytest.approx(objectives[0], rel=0.01)
        assert _objective(X, NMF(3, random_state=0, tol=1e-3, max_iter=2000).fit(X), **options) > 1.02 * objectives[0]

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("make", [csr_array, csc_array, lambda X: torch.tensor(X).to_sparse_csr()])
    def test_sparse_is_dense(self, X, loss, make):
        X[np.median(X) > X] = 0
        options = {"beta_loss": loss, "init": "nndsvda", "max_iter": 3, "tol": 0.0}
        dense, sparse = made(**options), made(**options)
        W = dense.fit_transform(X)
        np.testing.assert_allclose(sparse.fit_transform(make(X)), W, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(sparse.partial_fit(make(X)).components_, dense.partial_fit(X).components_, rtol=1e-6)
        assert isinstance(sparse.components_, torch.Tensor) == isinstance(make(X), torch.Tensor)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
    def test_units_do_not_matter(self, X, loss, scale):
        options = {"beta_loss": loss, "init": "random", "max_iter": 4}
        plain, scaled = (made(**options, tol=0.0).fit(np.float32(x)) for x in (X, scale * X))
        np.testing.assert_allclose(scaled.components_, scale**0.5 * plain.components_, rtol=1e-4, atol=0)

    def test_a_file_that_cannot_be_written_to(self, X, tmp_path):
        np.save(tmp_path / "X.npy", X)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        options = {"max_iter": 2, "tol": 0.0}
        np.testing.assert_array_equal(made(**options).fit(mapped).components_, made(**options).fit(X).components_)

    def test_tensors_in_tensors_out(self, X):
        tensor = torch.tensor(X, dtype=torch.float32, requires_grad=True)
        model = made(max_iter=2, tol=0.0)
        W = model.fit_transform(tensor)
        for result in (W, model.components_, model.inverse_transform(W), model.transform(tensor)):
            assert isinstance(result, torch.Tensor)
            assert result.dtype == torch.float32
            assert not result.requires_grad
        assert torch.equal(W, model.transform(tensor))
        assert made(dtype="float64", max_iter=1, tol=0.0).fit(tensor).components_.dtype == torch.float64
        assert isinstance(model.transform(X), np.ndarray)

    def test_transform_max_iter(self, X):
        model = made(max_iter=2, tol=0.0).fit(X)
        exact = model.transform(X)
        errors = []
        for iterations in (1, 10, 500):
            near = model.set_params(transform_max_iter=iterations, tol=0.0).transform(X)
            errors.append(np.abs(near - exact).max())
        assert errors[0] > errors[1] > 0
        assert errors[2] < 1e-6

    def test_a_start_from_some_of_many_samples(self, X):
        many = np.tile(X, (10, 1))  # more than the start looks at
        model, again = (made(batch_size=500, max_iter=2, tol=0.0).fit(many) for _ in range(2))
        np.testing.assert_array_equal(again.components_, model.components_)
        other = made(batch_size=500, max_iter=2, tol=0.0, random_state=1).fit(many)
        assert not np.array_equal(model.components_, other.components_)
        assert model.reconstruction_err_ < 0.1 * np.linalg.norm(many)


class TestStreams:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_an_iterator_is_partial_fit_over_its_batches(self, X, loss):
        streamed, by_hand = made(beta_loss=loss).fit(iter(batches(X))), made(beta_loss=loss)
        for batch in batches(X):
            by_hand.partial_fit(batch)
        np.testing.assert_array_equal(streamed.components_, by_hand.components_)
        assert streamed.n_steps_ == by_hand.n_steps_ == 6
        assert streamed.n_iter_ == 1
        assert not hasattr(streamed, "reconstruction_err_")

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_batch_that_is_interrupted_can_be_given_again(self, X, loss, monkeypatch):
        """As in a notebook: half of it in the sums would be learnt twice."""
        first, second = batches(X)[:2]
        expected = made(beta_loss=loss).partial_fit(first).partial_fit(second)
        model, whole = made(beta_loss=loss).partial_fit(first), Memory.add

        def interrupted(*arguments):
            whole(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Memory, "add", interrupted)
            model.partial_fit(second)
        np.testing.assert_array_equal(model.partial_fit(second).components_, expected.components_)

    def test_the_error_is_not_that_of_parts_before(self, X):
        model = made(max_iter=1, tol=0.0).fit(X)
        assert hasattr(model, "reconstruction_err_")
        assert not hasattr(model.partial_fit(X[:50]), "reconstruction_err_")
        assert not hasattr(model.fit(X).fit(iter(batches(10 * X))), "reconstruction_err_")

    @pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, csr_array])
    @pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
    def test_a_stream_that_begins_with_silence(self, X, loss, make):
        """A start from zeros is zero, and stayed so for ever."""
        zeros = [make(np.zeros((50, 12))) for _ in range(2)]
        parts = [*zeros, *(make(batch) for batch in batches(X))]
        by_hand = made(beta_loss=loss)
        for batch in parts:
            by_hand.partial_fit(batch)
        for model in (made(beta_loss=loss).fit(iter(parts)), by_hand):
            error = np.linalg.norm(X - model.inverse_transform(model.transform(X)))
            assert error < 0.3 * np.linalg.norm(X)
            assert model.n_steps_ == 8
        assert not made().fit(zeros).components_.any()

    def test_a_loader(self, X):
        images = torch.tensor(X).reshape(300, 1, 3, 4)
        loader = DataLoader(TensorDataset(images, torch.arange(300)), batch_size=50)
        model = made(max_iter=20, tol=0.0, max_no_improvement=None).fit(loader)
        same = made(max_iter=20, tol=0.0, max_no_improvement=None).fit(batches(X))
        assert model.n_iter_ == 20
        assert model.n_steps_ == 120
        assert isinstance(model.components_, torch.Tensor)
        np.testing.assert_array_equal(model.components_, same.components_)
        error = np.linalg.norm(X - same.inverse_transform(same.transform(X)))
        assert error < 1.1 * NMF(3, random_state=0, max_iter=2000).fit(X).reconstruction_err_

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_a_list_of_batches_with_labels(self, X, kind):
        pairs = [kind((batch, np.zeros(50))) for batch in batches(X)]
        options = {"max_iter": 2, "tol": 0.0}
        plain, labelled = made(**options).fit(batches(X)), made(**options).fit(kind(pairs))
        np.testing.assert_array_equal(labelled.components_, plain.components_)

    def test_several_passes_are_better_than_one(self, X):
        errors = []
        for max_iter in (1, 10):
            model = made(max_iter=max_iter, init="random", tol=0.0, max_no_improvement=None).fit(batches(X))
            errors.append(np.linalg.norm(X - model.inverse_transform(model.transform(X))))
        assert errors[1] < errors[0]

    def test_sparse_batches(self, X):
        X[np.median(X) > X] = 0
        dense, sparse = made(init="nndsvda").fit(iter(batches(X))), made(init="nndsvda")
        sparse.fit(csr_array(batch) for batch in batches(X))
        np.testing.assert_allclose(sparse.components_, dense.components_, rtol=1e-6, atol=1e-9)

    def test_a_list_of_rows_is_a_matrix(self, X):
        rows = made(max_iter=2, tol=0.0).fit(X.tolist())
        np.testing.assert_array_equal(rows.components_, made(max_iter=2, tol=0.0).fit(X).components_)

    @pytest.mark.parametrize(("size", "left"), [(10, 0.5**0.2), (50, 0.5), (100, 0.5)])
    def test_small_batches_forget_less(self, X, size, left):
        model = made(forget_factor=0.5).partial_fit(X[:100])
        before = model._learner.memory.hold.clone()
        model.partial_fit(np.zeros((size, 12)))  # whose weights are zero
        np.testing.assert_allclose(model._learner.memory.hold, left * before, rtol=1e-12)

    def test_it_does_not_go_on_with_another_loss(self, X):
        """Its sums are others: they did not fit, or, with as many features as parts, were taken for those."""
        model = made(12, init="random", max_iter=1, tol=0.0).fit(X)
        with pytest.raises(ValueError, match="beta_loss: expected 2, as in the batches before; got 'kullback-leibler'"):
            model.set_params(beta_loss="kullback-leibler").partial_fit(X)

    def test_it_does_not_go_on_with_another_number_of_components(self, X):
        model = made(3).partial_fit(X)
        with pytest.raises(ValueError, match="n_components: expected 3, as in the batches before; got 4"):
            model.set_params(n_components=4).partial_fit(X)
        assert model.set_params(n_components="auto").partial_fit(X).components_.shape == (3, 12)

    def test_it_goes_on_after_fit(self, X):
        model = made(max_iter=1, tol=0.0).fit(X)
        model.partial_fit(X[:50].astype(np.float32))
        assert model.n_steps_ == 7
        assert model.components_.dtype == np.float64


class TestStopping:
    def test_the_first_pass_is_never_cut_short(self):
        watch = Watch(BatchOptions.of(MiniBatchNMF(max_no_improvement=1, tol=0.5)))
        assert not any(watch.done(number, 1.0, 0.0, first_pass=True) for number in range(5))
        assert watch.done(0, 1.0, 0.0, first_pass=False)

    def test_what_differs_between_batches_is_no_improvement(self):
        watch = Watch(BatchOptions.of(MiniBatchNMF(max_no_improvement=3, tol=0.0)))
        costs = [1.0, 5.0, 3.0]
        ended = [
            watch.done(number, cost, 1.0, first_pass=not turn) for turn in range(3) for number, cost in enumerate(costs)
        ]
        assert ended[:6] == [False] * 6
        assert ended[6]
        watch = Watch(BatchOptions.of(MiniBatchNMF(max_no_improvement=3, tol=0.0)))
        assert not any(
            watch.done(number, cost - 0.01 * turn, 1.0, first_pass=not turn)
            for turn in range(20)
            for number, cost in enumerate(costs)
        )

    def test_small_moves(self):
        watch = Watch(BatchOptions.of(MiniBatchNMF(max_no_improvement=None, tol=0.1)))
        moves = [1.0, 0.01, 0.01, 0.01]  # the first one until batch 0 comes again
        assert [watch.done(i % 2, 1.0, move, first_pass=i < 2) for i, move in enumerate(moves)] == [
            False,
            False,
            True,
            True,
        ]

    def test_the_warning_points_at_the_caller(self, X):
        for data in (X, batches(X)):
            with pytest.warns(SklearnConvergenceWarning, match="Maximum number of iterations 1 reached") as caught:
                made(max_iter=1).fit(data)
            assert len(caught) == 1
            assert caught[0].filename == __file__

    def test_verbose(self, X, capsys):
        made(verbose=1, max_iter=2, tol=0.0).fit(X)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 12
        assert lines[11].startswith("Minibatch step 12: cost ")


class TestMessages:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"batch_size": 0}, ValueError, "batch_size: expected an int ≥ 1; got 0"),
            ({"forget_factor": 1.5}, ValueError, r"forget_factor: expected a number in \[0, 1\]; got 1.5"),
            ({"fresh_restarts": "yes"}, TypeError, "fresh_restarts: expected True or False; got 'yes'"),
            ({"fresh_restarts_max_iter": 0}, ValueError, "fresh_restarts_max_iter: expected an int ≥ 1; got 0"),
            ({"transform_max_iter": 0}, ValueError, "transform_max_iter: expected an int ≥ 1, or None; got 0"),
            ({"max_no_improvement": 0.5}, TypeError, "max_no_improvement: expected an int ≥ 1, or None; got 0.5"),
            ({"max_iter": 0}, ValueError, "max_iter: expected an int ≥ 1; got 0"),
            ({"beta_loss": "hinge"}, ValueError, "beta_loss: expected one of .*; got 'hinge'"),
            ({"beta_loss": 0}, ValueError, "X: expected entries > 0 at beta_loss ≤ 0"),
            ({"alpha_H": "other"}, TypeError, "alpha_H: expected a finite number ≥ 0, or 'same'"),
            ({"n_components": 13, "init": "nndsvd"}, ValueError, "init = 'nndsvd' can only be used when"),
            ({"init": "custom"}, ValueError, "init: expected W or H, or both, of fit with init='custom'"),
            ({"device": "nowhere"}, ValueError, "device: expected None or a device"),
        ],
    )
    def test_wrong_options_are_named(self, X, options, error, message):
        X[0, 0] = 0
        for method in ("fit", "partial_fit"):
            with pytest.raises(error, match=message):
                getattr(made(**options), method)(X)

    def test_wrong_data(self, X):
        for wrong in (-X, csr_array(-X), -torch.tensor(X), [X, -X]):
            with pytest.raises(ValueError, match="Negative values in data passed to"):
                made().fit(wrong)
        with pytest.raises(ValueError, match="X: expected at least one batch of rows; got none"):
            made().fit(iter([]))
        with pytest.raises(ValueError, match="X has 5 features, but MiniBatchNMF is expecting 12 features"):
            made().fit([X, X[:, :5]])
        with pytest.raises(TypeError, match=r"X: expected a matrix \(n_samples, n_features\); got generator"):
            made().fit_transform(x for x in [X])
        with pytest.raises(ValueError, match="W: expected None where X is a stream"):
            made(init="custom").fit(iter([X]), W=np.ones((300, 3)), H=np.ones((3, 12)))
        with pytest.raises(ValueError, match="H: expected components .* with init='custom'; got None"):
            made(init="custom").fit(X, W=np.ones((300, 3)))
        with pytest.raises(NotFittedError):
            made().transform(X)


def _objective(X, model, *, alpha_W, alpha_H, l1_ratio, random_state):
    """What scikit-learn says is reduced, with the weights that are best for the components."""
    options = {"alpha_W": alpha_W, "alpha_H": alpha_H, "l1_ratio": l1_ratio}
    W, H, _ = non_negative_factorization(X, H=model.components_, update_H=False, **options)
    total = 0.5 * np.linalg.norm(X - W @ H) ** 2
    for factor, alpha, count in ((W, alpha_W, X.shape[1]), (H, alpha_H, X.shape[0])):
        total += alpha * count * (l1_ratio * factor.sum() + 0.5 * (1 - l1_ratio) * (factor**2).sum())
    return total


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_first_batch_of_one_sample_leaves_no_components_of_rounding_noise(dtype):
    """Some components find nothing in one digit; they were learnt from what the others left: nothing but rounding."""
    X = (load_digits().data[:300] / 16).astype(dtype)
    model = MiniBatchNMF(8, random_state=0)
    for row in X:
        model.partial_fit(row[None])
    largest = model.components_.max(1)
    assert largest.min() > 1e-2 * largest.max()
    assert np.linalg.norm(X - model.transform(X) @ model.components_) < 0.45 * np.linalg.norm(X)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_has_been_learnt_survives_any_number_of_batches_of_zeros(X, dtype, loss):
    """The sums are discounted until they are no numbers any more, and with them the components went."""
    X = X.astype(dtype)
    model = made(beta_loss=loss, forget_factor=0.01, max_iter=20, tol=0.0, max_no_improvement=None).fit(X)
    before = model.components_.copy()
    error = np.linalg.norm(X - model.transform(X) @ before)
    for _ in range(200):
        model.partial_fit(np.zeros((50, 12), dtype))
    assert np.isfinite(model.components_).all()
    assert np.linalg.norm(X - model.transform(X) @ model.components_) < 1.01 * error


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_part_that_is_not_seen_for_long_is_not_learnt_from_rounding(dtype):
    random, parts = np.random.default_rng(0), np.kron(np.eye(3), [1.0, 2, 3, 2, 1])
    model = made(init="merge")
    samples = ((0.1 + random.random((50, 3))) @ parts).astype(dtype)
    for i in range(400):
        seen = [1, 1, 1] if i < 50 else [1, 1, 0]
        model.partial_fit(((0.1 + random.random((50, 3))) * seen @ parts).astype(dtype))
    error = np.linalg.norm(samples - model.transform(samples) @ model.components_)
    assert error < 1e-5 * np.linalg.norm(samples)


def test_batches_of_zeros_do_not_end_a_fit():
    X = np.random.default_rng(0).random((1000, 3)) @ np.random.default_rng(1).random((3, 12))
    alone = made(batch_size=100).fit(X)
    beside = made(batch_size=100).fit(np.concatenate([X, np.zeros((1000, 12))]))
    assert beside.n_iter_ > 10
    assert beside.reconstruction_err_ < 2 * alone.reconstruction_err_


@pytest.mark.parametrize("batch_size", [100, 1797])
@pytest.mark.parametrize("init", [None, "merge", "random"])
def test_penalties_do_not_bring_a_start_of_another_scale_to_zero(batch_size, init):
    X = load_digits().data / 16
    samples, features = X.shape

    def objective(model):
        W = model.fit_transform(X)
        H, of_W, of_H = model.components_, 0.015 * features, 0.015 * samples
        penalties = of_W * (W.sum() + 0.5 * (W**2).sum()) + of_H * (H.sum() + 0.5 * (H**2).sum())
        return 0.5 * ((X - W @ H) ** 2).sum() + penalties

    penalties = {"alpha_W": 0.03, "l1_ratio": 0.5, "random_state": 0}
    whole = objective(NMF(6, **penalties))
    assert whole < 0.25 * (X**2).sum()  # zero costs twice as much
    assert objective(MiniBatchNMF(6, init=init, batch_size=batch_size, **penalties)) < 1.01 * whole
