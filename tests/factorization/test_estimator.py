"""diffnmf.NMF: the checks of scikit-learn, tensors, exact weights, and what it says when things go wrong."""

import pickle
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import nnls as scipy_nnls
from scipy.sparse import csr_array
from sklearn import decomposition
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import diffnmf
from diffnmf import NMF, MiniBatchNMF, non_negative_factorization
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import HALS, MU, Merge, PublishedHALS, UnitColumns, factorize

DTYPES = [np.float64, np.float32]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def X():
    """60 samples of 12 features, made of 3 parts, with noise."""
    random = np.random.default_rng(0)
    return random.random((60, 3)) @ random.random((3, 12)) + 0.01 * random.random((60, 12))


def fitted(X, n_components=3, **options):
    return NMF(n_components, **{"random_state": 0, "tol": 1e-3, "max_iter": 2000, **options}).fit(X)


class TestScikitLearn:
    # They fit noise with few iterations, which does not converge and is not meant to.
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
    @parametrize_with_checks(
        [
            NMF(),
            NMF(2, init="nndsvd", alpha_W=0.01, l1_ratio=0.5),
            NMF(2, solver="mu", beta_loss="kullback-leibler"),
            NMF(2, missing="ignore"),
        ]
    )
    def test_every_check(self, estimator, check):
        check(estimator)

    def test_the_error_is_that_of_its_own(self, X):
        theirs = decomposition.NMF(3, init="nndsvda", tol=1e-8, max_iter=5000).fit(X)
        ours = fitted(X, tol=1e-6)
        assert ours.reconstruction_err_ <= 1.001 * theirs.reconstruction_err_

    def test_attributes(self, X):
        model = fitted(X)
        W = model.transform(X)
        assert isinstance(model.components_, np.ndarray)
        assert model.components_.shape == (3, 12)
        assert model.n_components_ == 3
        assert model.n_features_in_ == 12
        assert W.shape == (60, 3)
        assert min(W.min(), model.components_.min()) >= 0
        assert model.reconstruction_err_ == pytest.approx(np.linalg.norm(X - W @ model.components_), rel=1e-12)
        assert model.errors_.shape == (model.n_iter_ + 1,)
        # The last exact solve for the weights can only lower what the iterations reached.
        assert model.reconstruction_err_ / np.linalg.norm(X) <= model.errors_[-1] * (1 + 1e-12)
        assert list(model.get_feature_names_out()) == ["nmf0", "nmf1", "nmf2"]
        np.testing.assert_allclose(model.inverse_transform(W), W @ model.components_, rtol=1e-12)

    @pytest.mark.parametrize("n_components", [None, "auto"])
    def test_all_features_by_default(self, X, n_components):
        assert fitted(X[:, :4], n_components, tol=0, max_iter=3).components_.shape == (4, 4)

    def test_random_state(self, X):
        first, again, other = (
            fitted(X, init="random", random_state=s, tol=0, max_iter=5).components_ for s in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        assert not np.allclose(first, other)
        state = np.random.RandomState(0)  # drawn from: two fits differ
        one, two = (fitted(X, init="random", random_state=state, tol=0, max_iter=5).components_ for _ in range(2))
        assert not np.allclose(one, two)

    def test_pipeline_grid_search_clone_and_pickle(self, X):
        pipeline = make_pipeline(MinMaxScaler(clip=True), NMF(3, random_state=0, max_iter=2000, tol=1e-3))
        assert pipeline.fit_transform(X).shape == (60, 3)
        search = GridSearchCV(
            NMF(random_state=0, solver=HALS(sweeps=2), tol=1e-3, max_iter=2000),
            {"n_components": np.arange(1, 4), "tol": [np.float32(1e-3)]},
            scoring=lambda model, X, y=None: -np.linalg.norm(X - model.inverse_transform(model.transform(X))),
            cv=2,
        ).fit(X)
        assert search.best_params_["n_components"] == 3
        model = search.best_estimator_
        assert clone(model).get_params().keys() == model.get_params().keys()
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))

    def test_set_output(self, X):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(X, columns=list("abcdefghijkl"))
        model = NMF(3, random_state=0, max_iter=2000, tol=1e-3).set_output(transform="pandas")
        out = model.fit_transform(frame)
        assert list(out.columns) == ["nmf0", "nmf1", "nmf2"]
        assert list(model.feature_names_in_) == list("abcdefghijkl")


