"""Properties of the exact solvers on random problems of every kind.

The default suite draws 1,200 problems; DIFFNMF_EXAMPLES sets another number per test (20,000, say, before a release).
"""

import os
import warnings

import numpy as np
import pytest
import torch
from helpers import EXACT_TO_ROUNDING
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnls_problems import kkt, residual_norms, scipy_nnls

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.solvers.certificate import ALLOWED_EXCESS

EXAMPLES = int(os.environ.get("DIFFNMF_EXAMPLES", "200"))
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def problems(draw):
    """H (n, k) and Y (n, m): any sign, sparse, rank-deficient, badly scaled, with planted solutions, zero columns."""
    n, k, m = draw(st.integers(1, 12)), draw(st.integers(1, 10)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positive = draw(st.booleans())
    H = random.random((n, k)) if positive else random.standard_normal((n, k))
    Y = random.random((n, m)) if positive else random.standard_normal((n, m))
    if draw(st.booleans()):
        H *= random.random((n, k)) < 0.5  # sparse, and perhaps with zero columns
    structure = draw(st.sampled_from(["full", "duplicates", "low rank", "nearly equal", "ill-conditioned"]))
    if structure == "duplicates":
        H = H[:, random.integers(0, k, k)]
    elif structure == "low rank":
        H = H[:, : (k + 1) // 2] @ random.standard_normal(((k + 1) // 2, k))
    elif structure == "nearly equal":
        H = H[:, :1] + 10.0 ** -draw(st.integers(1, 6)) * H
    elif structure == "ill-conditioned":
        U, _, V = np.linalg.svd(H, full_matrices=False)
        H = U * np.logspace(0, -draw(st.integers(1, 6)), min(n, k)) @ V
    if draw(st.booleans()):
        Y = H @ np.maximum(random.standard_normal((k, m)), 0)  # planted, with ties
    H = H * 10.0 ** draw(st.integers(-8, 8))
    Y = Y * 10.0 ** draw(st.integers(-8, 8))
    return torch.from_numpy(H), torch.from_numpy(Y)


def _well_posed(H):
    """Whether the unit columns of H have condition 1e6 at most, apart from exact dependence."""
    lengths = torch.linalg.vector_norm(H, dim=0)
    values = torch.linalg.svdvals(H / torch.where(lengths == 0, 1.0, lengths))
    values = values / values.max().clamp(min=1e-300)
    return not ((values > 1e-13) & (values < 1e-6)).any()


def solve(H, Y, **options):
    """W of ``nnls``, which has converged unless W is so large that its rounding may cost more than is allowed: rare."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = nnls(H, Y, **options)
    rounding = 2 * torch.finfo(torch.float64).eps * relative_size(H, Y, solution.W).max()  # of W, and on the way to it
    assert solution.converged or rounding > ALLOWED_EXCESS
    return solution.W


def relative_size(H, Y, W):
    """Σ ‖hᵢ‖ wᵢ in units of ‖y‖, (m,)."""
    return torch.linalg.vector_norm(H, dim=0) @ W / torch.linalg.vector_norm(Y, dim=0).clamp(min=1e-300)


@pytest.mark.parametrize("solver", EXACT_TO_ROUNDING)
@given(problem=problems())
@thorough
def test_every_solution_is_optimal(solver, problem):
    H, Y = problem
    W = solve(H, Y, solver=solver)
    assert (W >= 0).all()
    theirs = scipy_nnls(H, Y)
    size, their_size = (relative_size(H, Y, found).max().item() for found in (W, theirs))
    assert kkt(H, Y, W) <= 1e-12 * (1 + size)
    # Not one oracle alone: scipy may be wrong, but never better beyond rounding. Columns that are nearly but not quite
    # dependent, beyond a condition number of 1e6, leave a gap that no gradient in float64 shows. Where columns depend
    # to the last digit, scipy may find a W of 1e15 in their rounding.
    allowed = (1e-11 if _well_posed(H) else 1e-6) + 1e-15 * max(size, their_size)
    assert (residual_norms(H, Y, W) <= residual_norms(H, Y, theirs) + allowed).all()


@given(problem=problems(), data=st.data())
@thorough
def test_invariances(problem, data):
    H, Y = problem
    k, m = H.shape[1], Y.shape[1]
    fit = H @ solve(H, Y)  # the solution may not be unique, what it explains is
    scale = torch.linalg.vector_norm(Y, dim=0).clamp(min=1e-300)

    def same(other):
        # ‖y − fit‖² is flat at the optimum: an error ε in the objective leaves √ε in the fit.
        assert ((fit - other).norm(dim=0) <= 2e-6 * scale).all()

    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    rows, columns = torch.randperm(k, generator=random), torch.randperm(m, generator=random)
    same(H @ solve(H[:, rows], Y)[torch.argsort(rows)])
    same((H @ solve(H, Y[:, columns]))[:, torch.argsort(columns)])
    factors = 10.0 ** torch.randint(-6, 7, (k,), generator=random, dtype=torch.float64)
    same(H * factors @ solve(H * factors, Y))
    same(H @ solve(H, Y * 1e5) / 1e5)


@given(problem=problems(), data=st.data())
@thorough
def test_a_warm_start_changes_the_work_and_not_the_result(problem, data):
    H, Y = problem
    cold = solve(H, Y)
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    W0 = torch.rand(cold.shape, generator=random, dtype=torch.float64) * 10.0 ** data.draw(st.integers(-10, 10))
    for solver in EXACT_TO_ROUNDING:
        warm = solve(H, Y, W0=W0, solver=solver)
        scale = torch.linalg.vector_norm(Y, dim=0).clamp(min=1e-300)
        assert ((H @ (warm - cold)).norm(dim=0) <= 2e-6 * scale).all()


@given(problem=problems())
@thorough
def test_gradients_are_finite(problem):
    H, Y = (x.clone().requires_grad_() for x in problem)
    W = solve(H, Y)
    (W / W.detach().amax().clamp(min=1e-300)).sum().backward()
    assert H.grad.isfinite().all() and Y.grad.isfinite().all()
