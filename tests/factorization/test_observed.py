"""A sparse Y that is known only where it stores something: what a dense one with a mask gives."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix, scattered_ones
from scipy.optimize import nnls as scipy_nnls
from scipy.sparse import csc_array, csr_array
from torch.testing import assert_close

from diffnmf import NMF, Blocks, non_negative_factorization
from diffnmf.factorization import ANLS, HALS, MU, consensus, factorize
from diffnmf.factorization.sparse_matrix import ObservedMatrix, csr_tensor

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::diffnmf.errors.PredictionWarning"),
]

METHODS = ["hals", HALS(sweeps=1, extrapolate=False), HALS(shuffle=True), "mu", MU(extrapolate=True)]


@pytest.fixture(params=[(30, 22), (22, 30)], ids=["tall", "wide"])
def data(request):
    """Y (n, m), where it is known, and both as one sparse matrix, which stores a zero, too."""
    Y = random_matrix(*request.param)
    known = random_matrix(*request.param, seed=1) < 0.4
    known[3], known[:, 5] = False, False
    Y[0, 0], known[0, 0] = 0.0, True
    return Y, known, stored(Y, known)


def stored(Y, known):
    rows, columns = known.nonzero().T
    matrix = csr_array((Y[known].numpy(), (rows.numpy(), columns.numpy())), shape=tuple(Y.shape))
    return torch.sparse_csr_tensor(
        *(torch.from_numpy(x.astype("int64")) for x in (matrix.indptr, matrix.indices)),
        torch.from_numpy(matrix.data),
        matrix.shape,
        check_invariants=True,
    )


@pytest.mark.parametrize(
    "options", [{}, {"l1_W": 0.1, "ridge_H": 0.2, "l1_H": 0.05, "ridge_W": 0.1}], ids=["plain", "penalties"]
)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_iterates_are_those_of_a_dense_matrix_with_a_mask(data, method, options):
    Y, known, sparse = data
    options = {"method": method, "init": "random", "tol": 0.0, "max_iter": 25, **options}
    # Where both know their start: a dense one is filled in before it is drawn from.
    H0, W0 = random_matrix(len(Y), 4, seed=2), random_matrix(4, Y.shape[1], seed=3)
    dense = factorize(Y, 4, mask=known, H0=H0, W0=W0, **options)
    found = factorize(sparse, 4, mask="stored", H0=H0, W0=W0, **options)
    for a, b in zip(found, dense, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert found.H.layout == torch.strided
    assert (found.H[3] == 0).all()
    assert (found.W[:, 5] == 0).all()


@pytest.mark.parametrize("method", ["hals", "mu"])
@pytest.mark.parametrize("given", ["H0", "W0", "fixed"])
def test_a_start_in_part(data, method, given):
    Y, known, sparse = data
    shape = {"H0": (len(Y), 4), "W0": (4, Y.shape[1]), "fixed": (len(Y), 2)}[given]
    options = {"method": method, "tol": 0.0, "max_iter": 0, given: random_matrix(*shape, seed=2), "init": "random"}
    found, dense = factorize(sparse, 4, mask="stored", **options), factorize(Y, 4, mask=known, **options)
    if given == "fixed":
        assert_close(found.H[:, :2], dense.H[:, :2])
        longer = factorize(sparse, 4, mask="stored", **{**options, "max_iter": 200})
        assert_close(longer.H[:, :2], dense.H[:, :2])
        assert longer.errors[-1] < 0.9 * found.errors[0]
    elif method == "hals":  # exact, whatever is drawn
        assert_close(found.errors, dense.errors, rtol=1e-9, atol=0)
    else:
        other = "W" if given == "H0" else "H"
        scaled = getattr(found, other) * 1.001  # the best multiple of what was drawn
        H, W = (found.H, scaled) if other == "W" else (scaled, found.W)
        assert ((H @ W - Y) * known).norm() > ((found.H @ found.W - Y) * known).norm()


def test_tolerance_and_units(data):
    _, _, sparse = data
    plain = factorize(sparse, 2, mask="stored", tol=1e-3, max_iter=2000)
    assert plain.converged
    for scale in (1e-200, 1e150):
        scaled = factorize(sparse * scale, 2, mask="stored", tol=1e-3, max_iter=2000)
        assert_close(scaled.errors[-1], plain.errors[-1], rtol=1e-6, atol=0)
    half = factorize(sparse.bfloat16(), 4, mask="stored", tol=1e-2, max_iter=200)
    assert half.H.dtype == torch.bfloat16
    whole = torch.ones_like(sparse.values())
    broken = torch.sparse_csr_tensor(
        sparse.crow_indices(), sparse.col_indices(), whole * torch.nan, sparse.shape, check_invariants=True
    )
    assert factorize(broken, 4, mask="stored", max_iter=20).errors.isnan().all()


def test_multiplicative_updates_of_factors_far_below_the_data(data):
    """What pulls X down is formed by itself: as the gradient less what pulls it up nothing would be left of it."""
    Y, known, sparse = data
    options = {"method": "mu", "tol": 0.0, "max_iter": 5, "l1_H": 1e10}
    H0, W0 = random_matrix(len(Y), 2, seed=2), random_matrix(2, Y.shape[1], seed=3)
    found = factorize(sparse.float(), 2, mask="stored", H0=H0.float(), W0=W0.float(), **options)
    dense = factorize(Y, 2, mask=known, H0=H0, W0=W0, **options)
    assert_close(found.errors, dense.errors, rtol=1e-4, atol=0)


def test_consensus(data):
    Y, known, sparse = data
    options = {"n_init": 4, "max_iter": 60, "tol": 0.0, "seed": 0}
    found, dense = consensus(sparse, 2, mask="stored", **options), consensus(Y, 2, mask=known, **options)
    H, W = found.H, found.W
    norm = ((H @ W - Y) * known).norm() / (Y * known).norm()
    assert found.error == pytest.approx(float(norm))
    assert found.error < 1.1 * dense.error


def test_all_components_are_fixed(data, request):
    Y, known, sparse = data
    request.getfixturevalue("torch_alone")
    fixed = random_matrix(len(Y), 2, seed=2)
    found, dense = (factorize(S, 2, fixed=fixed, mask=mask) for S, mask in ((sparse, "stored"), (Y, known)))
    assert_close(found.W, dense.W, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mask", [None, "stored"])
@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_csc])
def test_what_is_stored_twice_is_summed(mask, layout):
    parts = torch.tensor([0, 2, 3]), torch.tensor([0, 0, 1]), torch.tensor([1.0, 2, 3]).double()
    twice = torch.sparse_compressed_tensor(*parts, (2, 2), layout=layout, check_invariants=False)
    result = factorize(twice, 2, mask=mask, init="random", max_iter=300, tol=0.0)
    assert_close((result.H @ result.W).diagonal(), torch.tensor([3.0, 3]).double(), rtol=1e-6, atol=0)
    assert twice.values().tolist() == [1, 2, 3]


def test_dead_components_are_revived(data):
    Y, known, sparse = data
    H0, W0 = random_matrix(len(Y), 4, seed=2), random_matrix(4, Y.shape[1], seed=3)
    H0[:, 1], W0[1], H0[:, 3] = 0, 0, 0
    options = {"H0": H0, "W0": W0, "max_iter": 60, "tol": 0.0, "mask": "stored"}
    dead, alive = (factorize(sparse, 4, method=HALS(revive=revive), **options) for revive in (False, True))
    assert (dead.H[:, 1] == 0).all()
    assert (alive.H.amax(0) > 0).all()
    assert alive.errors[-1] < 0.9 * dead.errors[-1]
    iteration = factorize(Y, 4, **{**options, "mask": known, "max_iter": 12})
    assert_close(factorize(sparse, 4, **{**options, "max_iter": 12}).errors, iteration.errors, rtol=1e-9, atol=1e-12)


def test_nothing_is_stored():
    empty = torch.zeros(6, 5).to_sparse_csr()
    result = factorize(empty, 2, mask="stored", max_iter=20)
    assert (result.H == 0).all()
    assert (result.W == 0).all()
    assert (result.errors == 0).all()


def test_no_dense_matrix_of_its_size_is_made():
    Y = scattered_ones(10**5)
    result = factorize(Y, 3, mask="stored", tol=0.0, max_iter=2)
    assert result.errors.isfinite().all()
    X = csr_array((Y.values().numpy(), Y.col_indices().numpy(), Y.crow_indices().numpy()), shape=tuple(Y.shape))
    model = NMF(3, missing="unstored", max_iter=2, tol=0.0).fit(X)
    assert model.components_.shape == (3, 10**5)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(data, threads):
    _, _, sparse = data
    before = torch.get_num_threads()
    expected = factorize(sparse, 4, mask="stored", tol=0.0, max_iter=10)
    try:
        torch.set_num_threads(threads)
        found = factorize(sparse, 4, mask="stored", tol=0.0, max_iter=10)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.H, expected.H)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda S: factorize(S, 2, mask="known"), ValueError, "mask: expected one of stored; got 'known'"),
        (
            lambda S: factorize(S.to_dense(), 2, mask="stored"),
            ValueError,
            "mask: expected 'stored' for a sparse Y only",
        ),
        (lambda S: factorize(S, 2, mask=S.to_dense() > 0), ValueError, "mask, weights: expected None for a sparse Y"),
        (
            lambda S: factorize(S, 2, mask="stored", weights=torch.ones(S.shape)),
            ValueError,
            "weights: expected None with mask='stored'",
        ),
        (
            lambda S: factorize(S, 2, mask="stored", method=ANLS()),
            ValueError,
            "method, solver: .*; got ANLS",
        ),
        (
            lambda S: factorize(S, 2, mask="stored", method=MU(1.0)),
            ValueError,
            "method, solver: .*; got MU",
        ),
        (lambda S: factorize(S, 2, mask="stored", init="nndsvd"), ValueError, 'init: expected "auto", "random" or'),
        (lambda S: factorize(S, 2, mask="stored", init="merge"), ValueError, 'init: expected "auto", "random" or'),
        (lambda S: factorize(S, 2, mask="stored", progress=True), ValueError, "progress: "),
        (lambda S: factorize(-1 * S, 2, mask="stored"), ValueError, "Y: "),
    ],
)
def test_errors(data, call, error, message):
    with pytest.raises(error, match=message):
        call(data[2])


def known_part(X, known):
    """Its zeros are stored, too."""
    return csr_array((X[known], known.nonzero()), shape=X.shape)


class TestEstimator:
    @pytest.fixture
    def X(self):
        """80 samples of 60 features of rank 4, some of them zero, and which are known."""
        random = np.random.default_rng(0)
        parts = random.random((4, 60)) * (random.random((4, 60)) < 0.6)
        X = random.random((80, 4)) * (random.random((80, 4)) < 0.6) @ parts
        return X, random.random(X.shape) < 0.4

    @pytest.mark.parametrize("kind", [csr_array, csc_array, torch.sparse_csr])
    def test_what_is_missing_is_filled_in(self, X, kind):
        X, known = X
        S = kind(known_part(X, known)) if callable(kind) else stored(*map(torch.from_numpy, (X, known)))
        model = NMF(4, missing="unstored", random_state=0, max_iter=3000, tol=1e-6)
        W = model.fit_transform(S)
        filled = model.inverse_transform(W)
        assert isinstance(filled, np.ndarray) == callable(kind)
        assert np.abs(np.asarray(filled) - X)[~known].max() < 2e-3
        norm = np.linalg.norm((np.asarray(filled) - X)[known])
        assert model.reconstruction_err_ == pytest.approx(norm, rel=1e-3)
        np.testing.assert_allclose(np.asarray(model.transform(S)), np.asarray(W), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("options", [{}, {"alpha_W": 2e-3, "l1_ratio": 0.5}])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_weights_are_exact(self, X, options, dtype):
        X, known = X
        X = X.astype(dtype)
        options = {"max_iter": 50, "tol": 0.0, "random_state": 0, **options}
        model = NMF(4, missing="unstored", **options).fit(known_part(X, known))
        dense = NMF(4, missing="ignore", **options).fit(np.where(known, X, np.nan))
        dense.components_ = model.components_
        W = model.transform(known_part(X, known))
        assert W.dtype == dtype
        rtol = 1e-4 if dtype == np.float32 else 1e-9
        np.testing.assert_allclose(W, dense.transform(np.where(known, X, np.nan)), rtol=rtol, atol=rtol)
        if not options.get("alpha_W"):
            H = model.components_.T.astype(np.float64)
            for row, mask, w in zip(X[:5], known, W, strict=False):
                np.testing.assert_allclose(w, scipy_nnls(H[mask], row[mask])[0], rtol=rtol, atol=rtol)

    def test_columns_of_many_lengths(self):
        random = np.random.default_rng(1)
        X = random.random((300, 200))
        known = random.random(X.shape) < random.random((300, 1)) ** 4
        known[0], known[1] = True, False
        S = known_part(X, known)
        model = NMF(6, missing="unstored", max_iter=5, tol=0.0, random_state=0).fit(S)
        W, H = model.transform(S), model.components_.T
        assert (W >= 0).all()
        for i in range(300):
            some, x = H[known[i]], X[i, known[i]]
            best = scipy_nnls(some, x)[1] if len(x) else 0  # of few entries, the weights are one of many
            assert np.linalg.norm(some @ W[i] - x) == pytest.approx(best, abs=1e-8)
        assert (W[1] == 0).all()

    def test_sizes_at_the_ends_of_float64(self, X):
        X, known = X
        plain = NMF(4, missing="unstored", max_iter=20, tol=0.0, random_state=0)
        W = plain.fit_transform(known_part(X, known))
        small, large = np.full((80, 1), 1e-300), np.full((80, 1), 1e300)
        for scale in (small, large, np.where(np.arange(80)[:, None] % 2, small, large)):
            scaled = plain.transform(known_part(scale * X, known))
            np.testing.assert_allclose(scaled / scale, W, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("spread", [1e-3, 3e-4, 1e-5])
    def test_weights_of_components_that_are_nearly_alike(self, spread):
        random = np.random.default_rng(1)
        H = random.random((1, 30)) + spread * random.random((4, 30))
        X = random.random((40, 4)) @ H
        known = random.random(X.shape) < 0.5
        options = {"H": H, "n_components": 4, "update_H": False, "missing": "unstored"}
        W, *_ = non_negative_factorization(known_part(X, known), **options)
        assert np.linalg.norm((W @ H - X) * known, axis=1).max() < 1e-13

    @pytest.mark.parametrize("options", [{"solver": "mu"}, {"n_init": 3}, {"init": "random"}, {"shuffle": True}])
    def test_options(self, X, options):
        X, known = X
        S = known_part(X, known)
        model = NMF(4, missing="unstored", random_state=0, max_iter=300, tol=0.0, **options).fit(S)
        assert model.errors_[-1] < 0.05

    def test_the_function(self, X):
        X, known = X
        W, H, _ = non_negative_factorization(
            known_part(X, known), n_components=4, missing="unstored", max_iter=2000, tol=1e-5
        )
        assert np.abs(W @ H - X)[~known].max() < 0.1

    def test_wrong_data(self, X):
        X, known = X
        S = known_part(X, known)
        with pytest.raises(ValueError, match=r"X: expected a sparse matrix with missing='unstored'; got a dense one"):
            NMF(4, missing="unstored").fit(X)
        with pytest.raises(ValueError, match="weights: expected None with missing='unstored'"):
            NMF(4, missing="unstored").fit(S, weights=np.ones(80))
        with pytest.raises(ValueError, match="missing: expected 'error' for data in blocks.*got 'unstored'"):
            NMF(4, missing="unstored").fit(Blocks(X))
        with pytest.raises(ValueError, match="method, solver: expected .*; got ANLS"):
            NMF(4, missing="unstored", solver="anls").fit(S)
        with pytest.raises(ValueError, match="method, solver: expected .*; got MU"):
            NMF(4, missing="unstored", solver="mu", beta_loss=1).fit(S)
        model = NMF(4, missing="unstored", max_iter=1, tol=0).fit(S)
        model.set_params(solver="mu", beta_loss=1)
        with pytest.raises(ValueError, match="beta_loss: expected 'frobenius' with missing='unstored'; got 1"):
            model.transform(S)


def test_known_entries_of_a_product_are_made_in_larger_parts_on_an_accelerator(monkeypatch):
    """Of 20 million numbers a GPU is busy with all at once, and would wait for Python between ten parts."""
    indices, values = (torch.zeros(200_000, dtype=dtype, device="meta") for dtype in (torch.int64, torch.float32))
    rows = csr_tensor(indices[:1001], indices, values, (1000, 1000))
    Y = ObservedMatrix(rows, rows)
    vars(Y)["places"] = (indices, indices)  # there are no numbers of which to find them
    parts, compute = [], torch.sum
    monkeypatch.setattr(torch, "sum", lambda X, **options: parts.append(X.shape) or compute(X, **options))
    factor = torch.zeros(100, 1000, device="meta")
    assert Y.sampled_product(factor, factor).shape == values.shape
    assert parts == [(200_000, 100)]