class TestWeights:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("solver", ["cd", "anls", "mu", UnitColumns(), PublishedHALS(), Merge(), MU(1.5)])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_fit_transform_is_fit_then_transform(self, X, dtype, solver, order):
        X = np.asarray(X, dtype, order=order)
        alpha_W = 0.0 if isinstance(solver, UnitColumns | PublishedHALS) else 1e-3  # they have penalties of their own
        model = NMF(3, solver=solver, random_state=0, tol=0, max_iter=20, alpha_W=alpha_W, alpha_H=0.0)
        W = model.fit_transform(X)
        assert W.dtype == model.components_.dtype == dtype
        np.testing.assert_array_equal(W, model.transform(X))
        np.testing.assert_array_equal(W, clone(model).fit(X).transform(X))

    def test_they_are_the_exact_ones(self, X):
        model = fitted(X)
        new = np.random.default_rng(1).random((7, 12))
        expected = [scipy_nnls(model.components_.T, row)[0] for row in new]
        np.testing.assert_allclose(model.transform(new), expected, atol=1e-12)

    def test_they_feel_the_penalties(self, X):
        plain, sparse = fitted(X), fitted(X, alpha_W=0.025, alpha_H=0.005, l1_ratio=1.0)
        assert (sparse.transform(X) == 0).mean() > (plain.transform(X) == 0).mean()
        H, rows = sparse.components_, sparse.transform(X)
        gradient = (rows @ H - X) @ H.T + 0.3
        assert np.abs(np.minimum(rows, gradient)).max() < 1e-10

    def test_they_do_not_depend_on_the_company(self, X):
        model = fitted(X)
        together = model.transform(X)
        alone = np.concatenate([model.transform(row[None]) for row in X])
        np.testing.assert_allclose(alone, together, rtol=0, atol=1e-13)

    def test_dtype_of_the_input_not_of_the_fit(self, X):
        assert fitted(X).transform(X.astype(np.float32)).dtype == np.float32
        assert fitted(X.astype(np.float32)).transform(X).dtype == np.float64

    def test_a_start_has_the_dtype_of_X_whatever_is_computed_in(self, X):
        """It was compared with ``dtype``: no H fitted to float64 data, for float32 one had to be converted."""
        H = np.random.default_rng(0).random((3, 12))
        for model in (NMF(3, init="custom", dtype="float32"), MiniBatchNMF(3, init="custom", dtype="float32")):
            model.set_params(tol=0, max_iter=2).fit(X, H=H)
            assert model.components_.dtype == np.float32
        with pytest.raises(TypeError, match="H should have the same dtype as X"):
            NMF(3, init="custom").fit(X, H=H.astype(np.float32))

    def test_zero_samples_and_features(self, X):
        X[3], X[:, 5] = 0, 0
        model = fitted(X)
        assert (model.transform(X)[3] == 0).all()
        assert (model.components_[:, 5] == 0).all()
        assert fitted(np.zeros((4, 3))).reconstruction_err_ == 0


