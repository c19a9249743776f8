"""Properties of the methods on random matrices of every kind.

DIFFNMF_EXAMPLES sets another number of matrices per test.
"""

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nmf_problems import relative_errors

from diffnmf.factorization import ANLS, HALS, MU, factorize

EXAMPLES = int(os.environ.get("DIFFNMF_EXAMPLES", "12"))
few = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MONOTONE = [HALS(extrapolate=False), HALS(extrapolate=False, sweeps=1, revive=False), ANLS(), ANLS(steps=0), MU()]
pytestmark = pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")


@st.composite
def matrices(draw):
    """Y (n, m) ≥ 0 and k: sparse, low rank, with zero and equal columns, and k beyond n and m."""
    n, m, k = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    Y = random.random((n, m))
    structure = draw(st.sampled_from(["full", "sparse", "low rank", "equal columns", "zero rows", "badly scaled"]))
    if structure == "sparse":
        Y *= random.random((n, m)) < 0.3
    elif structure == "low rank":
        Y = random.random((n, 2)) @ random.random((2, m))
    elif structure == "equal columns":
        Y = Y[:, random.integers(0, m, m)]
    elif structure == "zero rows":
        Y[random.random(n) < 0.4] = 0
    elif structure == "badly scaled":
        Y *= 10.0 ** random.integers(-3, 4, (1, m))
    return torch.from_numpy(Y), k


@pytest.mark.parametrize("method", MONOTONE, ids=str)
@pytest.mark.parametrize("init", ["random", "uniform", "nndsvd"])
@few
@given(problem=matrices())
def test_errors_never_increase(method, init, problem):
    Y, k = problem
    result = factorize(Y, k, method=method, init=init, max_iter=25, tol=0.0)
    # Exact solves at a nearly dependent H are exact to the rounding of H, not of the residual.
    assert result.errors.diff(dim=0).max() <= (1e-7 if isinstance(method, ANLS) else 1e-11)
    assert result.H.min() >= 0
    assert result.W.min() >= 0


@pytest.mark.parametrize("method", ["hals", "anls", "mu"])
@few
@given(problem=matrices(), seed=st.integers(0, 9))
def test_ends_no_higher_than_it_began(method, problem, seed):
    """Extrapolation may rise in between."""
    Y, k = problem
    result = factorize(Y, k, method=method, max_iter=40, tol=0.0, seed=seed)
    assert result.errors[-1] <= result.errors[0] + 1e-11
    torch.testing.assert_close(result.errors[-1], relative_errors(Y, result.H, result.W), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["hals", "anls", "mu"])
@few
@given(problem=matrices(), exponent=st.integers(-40, 40))
def test_scaling_by_four_scales_the_factors_by_two(method, problem, exponent):
    """To the last bit: the units of Y are gone before anything is computed."""
    Y, k = problem
    expected = factorize(Y, k, method=method, max_iter=12)
    result = factorize(Y * 4.0**exponent, k, method=method, max_iter=12)
    assert torch.equal(result.H, expected.H * 2.0**exponent)
    assert torch.equal(result.W, expected.W * 2.0**exponent)
    assert torch.equal(result.errors, expected.errors)


@pytest.mark.parametrize("method", ["hals", "anls", "mu"])
def test_permutations_of_rows_and_columns_permute_the_factors(method):
    random = np.random.default_rng(0)
    Y, H0, W0 = (torch.from_numpy(random.random(shape)) for shape in ((12, 9), (12, 3), (3, 9)))
    rows, columns = torch.randperm(12), torch.randperm(9)
    expected = factorize(Y, 3, method=method, H0=H0, W0=W0, max_iter=20, tol=0.0)
    result = factorize(Y[rows][:, columns], 3, method=method, H0=H0[rows], W0=W0[:, columns], max_iter=20, tol=0.0)
    torch.testing.assert_close(result.H, expected.H[rows], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(result.W, expected.W[:, columns], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["anls", "mu"])
def test_permutations_of_components_permute_the_factors(method):
    """Not so for HALS, which takes them in turn."""
    random = np.random.default_rng(1)
    Y, H0, W0 = (torch.from_numpy(random.random(shape)) for shape in ((12, 9), (12, 4), (4, 9)))
    order = torch.tensor([2, 0, 3, 1])
    expected = factorize(Y, 4, method=method, H0=H0, W0=W0, max_iter=20, tol=0.0)
    result = factorize(Y, 4, method=method, H0=H0[:, order], W0=W0[order], max_iter=20, tol=0.0)
    torch.testing.assert_close(result.H, expected.H[:, order], rtol=1e-8, atol=1e-8)
