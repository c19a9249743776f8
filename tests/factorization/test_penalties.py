"""l1 and ridge: the optimality conditions, the units, what they do."""

import pytest
import torch
from nmf_problems import kkt_violation, random_matrix

from diffnmf.factorization import HALS, factorize

PENALTIES = [
    {"l1_H": 0.05, "l1_W": 0.1},
    {"ridge_H": 0.2, "ridge_W": 0.1},
    {"l1_H": 0.02, "l1_W": 0.1, "ridge_H": 0.1, "ridge_W": 0.3},
    {"l1_W": 0.1, "ridge_H": 0.5},
]


def objective(Y, H, W, l1_H=0.0, l1_W=0.0, ridge_H=0.0, ridge_W=0.0):
    """From the formula."""
    squares = (Y - H @ W).square().sum() + ridge_H * H.square().sum() + ridge_W * W.square().sum()
    return 0.5 * squares + l1_H * H.sum() + l1_W * W.sum()


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
@pytest.mark.parametrize("method", ["hals", "anls", HALS(extrapolate=False)], ids=str)
@pytest.mark.parametrize("shape", [(15, 8), pytest.param((8, 15), marks=pytest.mark.slow)])
def test_the_end_satisfies_the_optimality_conditions(penalties, method, shape):
    Y = 2 * random_matrix(*shape)
    result = factorize(Y, 3, method=method, tol=1e-9, max_iter=20_000, **penalties)
    assert result.converged
    assert kkt_violation(Y, result.H, result.W, **penalties) < 1e-6


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
@pytest.mark.parametrize("method", ["mu", "anls", HALS(extrapolate=False)], ids=str)
def test_the_objective_never_increases(penalties, method):
    Y, values = 2 * random_matrix(15, 8), []
    factorize(
        Y,
        3,
        method=method,
        tol=0.0,
        max_iter=40,
        callback=lambda i, H, W: values.append(objective(Y, H, W, **penalties)) or False,
        **penalties,
    )
    assert torch.stack(values).diff().max() < 1e-10


@pytest.mark.parametrize("method", ["hals", "anls", "mu"])
def test_penalties_have_units(method):
    """Y 4⁵ times as large: H and W are 2⁵ times as large, an l1 that weighs as much is 2¹⁵, a ridge 4⁵ times."""
    Y = random_matrix(12, 7)
    expected = factorize(Y, 3, method=method, l1_H=0.01, l1_W=0.02, ridge_W=0.1, max_iter=12, tol=0.0)
    result = factorize(
        Y * 4.0**5,
        3,
        method=method,
        l1_H=0.01 * 2.0**15,
        l1_W=0.02 * 2.0**15,
        ridge_W=0.1 * 4.0**5,
        max_iter=12,
        tol=0.0,
    )
    torch.testing.assert_close(result.H, expected.H * 2.0**5, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.errors, expected.errors, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["hals", "anls", "mu"])
def test_what_costs_too_much_is_given_up(method):
    Y = random_matrix(2, 12, 7) * torch.tensor([1.0, 1e-120])[:, None, None]
    result = factorize(Y, 3, method=method, l1_W=1e6, ridge_H=1e6, ridge_W=1.0, max_iter=300, tol=0.0)
    assert result.H.isfinite().all()
    assert result.W.max() < 1e-12


def test_spa_takes_penalties_of_its_weights():
    Y = random_matrix(12, 7)
    free, sparse = (factorize(Y, 3, method="spa", l1_W=l1).W for l1 in (0.0, 1.0))
    assert (sparse == 0).sum() > (free == 0).sum()
