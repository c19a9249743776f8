"""HALS: its sweeps, extrapolation, revival; and the form in which it was published."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix

from diffnmf.factorization import HALS, PAPER, factorize
from diffnmf.factorization.hals import sweep_
from diffnmf.factorization.problem_input import make_nmf_problem
from diffnmf.factorization.revival import revive_, vanished


def sweep_by_loop(A, C, X):
    """Plain numpy, one problem: every row at its optimum in turn."""
    for i in range(len(X)):
        X[i] = np.maximum(0, X[i] + (C[i] - A[i] @ X) / (A[i, i] or 1))


@pytest.mark.parametrize("k", [1, 9, 10, 11, 35])
@pytest.mark.parametrize("sweeps", [1, 3])
def test_sweeps_agree_with_a_plain_loop(k, sweeps):
    F = random_matrix(3, k, 20) - 0.4
    F[1, k // 2] = 0
    A, C, X = F @ F.mT, random_matrix(3, k, 7, seed=1) - 0.3, random_matrix(3, k, 7, seed=2)
    expected = X.clone().numpy()
    for a, c, x in zip(A.numpy(), C.numpy(), expected, strict=True):
        for _ in range(sweeps):
            sweep_by_loop(a, c, x)
    sweep_(A, C, X, sweeps)
    np.testing.assert_allclose(X.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_columns_are_swept_in_pieces(monkeypatch):
    F, C, X = random_matrix(2, 6, 20), random_matrix(2, 6, 50, seed=1), random_matrix(2, 6, 50, seed=2)
    expected = X.clone()
    sweep_(F @ F.mT, C, expected, 2)
    monkeypatch.setattr("diffnmf.factorization.hals.PIECE", 2 * 6 * 7)
    sweep_(F @ F.mT, C, X, 2)
    torch.testing.assert_close(X, expected, rtol=1e-13, atol=1e-13)


def test_more_sweeps_than_forming_the_gram_matrix_costs_are_not_made():
    Y = random_matrix(30, 8)
    options = {"max_iter": 3, "tol": 0.0}
    one, many = (factorize(Y, 8, method=HALS(sweeps=s), **options) for s in (1, 4))
    assert not torch.equal(one.W, many.W)
    small = random_matrix(8, 8)
    one, many = (factorize(small, 8, method=HALS(sweeps=s), **options) for s in (1, 4))
    assert torch.equal(one.W, many.W)


def test_extrapolation_arrives_sooner():
    Y = random_matrix(20, 40, 25, rank=8) + 0.1 * random_matrix(20, 40, 25, seed=1)
    slow, fast = (factorize(Y, 8, method=HALS(extrapolate=x), tol=0.0, max_iter=60) for x in (False, True))
    reached = (fast.errors.mean(1) <= slow.errors[-1].mean()).nonzero()[0].item()
    assert reached < 58


class TestRevival:
    def test_a_revived_component_changes_no_product(self):
        Y, H, W = random_matrix(3, 12, 7), random_matrix(3, 12, 4, seed=1), random_matrix(3, 4, 7, seed=2)
        H[0, :, 1] = 0
        W[2, [0, 3]] = 0
        before, Ht = H @ W, H.mT.contiguous()
        problem, *_ = make_nmf_problem(Y, 4)
        assert vanished(W, Ht).sum(-1).tolist() == [1, 0, 2]
        revived = revive_(problem, W, Ht)
        assert revived.sum(-1).tolist() == [1, 0, 2]
        torch.testing.assert_close(Ht.mT @ W, before, rtol=0, atol=1e-15)
        residual = problem.Y[2] - before[2]
        worst = torch.linalg.vector_norm(residual, dim=0).argsort(descending=True)
        torch.testing.assert_close(Ht[2, [0, 3]], residual[:, worst[:2]].clamp(min=0).T)
        assert (W[2, [0, 3]] == 0).all()

    def test_nothing_is_revived_where_nothing_is_missing(self):
        H, W = random_matrix(12, 2), random_matrix(2, 7, seed=1)
        H, W = torch.nn.functional.pad(H, (0, 3)), torch.nn.functional.pad(W, (0, 0, 0, 3))
        result = factorize(H @ W, 5, H0=H, W0=W, max_iter=30, tol=0.0)
        assert result.errors.max() < 1e-12

    @pytest.mark.parametrize("extrapolate", [False, True])
    def test_dead_components_come_back(self, extrapolate):
        Y = random_matrix(5, 30, 20)
        H0, W0 = random_matrix(5, 30, 6, seed=1), random_matrix(5, 6, 20, seed=2)
        H0[:, :, 2:] = 0
        W0[:, 2:] = 0
        options = {"H0": H0, "W0": W0, "max_iter": 40, "tol": 0.0}
        left, revived = (
            factorize(Y, 6, method=HALS(extrapolate=extrapolate, revive=x), **options) for x in (False, True)
        )
        assert (left.H[:, :, 2:] == 0).all()
        assert not vanished(revived.W, revived.H.mT).any()
        assert (revived.errors[-1] < 0.9 * left.errors[-1]).all()

    def test_not_under_penalties(self):
        Y = random_matrix(30, 20)
        H0, W0 = random_matrix(30, 6, seed=1), random_matrix(6, 20, seed=2)
        H0[:, 3:] = 0
        W0[3:] = 0
        result = factorize(Y, 6, H0=H0, W0=W0, l1_W=0.1, max_iter=30, tol=0.0)
        assert (result.H[:, 3:] == 0).all()


def test_published_hals_keeps_columns_of_equal_norm():
    result = factorize(random_matrix(4, 50, 20), 6, **PAPER["hals"])
    length = torch.linalg.vector_norm(result.H, dim=-2)
    torch.testing.assert_close(length, length.mean(-1, keepdim=True).expand_as(length))


def test_orders_of_one_seed_are_not_those_of_the_next_a_step_later(monkeypatch):
    drawn, plain = [], torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *x, **y: drawn.append(plain(*x, **y)) or drawn[-1])
    for seed in (0, 1, 2**70):
        factorize(random_matrix(20, 15), 10, method=HALS(shuffle=True, seed=seed), init="random", tol=0.0, max_iter=3)
    assert len(drawn) == len({tuple(order.tolist()) for order in drawn}) > 12
