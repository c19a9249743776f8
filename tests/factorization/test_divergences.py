"""Beta-divergences where numbers are difficult: zeros, small entries beside large ones, β near 0 and 1."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix
from scipy.sparse import csc_array, csr_array

from diffnmf import NMF, MiniBatchNMF
from diffnmf.factorization import MU, factorize
from diffnmf.factorization.divergence import divergences
from diffnmf.factorization.reconstruction import Loss, weights_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def itakura_saito(X, P):
    ratio = X / P
    return np.sqrt(2 * (ratio - np.log(ratio) - 1).sum())


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_a_zero_that_is_met_costs_nothing(beta):
    zero = torch.zeros(1, dtype=torch.float64)
    assert divergences(zero, zero, beta).abs() < 1e-15


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.5])
def test_a_zero_costs_a_power_of_what_stands_there(beta):
    P = torch.tensor([1e-9, 1e-3, 2.0], dtype=torch.float64)
    torch.testing.assert_close(divergences(torch.zeros_like(P), P, beta), P.pow(beta) / beta, rtol=1e-12, atol=0)


@pytest.mark.parametrize("limit", [0.0, 1.0])
@pytest.mark.parametrize("distance", [-1e-12, 1e-12, 2e-16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_lost_near_0_and_1(limit, distance, dtype):
    """Where β (β − 1) is divided by: np.arange(-1, 1, 0.1)[10] is −2.2e-16."""
    T, P = random_matrix(50, 2, dtype=dtype).add(0.1).unbind(1)
    expected = divergences(T, P, limit)
    torch.testing.assert_close(divergences(T, P, limit + distance), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [csr_array, csc_array])
@pytest.mark.parametrize("model", [NMF(2, solver="mu", max_iter=20, tol=0), MiniBatchNMF(2, max_iter=3)], ids=str)
def test_itakura_saito_of_a_sparse_matrix_that_stores_everything(make, model):
    X = np.random.default_rng(0).random((20, 6)) + 0.1
    model.set_params(beta_loss="itakura-saito", init="random", random_state=0)
    dense = model.fit(X).reconstruction_err_
    assert model.fit(make(X)).reconstruction_err_ == pytest.approx(dense, rel=1e-9)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("quiet", [1e-4, 1e-8, 1e-12])
def test_itakura_saito_does_not_care_how_loud_a_row_or_a_column_is(axis, quiet):
    random = np.random.default_rng(0)
    X = (random.random((60, 3)) @ random.random((3, 20)) + 0.01) * random.exponential(size=(60, 20))
    loudness = np.ones(X.shape[axis])
    loudness[1::2] = quiet
    X = X * np.expand_dims(loudness, 1 - axis)
    model = NMF(3, solver="mu", beta_loss="itakura-saito", init="random", random_state=0, max_iter=500, tol=0)
    weights = model.fit_transform(X)
    error = itakura_saito(X, weights @ model.components_)
    assert model.reconstruction_err_ == pytest.approx(error, rel=1e-9)
    assert error < 36  # 33 to 34 where every row is as loud
    assert error < model.errors_[-1] * 1.01  # the weights are at a minimum of their own


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize("hidden", [False, True])
def test_the_error_of_a_start_that_is_far_too_large(beta, hidden):
    Y = torch.tensor([[1.0, 0.0 if beta else 2.0], [0.5, 1.0]])
    mask = torch.tensor([[True, not hidden], [True, True]])
    start = {"H0": torch.full((2, 1), 1e6), "W0": torch.full((1, 2), 1e6)}
    errors = factorize(Y, 1, method=MU(beta), mask=mask, max_iter=0, tol=0.0, **start).errors
    assert errors.isfinite().all()


@pytest.mark.parametrize("beta", [-1, 0, 0.5, 1, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("least", [0.0, 1e-3])
def test_weights_that_are_small_beside_others_are_solved_for(beta, dtype, least):
    """Of components that share hardly anything every weight is known."""
    H = (torch.eye(4) + least * random_matrix(4, 4)).to(dtype)
    W = torch.tensor([[1.0, 0.7], [0.2, 1.0], [1e-2, 3e-3], [3e-3, 1.0]], dtype=dtype)
    found = weights_of(H, H @ W, None, Loss(beta))
    torch.testing.assert_close(found, W, rtol=1e-2 if dtype == torch.float32 else 1e-5, atol=0)


def optimality(H, W, Y, beta):
    """Of what pulls an entry up, the share that is not held; zero at a minimum."""
    H, W, Y = H.double(), W.double(), Y.double()
    P = H @ W
    pull = H.mT @ (Y * P.pow(beta - 2))
    gradient = H.mT @ P.pow(beta - 1) - pull
    return (torch.where(W > 0, gradient.abs(), -gradient) / pull).amax()


@pytest.mark.parametrize("beta", [-1, 0, 0.5, 1, 1.5, 3])
@pytest.mark.parametrize("apart", [1e-1, 1e-3])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_weights_of_components_that_are_almost_alike(beta, apart, dtype, bound):
    two, noise = random_matrix(60, 2), -random_matrix(60, 100).clamp(min=1e-6).log()
    H = (two.repeat(1, 4) + apart * random_matrix(60, 8)).to(dtype)
    Y = (H @ random_matrix(8, 100).to(dtype)) * noise.to(dtype) + 1e-3
    assert optimality(H, weights_of(H, Y, None, Loss(beta)), Y, beta) < bound


@pytest.mark.parametrize("beta", [-1, 0, 0.1, 1, 1.5, 3])
@pytest.mark.parametrize("loud", [1.0, 1e9])
@pytest.mark.parametrize("kind", ["dense", "weighted", "sparse"])
def test_a_feature_that_no_component_has_changes_nothing(beta, loud, kind):
    H, Y = random_matrix(30, 5), random_matrix(30, 20) + 0.01
    V = random_matrix(30, 20) if kind == "weighted" else None

    def found(H, Y, V):
        return weights_of(H, Y.to_sparse_csr() if kind == "sparse" else Y, V, Loss(beta, ridge=0.01))

    expected = found(H, Y, V)
    H, Y = torch.cat((H, torch.zeros(2, 5))), torch.cat((Y, loud * Y[:2]))
    V = None if V is None else torch.cat((V, V[:2]))
    torch.testing.assert_close(found(H, Y, V), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("beta", [-1, 0, 0.1, 1])
def test_weights_where_all_that_an_entry_would_explain_is_zero_or_does_not_count(beta):
    """The other component alone explains the rest."""
    H, Y = (
        torch.eye(4)[:, :2].repeat_interleave(2, 0)[:4],
        torch.tensor([[2.0, 2.0], [2.0, 2.0], [0.0, 1.0], [0.0, 1.0]]),
    )
    V = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0 if beta <= 0 else 1.0, 0.0], [0.0 if beta <= 0 else 1.0, 0.0]])
    W = weights_of(H.double(), Y.double(), V.double(), Loss(beta, l1=1e-3))
    torch.testing.assert_close(W[0], W[0, :1].expand(2))
    assert W[0, 0] == pytest.approx(2, rel=0.01)
    assert (W[1] < 1e-5).all()


@pytest.mark.parametrize("beta", [0.5, 1, 1.5])
@pytest.mark.parametrize("ridge", [1e-12, 1e-10])
def test_weights_of_equal_components_that_a_ridge_alone_tells_apart(beta, ridge):
    """Too small a ridge to change the slope by more than the bound."""
    H = random_matrix(30, 20)
    H = torch.cat((H[:, :1].expand(-1, 20), H), 1)
    W = random_matrix(40, 20)
    Y = (H @ torch.where(W < 0.6, W, 0.0)) * (random_matrix(30, 20) + 0.01)
    assert optimality(H, weights_of(H, Y, None, Loss(beta, ridge=ridge)), Y, beta) < 1e-6


@pytest.mark.parametrize("beta", [-2, -1, 0, 0.5, 1, 1.5])
@pytest.mark.parametrize("span", [3, 6])
def test_weights_of_one_component_whose_features_are_far_apart(beta, span):
    """The slope is zero where w Σ h^β = Σ y h^(β−1)."""
    H, Y = torch.logspace(-span, 0, 20, dtype=torch.float64).unsqueeze(1), random_matrix(20, 50) + 0.1
    expected = (H.pow(beta - 1) * Y).sum(0) / H.pow(beta).sum()
    torch.testing.assert_close(weights_of(H, Y, None, Loss(beta))[0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("beta", [2.5, 3])
def test_weights_that_explain_no_more_than_counts_as_zero(beta):
    """There the slope is that at the floor, and it leads down."""
    H, Y = torch.tensor([[1.0], [1e-12]]).double(), torch.tensor([[1e-9], [1.0]]).double()
    assert weights_of(H, Y, None, Loss(beta)) == 0