class TestTensors:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_tensors_in_tensors_out(self, X, dtype):
        tensor = torch.tensor(X, dtype=dtype, requires_grad=True)
        model = NMF(3, random_state=0, tol=1e-3, max_iter=2000)
        W = model.fit_transform(tensor)
        assert torch.equal(W, model.transform(tensor))
        for result in (W, model.components_, model.inverse_transform(W)):
            assert isinstance(result, torch.Tensor)
            assert result.dtype == dtype
            assert result.device == tensor.device
            assert not result.requires_grad
        from_array = clone(model).fit_transform(tensor.detach().numpy())
        np.testing.assert_array_equal(W.numpy(), from_array)

    def test_arrays_and_tensors_mix(self, X):
        model, tensor = fitted(X), torch.tensor(X)
        assert torch.equal(model.transform(tensor), torch.tensor(model.transform(X)))
        assert isinstance(fitted(tensor).transform(X), np.ndarray)
        assert isinstance(fitted(tensor).inverse_transform(np.ones((2, 3))), np.ndarray)

    def test_dtypes(self, X):
        assert fitted(torch.tensor(X).half()).components_.dtype == torch.float32
        assert fitted(torch.tensor(X * 100).int()).components_.dtype == torch.get_default_dtype()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_devices(self, X):
        model = fitted(torch.tensor(X, device="cuda"))
        assert model.components_.is_cuda
        assert isinstance(model.transform(X), np.ndarray)
        np.testing.assert_allclose(fitted(X, device="cuda").components_, fitted(X).components_, atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda X: X - 1, ValueError, r"Negative values in data passed to NMF; X: expected entries ≥ 0, got -"),
            (lambda X: X.log().log(), ValueError, r"X: expected finite numbers.*NaN or infinity"),
            (lambda X: X[0], ValueError, r"X: Expected 2D array.*got \(12,\)"),
            (lambda X: X[:0], ValueError, r"X: expected at least one sample.*shape \(0, 12\)"),
            (lambda X: X[:, :0], ValueError, r"X: expected at least one feature.*shape \(60, 0\)"),
            (lambda X: X.to_sparse(), TypeError, r"X: expected a dense tensor.*X.to_sparse_csr\(\)"),
            (lambda X: X.to(torch.complex64), ValueError, r"X: Complex data not supported"),
            (lambda X: X.to(torch.float8_e4m3fn), TypeError, r"X: expected a dtype .*float8.*X.to\(torch.float32\)"),
            (lambda X: X.to("meta"), ValueError, "X: expected a tensor that holds numbers; got one on the meta device"),
            (
                lambda X: torch.nested.nested_tensor([X, X], layout=torch.jagged),
                TypeError,
                "X: expected a dense tensor; got a nested one",
            ),
            (lambda X: torch.utils.data.TensorDataset(X), TypeError, "X: expected a matrix .*; got TensorDataset"),
            (
                lambda X: torch.utils.data.DataLoader(X),
                TypeError,
                r"X: expected a matrix .* \(MiniBatchNMF takes batches",
            ),
            (lambda X: iter([X]), TypeError, "X: expected a matrix .*; got list_iterator"),
            (lambda X: {"image": X}, TypeError, "X: expected a matrix .*; got dict"),
        ],
    )
    def test_bad_tensors(self, X, change, error, message):
        with pytest.raises(error, match=message):
            fitted(change(torch.tensor(X)))


