"""When a problem stops, what that costs and who is told; the callback."""

import warnings

import pytest
import torch
from helpers import slow
from nmf_problems import kkt_violation, random_matrix

from diffnmf import Blocks
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import METHODS, MU, factorize, initialize, small_runs
from diffnmf.factorization.alternating import CHECK_EVERY, _Alternation
from diffnmf.factorization.registry import get_method

ITERATIVE = [name for name, method in METHODS.items() if method().needs_start]


def projected_gradient(Y, H, W):
    """Lin's norm over (H, W), from the formula, (*batch,)."""
    residual = H @ W - Y
    parts = [(H, residual @ W.mT), (W, H.mT @ residual)]
    squares = [torch.where(X > 0, g, g.clamp(max=0)).square().sum((-2, -1)) for X, g in parts]
    return (squares[0] + squares[1]).sqrt()


@pytest.mark.parametrize("method", ["hals", "anls"])
@pytest.mark.parametrize("shape", [(20, 9), (9, 20)])
@pytest.mark.parametrize("tol", [1e-2, 1e-4, *slow(1e-6)])
@pytest.mark.parametrize("init", ["random", "auto"])
def test_a_converged_problem_meets_the_tolerance(method, shape, tol, init):
    Y = random_matrix(4, *shape)
    H, W = initialize(Y, 3, init)
    result = factorize(Y, 3, method=method, init=init, tol=tol, max_iter=6000)
    assert result.converged.all()
    size = (torch.linalg.matrix_norm(H.mT @ Y).square() + torch.linalg.matrix_norm(Y @ W.mT).square()).sqrt()
    reference = torch.maximum(projected_gradient(Y, H, W), 0.1 * size)
    assert (projected_gradient(Y, result.H, result.W) <= 1.0001 * tol * reference).all()
    assert (result.iterations % CHECK_EVERY == 0).all()


@pytest.mark.parametrize("scale", [*slow(1e3), 1e6])
@pytest.mark.parametrize("method", [*ITERATIVE, MU(1.0)], ids=str)
def test_a_start_far_too_large_does_not_stop_at_once(method, scale):
    Y = random_matrix(60, 5) @ random_matrix(5, 40, seed=1) + 0.1 * random_matrix(60, 40, seed=2)
    H0, W0 = random_matrix(60, 5, seed=3), random_matrix(5, 40, seed=4)
    options = {"method": method, "tol": 1e-3, "max_iter": 6000}
    plain, large = (factorize(Y, 5, H0=factor * H0, W0=W0, **options) for factor in (1, scale))
    assert large.converged
    assert large.errors[-1] < 1.25 * plain.errors[-1]
    if get_method(method).takes >= {"parts"}:
        blocks = factorize(Blocks(Y.numpy()), 5, H0=scale * H0, W0=W0, **options)
        torch.testing.assert_close(blocks.errors, large.errors, rtol=1e-6, atol=0)


def test_every_problem_stops_by_itself():
    easy, hard = random_matrix(1, 30, 20, rank=1), random_matrix(2, 30, 20)
    result = factorize(torch.cat((easy, hard)), 2, tol=1e-6, max_iter=2000)
    assert result.converged.all()
    assert result.iterations[0] < result.iterations[1:].min()
    last = result.errors[result.iterations[0], 0]
    assert (result.errors[result.iterations[0] :, 0] == last).all()


@pytest.mark.parametrize("method", ITERATIVE)
def test_a_finished_problem_is_not_touched(method):
    """Factors at the end are those of when it stopped."""
    Y = torch.cat((torch.zeros(1, 9, 6), random_matrix(2, 9, 6, dtype=torch.float32)))
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = factorize(
            Y, 2, method=method, tol=1e-12, max_iter=40, callback=lambda i, H, W: seen.append(H[0].clone()) or False
        )
    assert result.converged[0]
    assert result.iterations.tolist()[0] == 0 < result.iterations[1:].min()
    assert all(torch.equal(H, result.H[0]) for H in seen)


def test_finished_problems_cost_nothing(monkeypatch):
    monkeypatch.setattr(small_runs, "SMALL", 0)
    Y = torch.zeros(400, 60, 40)
    Y[7] = random_matrix(60, 40)
    taken = []
    steps = _Alternation.steps

    def counted(self, iterations, index):
        taken.append(len(self.problem.Y[index]))
        steps(self, iterations, index)

    monkeypatch.setattr(_Alternation, "steps", counted)
    factors = factorize(Y, 10, init="random", max_iter=300, tol=1e-12)
    assert factors.iterations.sum() == factors.iterations[7] > CHECK_EVERY
    assert taken == [1] * (int(factors.iterations[7]) // CHECK_EVERY)  # the zero matrices take no part from the start


def test_tolerance_zero_never_stops_and_never_warns():
    result = factorize(torch.zeros(2, 5, 4), 2, tol=0.0, max_iter=23)
    assert result.iterations.tolist() == [23, 23]
    assert not result.converged.any()
    assert len(result.errors) == 24


@pytest.mark.filterwarnings("error")
def test_the_warning():
    Y = random_matrix(3, 9, 6)
    with pytest.warns(ConvergenceWarning, match=r"HALS: 3 of 3 problems have not converged after 2 iterations") as seen:
        factorize(Y, 2, tol=1e-9, max_iter=2)
    assert len(seen) == 1
    assert seen[0].filename == __file__, "the warning points to the caller"
    factorize(Y, 2, tol=1e-2, max_iter=500)


def test_a_stationary_start_has_converged():
    Y = random_matrix(9, 6, rank=2)
    first = factorize(Y, 2, tol=1e-13, max_iter=20_000)
    again = factorize(Y, 2, H0=first.H, W0=first.W, tol=1e-3, max_iter=500)
    assert again.converged
    assert kkt_violation(Y, again.H, again.W) < 1e-10


class TestCallback:
    @pytest.mark.parametrize("method", METHODS)
    def test_sees_every_iteration(self, method):
        Y, seen = random_matrix(2, 3, 9, 6), []

        def watch(iteration, H, W):
            assert H.shape == (2, 3, 9, 2)
            assert W.shape == (2, 3, 2, 6)
            seen.append((iteration, torch.linalg.matrix_norm(Y - H @ W) / torch.linalg.matrix_norm(Y)))

        result = factorize(Y, 2, method=method, max_iter=13, tol=0.0, callback=watch)
        assert [iteration for iteration, _ in seen] == list(range(1, len(result.errors)))
        torch.testing.assert_close(torch.stack([error for _, error in seen]), result.errors[1:], rtol=0, atol=1e-11)

    @pytest.mark.parametrize("method", ITERATIVE)
    @pytest.mark.parametrize("shape", [(9, 6), (6, 9)])
    def test_changes_nothing(self, method, shape):
        Y = 3.7 * random_matrix(2, *shape)
        expected = factorize(Y, 2, method=method, max_iter=25, tol=0.0)
        result = factorize(Y, 2, method=method, max_iter=25, tol=0.0, callback=lambda *_: None)
        assert all(torch.equal(a, b) for a, b in zip(expected, result, strict=True))

    def test_stops_the_run(self):
        Y = random_matrix(2, 9, 6)
        result = factorize(Y, 2, tol=0.0, callback=lambda iteration, H, W: iteration == 7)
        assert result.iterations.tolist() == [7, 7]
        assert len(result.errors) == 8
        assert torch.equal(result.H, factorize(Y, 2, tol=0.0, max_iter=7).H)

    def test_a_run_that_the_callback_stops_does_not_warn(self):
        factorize(random_matrix(9, 6), 2, tol=1e-12, callback=lambda iteration, H, W: iteration == 3)
