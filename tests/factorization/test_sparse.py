"""Sparse matrices: the results of dense ones, and nothing dense of their size."""

import numpy as np
import pytest
import scipy.sparse
import torch
from nmf_problems import random_matrix, scattered_ones
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from torch.testing import assert_close

from diffnmf import NMF, non_negative_factorization
from diffnmf.factorization import MU, factorize, initialize
from diffnmf.factorization.sparse_matrix import SparseMatrix, csr_tensor, summed_by_torch

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]
METHODS = ["hals", "anls", "mu", MU("kullback-leibler"), MU(0.5), MU(1.5), MU(3.0)]


def sparse_matrix(n, m, share=0.2, dtype=torch.float64):
    Y = random_matrix(n, m)
    return (Y * (random_matrix(n, m, seed=3) < share)).to(dtype)


def csr(Y):
    return Y.to_sparse_csr()


def csc(Y):
    return Y.to_sparse_csc()


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("layout", [csr, csc])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_as_dense(method, layout, shape, penalty):
    Y = sparse_matrix(*shape)
    options = {"method": method, "init": "random", "max_iter": 20, "tol": 0.0, "l1_W": penalty, "ridge_H": penalty}
    dense, sparse = factorize(Y, 4, **options), factorize(layout(Y), 4, **options)
    assert_close(sparse.H, dense.H, rtol=1e-6, atol=1e-8)
    assert_close(sparse.W, dense.W, rtol=1e-6, atol=1e-8)
    assert_close(sparse.errors, dense.errors, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("init", [None, "uniform", "nndsvd", "nndsvda", "nndsvdar"])
def test_starts(init):
    # Three blocks, so that singular values are far apart: the sparse ones are approximate.
    blocks = (torch.arange(40)[:, None] % 3 == torch.arange(25) % 3) * torch.tensor([1.0, 2, 4]).double().repeat(9)[:25]
    Y = random_matrix(40, 25) * blocks
    H, W = initialize(csr(Y), 3, init)
    assert H.shape == (40, 3)
    assert W.shape == (3, 25)
    if init is not None:
        expected, _ = initialize(Y, 3, init)
        live = initialize(Y, 3, "nndsvd")[0] > 1e-9  # a zero with rounding counts as a zero in the sparse one alone
        assert_close(H[live], expected[live], rtol=1e-4, atol=1e-6)


def test_dtypes_units_and_the_stop():
    Y = sparse_matrix(40, 25, dtype=torch.float32)
    for scale in (1.0, 1e4):
        result = factorize(csr(scale * Y), 3, tol=1e-3, max_iter=2000)
        assert result.H.dtype == torch.float32
        assert result.converged
    zero = factorize(csr(torch.zeros(6, 5)), 2, tol=0.0, max_iter=2)
    assert (zero.errors[-1] == 0).all()


def test_no_dense_matrix_of_its_size_is_made():
    Y = scattered_ones(10**5)
    for method in ("hals", "anls", MU("kullback-leibler")):
        result = factorize(Y, 3, method=method, tol=0.0, max_iter=2)
        assert result.errors.isfinite().all()


@pytest.mark.parametrize("part", ["rows", "columns"])
def test_slices_and_products_of_the_class_itself(part):
    Y = sparse_matrix(12, 9)
    S, dense = SparseMatrix.of(csr(Y)), Y.unsqueeze(0)
    S, dense = (S, dense) if part == "rows" else (S.mT, dense.mT)
    F = random_matrix(1, 3, dense.shape[1], seed=1)
    assert_close(S.left_multiplied(F), F @ dense)
    assert_close(S.to_dense(), dense)
    X = random_matrix(3, dense.shape[2], seed=2)
    rows, columns = S.places
    assert_close(S.sampled_product(F[0], X), (F[0].T @ X)[rows, columns])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (csr, {"mask": torch.ones(8, 6).bool()}, "mask, weights: expected None for a sparse Y"),
        (csr, {"method": "spa"}, "Y: expected a dense tensor for method SPA"),
        (csr, {"init": "merge"}, "init: expected one of .* for a sparse Y; got 'merge'"),
        (csr, {"method": MU(0.0)}, "Y: expected entries > 0 at beta_loss ≤ 0"),
    ],
)
def test_bad_arguments(change, options, message):
    with pytest.raises(ValueError, match=message):
        factorize(change(sparse_matrix(8, 6)), 2, **options)