class TestMessages:
    def test_the_convergence_warning_is_everybodys(self, X):
        for category in (ConvergenceWarning, SklearnConvergenceWarning):
            with pytest.warns(category, match=r"NMF has not converged to tol=1e-12 in max_iter=2 iterations") as caught:
                NMF(3, tol=1e-12, max_iter=2, random_state=0).fit(X)
            assert len(caught) == 1
            assert caught[0].filename == __file__

    @pytest.mark.parametrize(
        "call",
        [
            lambda X: NMF(3, tol=1e-12, max_iter=2).fit_transform(X),
            lambda X: make_pipeline(MinMaxScaler(clip=True), NMF(3, tol=1e-12, max_iter=2)).fit(X),
            lambda X: non_negative_factorization(X, n_components=3, tol=1e-12, max_iter=2),
            lambda X: MiniBatchNMF(3, tol=1e-12, max_iter=2).fit(X),
            lambda X: MiniBatchNMF(3, tol=1e-12, max_iter=2).fit_transform(X),
            lambda X: factorize(torch.tensor(X), 3, tol=1e-12, max_iter=2),
        ],
    )
    def test_it_points_at_the_line_of_the_user(self, X, call):
        with pytest.warns(ConvergenceWarning) as caught:
            call(X)
        assert [warning.filename for warning in caught] == [__file__]

    def test_without_a_tolerance_there_is_none(self, X):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            NMF(3, tol=0, max_iter=2, random_state=0).fit(X)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"n_components": 0}, ValueError, "n_components: expected an int ≥ 1.*got 0"),
            ({"n_components": 2.5}, TypeError, "n_components: expected an int ≥ 1.*got 2.5"),
            ({"n_components": True}, TypeError, "n_components: expected an int ≥ 1.*got True"),
            ({"n_components": "all"}, TypeError, "n_components: expected an int ≥ 1.*got 'all'"),
            ({"solver": "pg"}, ValueError, "solver: expected one of anls, cd, hals, mu; got 'pg'"),
            (
                {"solver": "spa"},
                ValueError,
                "solver: expected one of hals, cd, .*'spa' .use init='spa' with max_iter=0",
            ),
            ({"solver": "unit_columns"}, ValueError, r"solver: .*use an instance, UnitColumns\(\)"),
            ({"solver": 3}, TypeError, "solver: expected one of hals, cd, .*; got 3"),
            ({"beta_loss": "kullback-leibler"}, ValueError, "solver 'hals' does not handle beta_loss"),
            ({"beta_loss": "hinge", "solver": "mu"}, ValueError, "beta_loss: expected one of .*; got 'hinge'"),
            ({"init": "custom"}, ValueError, "init: expected W or H, or both, of fit with init='custom'"),
            ({"init": "pca"}, ValueError, "init: expected one of .*; got 'pca'"),
            ({"missing": "drop"}, ValueError, "missing: expected one of error, ignore, unstored; got 'drop'"),
            ({"n_init": 0}, ValueError, "n_init: expected an int ≥ 1"),
            ({"n_init": 2, "init": "nndsvd"}, ValueError, "init: expected one that draws"),
            ({"dtype": "int32"}, ValueError, "dtype: expected None, 'float32' or 'float64'; got 'int32'"),
            ({"dtype": "bfloat16"}, ValueError, "dtype: expected None, 'float32' or 'float64'; got 'bfloat16'"),
            ({"fixed": torch.full((1, 12), torch.nan)}, ValueError, "fixed: expected finite numbers"),
            ({"fixed": np.ones(12)}, ValueError, "fixed: Expected 2D array, got 1D array"),
            ({"fixed": csr_array(np.ones((1, 12)))}, TypeError, "fixed: Sparse data was passed"),
            ({"fixed": np.ones((4, 12))}, ValueError, "fixed: expected at most n_components = 3 rows; got 4"),
            ({"n_components": 61, "init": "spa"}, ValueError, "n_components: expected at most n_samples = 60 .*got 61"),
            (
                {"n_components": 61, "init": "merge"},
                ValueError,
                r"n_components: expected at most max\(n_samples, n_features\) = 60 .*'merge'; got 61",
            ),
            ({"tol": -1.0}, ValueError, "tol: expected a finite number ≥ 0; got -1.0"),
            ({"max_iter": 1.5}, TypeError, "max_iter: expected an int ≥ 0; got 1.5"),
            ({"alpha_W": -1.0}, ValueError, "alpha_W: expected a finite number ≥ 0; got -1.0"),
            ({"alpha_H": "other"}, TypeError, "alpha_H: expected a finite number ≥ 0, or 'same'"),
            ({"l1_ratio": 2.0}, ValueError, r"l1_ratio: expected a number in \[0, 1\]; got 2.0"),
            (
                {"checkpoint": "kept"},
                ValueError,
                r"checkpoint: expected None for data in memory; got 'kept' \(give Blocks",
            ),
            ({"device": "cuda:99"}, ValueError, "device: torch sees [0-9]+ CUDA devices; got 'cuda:99'"),
            ({"device": "nowhere"}, ValueError, "device: expected None or a device such as.*got 'nowhere'"),
        ],
    )
    def test_wrong_options_are_named(self, X, options, error, message):
        with pytest.raises(error, match=message):
            NMF(**{"n_components": 3, **options}).fit(X)

    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_factors_of_ones_own_are_finite(self, X, kind):
        """Those of tensors were not looked at: the parts became NaN."""
        H, W = np.ones((3, 12)), np.ones((60, 3))
        H[0, 0] = W[0, 0] = np.nan
        for given in ({"H": kind(H)}, {"W": kind(W)}):
            with pytest.raises(ValueError, match="NaN"):
                NMF(3, init="custom").fit(X, **given)
        with pytest.raises(ValueError, match="NaN"):
            non_negative_factorization(X, H=kind(H), update_H=False)

    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.ma.masked_invalid])
    def test_missing_entries_are_shown_the_way(self, X, kind):
        """scikit-learn said that NMF takes none, and advised an imputer."""
        holes = np.where(X[0, 0] == X, np.nan, X)
        for call in (NMF(3).fit, fitted(X).transform):
            with pytest.raises(ValueError, match=r"X: expected finite numbers.*contains NaN.*missing='ignore'"):
                call(kind(holes))

    @pytest.mark.parametrize("kind", [csr_array, lambda X: torch.from_numpy(X).to_sparse_csr()], ids=["scipy", "torch"])
    def test_a_nan_that_is_stored(self, X, kind):
        holes = kind(np.where(X[0, 0] == X, np.nan, X))
        with pytest.raises(ValueError, match="contains NaN.*with missing='unstored' leave it out of the sparse X"):
            NMF(3, missing="unstored").fit(holes)
        with pytest.raises(ValueError, match="contains NaN.*use a dense X"):
            NMF(3, missing="ignore").fit(holes)

    def test_wrong_data(self, X):
        with pytest.raises(ValueError, match=r"Negative values in data passed to NMF.*got -1"):
            NMF(3).fit(-np.ones((4, 3)))
        with pytest.raises(ValueError, match=r"weights: expected None for a sparse X"):
            NMF(3).fit(csr_array(X), weights=np.ones(60))
        for weights in (1j * X, torch.tensor(1j * X)):
            with pytest.raises(TypeError, match="weights: expected real numbers; got complex ones"):
                NMF(3).fit(X, weights=weights)
        with pytest.raises(ValueError, match="X: expected entries > 0 at beta_loss ≤ 0"):
            NMF(3, solver="mu", beta_loss="itakura-saito").fit(np.where(X > 1, X, 0))
        with pytest.raises(NotFittedError):
            NMF(3).transform(X)
        model = fitted(X)
        for data in (X[:, :5], torch.tensor(X[:, :5])):
            with pytest.raises(ValueError, match="X has 5 features, but NMF is expecting 12 features"):
                model.transform(data)
        for weights in (np.ones((4, 2)), torch.ones(4, 2)):
            with pytest.raises(ValueError, match=r"X: expected weights \(n_samples, n_components = 3\).*got \(4, 2\)"):
                model.inverse_transform(weights)


