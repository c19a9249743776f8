"""Multiplicative updates against scikit-learn, from equal starts."""

import numpy as np
import pytest
import torch
from nmf_problems import random_matrix
from sklearn.decomposition import non_negative_factorization

from diffnmf.factorization import factorize


def by_scikit_learn(Y, H0, W0, iterations, **options):
    """Their X is Yᵀ, their W our Wᵀ, their H our Hᵀ; their penalties are scaled with the size of X."""
    weights, components, _ = non_negative_factorization(
        Y.T.numpy(),
        W=np.ascontiguousarray(W0.T.numpy()),
        H=np.ascontiguousarray(H0.T.numpy()),
        n_components=H0.shape[1],
        init="custom",
        solver="mu",
        tol=0,
        max_iter=iterations,
        **options,
    )
    return torch.from_numpy(components.T), torch.from_numpy(weights.T)


@pytest.mark.parametrize(("n", "m", "k"), [(20, 9, 4), (9, 20, 4), (12, 5, 8)])
@pytest.mark.parametrize("iterations", [1, 2, 50, 200])
def test_the_iterates_are_those_of_scikit_learn(n, m, k, iterations):
    Y, H0, W0 = random_matrix(n, m), random_matrix(n, k, seed=1), random_matrix(k, m, seed=2)
    H, W = by_scikit_learn(Y, H0, W0, iterations)
    result = factorize(Y, k, method="mu", H0=H0, W0=W0, max_iter=iterations, tol=0.0)
    torch.testing.assert_close(result.H, H, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(result.W, W, rtol=1e-8, atol=1e-8)


def test_so_they_are_with_zeros():
    Y, H0, W0 = random_matrix(15, 8), random_matrix(15, 5, seed=1), random_matrix(5, 8, seed=2)
    Y[3], Y[:, 2] = 0, 0
    H0[:, 1], H0[4], W0[2, 3], W0[3] = 0, 0, 0, 0
    H, W = by_scikit_learn(Y, H0, W0, 60)
    result = factorize(Y, 5, method="mu", H0=H0, W0=W0, max_iter=60, tol=0.0)
    torch.testing.assert_close(result.H, H, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(result.W, W, rtol=1e-8, atol=1e-8)


def test_so_they_are_with_penalties():
    n, m, k = 15, 8, 4
    Y, H0, W0 = 3 * random_matrix(n, m), random_matrix(n, k, seed=1), random_matrix(k, m, seed=2)
    alpha_W, alpha_H, ratio = 0.02, 0.03, 0.4
    H, W = by_scikit_learn(Y, H0, W0, 60, alpha_W=alpha_W, alpha_H=alpha_H, l1_ratio=ratio)
    result = factorize(
        Y,
        k,
        method="mu",
        H0=H0,
        W0=W0,
        max_iter=60,
        tol=0.0,
        l1_W=alpha_W * ratio * n,
        l1_H=alpha_H * ratio * m,
        ridge_W=alpha_W * (1 - ratio) * n,
        ridge_H=alpha_H * (1 - ratio) * m,
    )
    torch.testing.assert_close(result.H, H, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(result.W, W, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_denormal_numbers_are_left(dtype):
    """Entries that go to zero do so at once, instead of slowing every product down."""
    Y = random_matrix(20, 9, rank=1, dtype=dtype)
    Y[:, ::2] = 0
    result = factorize(Y, 3, method="mu", max_iter=400, tol=0.0)
    for X in (result.H, result.W):
        assert not ((X > 0) & (torch.finfo(dtype).tiny > X)).any()
        assert X.isfinite().all()