class TestEstimator:
    @pytest.mark.parametrize("kind", ["csr_array", "csc_array", "csr_matrix", "csc_matrix"])
    @pytest.mark.parametrize("options", [{}, {"solver": "mu", "beta_loss": 1}, {"solver": "anls"}], ids=str)
    def test_scipy(self, kind, options):
        X = sparse_matrix(40, 15).numpy()
        model = NMF(3, init="random", random_state=0, max_iter=30, tol=0, **options)
        dense, expected = model.fit_transform(X), model.components_
        err = model.reconstruction_err_
        data = getattr(scipy.sparse, kind)(X)
        np.testing.assert_allclose(model.fit_transform(data), dense, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(model.components_, expected, rtol=1e-6, atol=1e-8)
        assert model.reconstruction_err_ == pytest.approx(err, rel=1e-7)
        np.testing.assert_allclose(model.transform(data[:7]), dense[:7], rtol=1e-5, atol=1e-6)

    def test_torch(self):
        X = sparse_matrix(40, 15)
        model = NMF(3, init="random", random_state=0, max_iter=30, tol=0)
        W = model.fit_transform(csr(X))
        assert isinstance(W, torch.Tensor)
        assert_close(W, model.fit_transform(X))

    def test_nothing_stored_at_all(self):
        empty = scipy.sparse.csr_array((5, 4))
        for options in ({}, {"solver": "mu", "beta_loss": 1.0}, {"solver": "mu", "beta_loss": 1.5}):
            model = NMF(2, tol=0, max_iter=2, **options).fit(empty)
            assert model.reconstruction_err_ == pytest.approx(0, abs=1e-6)
            assert not model.transform(empty).any()

    def test_duplicates_are_summed(self):
        data = scipy.sparse.csr_array(([1.0, 2.0, 1.0, 1.0], ([0, 0, 1, 2], [0, 0, 1, 0])), shape=(3, 2))
        split = scipy.sparse.csr_array(data)
        split.indices = np.array([0, 0, 1, 0], dtype=np.int32)
        split.indptr = np.array([0, 2, 3, 4], dtype=np.int32)
        split.data = np.array([1.0, 2.0, 1.0, 1.0])
        split.has_canonical_format = False
        W, H, _ = non_negative_factorization(split, n_components=2, tol=0, max_iter=50)
        np.testing.assert_allclose(W @ H, [[3, 0], [0, 1], [1, 0]], atol=1e-6)

    def test_duplicates_are_summed_by_torch_as_by_scipy(self):
        """Which has no matrices on a GPU."""
        random = np.random.default_rng(0)
        data = scipy.sparse.coo_array(
            (random.random(60), (random.integers(0, 8, 60), random.integers(0, 9, 60))), (8, 9)
        )
        counts = torch.tensor(np.bincount(data.row, minlength=8))
        order = np.argsort(data.row, kind="stable")
        parts = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0))), torch.tensor(data.col[order])
        twice = csr_tensor(*parts, torch.tensor(data.data[order]), (8, 9))
        found, expected = summed_by_torch(twice), data.tocsr()
        assert len(found.values()) < 60
        np.testing.assert_array_equal(found.crow_indices(), expected.indptr)
        np.testing.assert_array_equal(found.col_indices(), expected.indices)
        np.testing.assert_allclose(found.values(), expected.data, rtol=1e-14)
        assert summed_by_torch(found) is found

    def test_topics(self):
        animals, stars = (
            ["cat dog mouse", "dog mouse cat cat", "mouse dog"],
            ["star moon sun", "sun moon moon", "sun star"],
        )
        pipeline = make_pipeline(TfidfVectorizer(), NMF(2, random_state=0, max_iter=500))
        W = pipeline.fit_transform(animals * 3 + stars * 3)
        topic = W.argmax(1)
        assert len(set(topic[:9])) == len(set(topic[9:])) == 1
        assert topic[0] != topic[-1]