def test_the_example_chooses_and_shows_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = Path(__file__).parents[2] / "examples" / "nmf_parts.py"
    k = runpy.run_path(str(path))["main"](samples=150)
    assert f"{k} parts predict hidden pixels best" in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["digits_parts.png", "digits_rank.png"]


class TestLazyName:
    def test_scikit_learn_is_loaded_when_asked_for(self, fresh_processes):
        program = (
            "import sys, diffnmf; assert 'NMF' in dir(diffnmf); assert 'sklearn' not in sys.modules;"
            "diffnmf.NMF; assert 'sklearn' in sys.modules; assert diffnmf.__dict__['NMF'] is diffnmf.NMF"
        )
        result = fresh_processes.run(program)
        assert result.returncode == 0, result.stderr

    def test_other_names_are_no_attributes(self):
        with pytest.raises(AttributeError, match="module 'diffnmf' has no attribute 'PCA'"):
            diffnmf.PCA  # noqa: B018


def test_the_orders_of_shuffle_are_those_of_the_random_state(X):
    options = {"init": "nndsvda", "shuffle": True, "max_iter": 10, "tol": 0.0}
    found = [NMF(3, random_state=seed, **options).fit(X).components_ for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2], rtol=1e-6)


def test_a_start_given_as_init_is_told_where_to_go(X):
    with pytest.raises(TypeError, match=r"init: expected a name, .*; got ndarray \(give init='custom' with"):
        NMF(2, init=np.ones((2, 6))).fit(X)


def test_a_method_that_is_given_keeps_its_seed(X):
    found = []
    for seed in (0, 7):
        solver = HALS(shuffle=True, seed=seed)
        model = NMF(3, solver=solver, shuffle=True, random_state=0, init="nndsvda", tol=0, max_iter=9)
        found.append(model.fit(X).components_)
    assert not np.allclose(*found, rtol=1e-6)
