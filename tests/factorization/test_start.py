"""Where a factorisation starts."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix, relative_errors
from sklearn.decomposition._nmf import _initialize_nmf

from diffnmf import Blocks, nnls
from diffnmf.factorization import ANLS, HALS, MU, factorize, initialize, spa

INITS = ["random", "uniform", "nndsvd", "nndsvda", "spa"]


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (2, 3, 9, 6)])
def test_every_start_is_a_start(init, shape):
    Y = random_matrix(*shape, dtype=torch.float32)
    H, W = initialize(Y, 4, init)
    assert H.shape == (*shape[:-1], 4)
    assert W.shape == (*shape[:-2], 4, shape[-1])
    assert H.dtype == W.dtype == torch.float32
    assert H.min() >= 0
    assert W.min() >= 0
    result = factorize(Y, 4, init=init, max_iter=0, tol=0.0)
    assert torch.equal(result.H, H)
    assert torch.equal(result.W, W)
    torch.testing.assert_close(result.errors[0], relative_errors(Y, H, W), rtol=0, atol=1e-5)


def test_random_is_as_bright_as_the_data():
    Y = 7.3 * random_matrix(2, 60, 50)
    H, W = initialize(Y, 20)
    torch.testing.assert_close((H @ W).mean((1, 2)), Y.mean((1, 2)), rtol=0.1, atol=0)
    H, W = initialize(Y, 20, "uniform")
    assert H.max() < 1
    assert (H @ W).mean() == pytest.approx(20 / 4, rel=0.1)


@pytest.mark.parametrize("init", ["random", "uniform"])
def test_a_problem_starts_the_same_wherever_it_stands(init):
    Y = random_matrix(5, 9, 6)
    H, W = initialize(Y, 3, init, seed=4)
    alone = initialize(Y[3], 3, init, seed=4)
    assert torch.equal(H[3], alone[0])
    assert torch.equal(W[3], alone[1])
    assert not torch.equal(initialize(Y, 3, init, seed=5)[0], H)


class TestNndsvd:
    @pytest.mark.parametrize("init", ["nndsvd", "nndsvda"])
    @pytest.mark.parametrize(("n", "m"), [(20, 9), (9, 20), (12, 12)])
    @pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
    def test_equals_scikit_learn_on_matrices_of_that_rank(self, init, n, m, scale):
        k = 4
        Y = scale * random_matrix(3, n, m, rank=k)
        H, W = initialize(Y, k, init)
        for y, h, w in zip(Y, H, W, strict=True):
            weights, components = _initialize_nmf(y.T.numpy(), k, init=init, random_state=0)
            np.testing.assert_allclose(h.numpy(), components.T, rtol=1e-6, atol=1e-7 * components.max())
            np.testing.assert_allclose(w.numpy(), weights.T, rtol=1e-6, atol=1e-7 * weights.max())

    def test_agrees_with_scikit_learn_on_full_rank(self):
        Y = random_matrix(30, 20)
        H, W = initialize(Y, 5, "nndsvd")
        weights, components = _initialize_nmf(Y.T.numpy(), 5, init="nndsvd", random_state=0)
        np.testing.assert_allclose((H @ W).numpy(), (weights @ components).T, atol=0.02)

    def test_beyond_the_rank_it_is_zero(self):
        Y = random_matrix(12, 9, rank=2)
        H, W = initialize(Y, 15, "nndsvd")
        assert (H[:, 2:] == 0).all()
        assert (W[2:] == 0).all()
        assert (initialize(Y, 15, "nndsvda")[0] > 0).all()


def test_spa_takes_columns_and_their_exact_weights():
    Y = random_matrix(12, 9)
    H, W = initialize(Y, 3, "spa")
    assert torch.equal(H, spa(Y, 3))
    torch.testing.assert_close(W, nnls(H, Y).W, rtol=0, atol=1e-10)


class TestGiven:
    Y = random_matrix(2, 10, 7)
    H0, W0 = random_matrix(10, 3, seed=1), random_matrix(2, 3, 7, seed=2)

    def test_both_are_taken_as_they_are(self):
        before = self.H0.clone(), self.W0.clone()
        result = factorize(self.Y, 3, H0=self.H0, W0=self.W0, max_iter=0, tol=0.0)
        assert torch.equal(result.H, self.H0.expand(2, 10, 3))
        assert torch.equal(result.W, self.W0)
        factorize(self.Y, 3, H0=self.H0, W0=self.W0, max_iter=5, tol=0.0)
        assert torch.equal(self.H0, before[0])
        assert torch.equal(self.W0, before[1])

    @pytest.mark.parametrize("method", [HALS(), ANLS()])
    def test_the_missing_one_is_the_exact_fit(self, method):
        options = {"method": method, "max_iter": 0, "tol": 0.0}
        result = factorize(self.Y, 3, H0=self.H0, **options)
        torch.testing.assert_close(result.W, nnls(self.H0, self.Y).W, rtol=0, atol=1e-10)
        result = factorize(self.Y, 3, W0=self.W0, **options)
        torch.testing.assert_close(result.H, nnls(self.W0.mT, self.Y.mT).W.mT, rtol=0, atol=1e-10)

    def test_for_mu_the_missing_one_has_no_zeros(self):
        result = factorize(self.Y, 3, method=MU(), H0=self.H0, max_iter=0, tol=0.0)
        assert result.W.min() > 0
        HW = result.H @ result.W
        torch.testing.assert_close((HW * self.Y).sum((1, 2)), HW.square().sum((1, 2)))
        assert factorize(self.Y, 3, method=MU(), W0=self.W0, max_iter=0, tol=0.0).H.min() > 0


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("init", ["nndsvda", "nndsvdar"])
def test_zeros_of_singular_vectors_are_filled_though_they_come_with_rounding(init, sparse):
    """Two blocks, rows and columns mixed: a component lives in one of them, and is 1e-20 in the other."""
    generator = torch.Generator().manual_seed(0)
    Y = torch.block_diag(random_matrix(6, 5), 0.8 * random_matrix(7, 8, seed=1))
    Y = Y[torch.randperm(13, generator=generator)][:, torch.randperm(13, generator=generator)]
    H, W = initialize(Y.to_sparse_csr() if sparse else Y, 2, init)
    assert torch.minimum(H.min(), W.min()) > 1e-6 * Y.mean()


@pytest.mark.parametrize("blocks", [False, True])
def test_when_to_stop_does_not_depend_on_the_unit_of_data_beside_a_given_factor(blocks):
    """Between factors of other sizes one gradient dwarfed the other: ANLS stopped at 2.5 times the error."""
    Y = random_matrix(40, 30, rank=3) + 0.02 * random_matrix(40, 30, seed=1)
    H0 = random_matrix(40, 3, seed=2)
    options = {"method": "anls", "H0": H0 / H0.norm(dim=0), "tol": 1e-4, "max_iter": 3000}
    errors = []
    for unit in (1e-4, 1.0, 255.0, 1e4):
        data = Blocks((unit * Y).numpy()) if blocks else unit * Y
        errors.append(float(factorize(data, 3, **options).errors[-1]))
    assert max(errors) < 1.001 * min(errors)


def test_factors_that_are_given_come_back_as_they_are_where_nothing_is_done():
    Y, H0, W0 = random_matrix(12, 7), random_matrix(12, 3, seed=1), 100 * random_matrix(3, 7, seed=2)
    found = factorize(Y, 3, method="anls", H0=H0, W0=W0, max_iter=0, tol=0.0)
    assert torch.equal(found.H, H0) and torch.equal(found.W, W0)
