"""The exact solvers at the edges of what floating point can do, against scipy and the KKT conditions."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import EXACT_TO_ROUNDING, rand, randn
from nnls_problems import kkt, random_problem, residual_norms, scipy_nnls, with_condition

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.solvers import ProjectedGradient


def duplicates():
    H = rand(50, 15)
    H[:, 7] = H[:, 3]
    H[:, 9] = 0
    H[:, 11] = 2 * H[:, 5]
    return H


HARD = {
    "positive": (rand(60, 20), rand(60, 10, seed=1)),
    "any sign": (randn(60, 20), randn(60, 10, seed=1)),
    "condition 1e2": (with_condition(60, 20, 1e2), randn(60, 10)),
    "condition 1e4": (with_condition(60, 20, 1e4), randn(60, 10)),
    "condition 1e6": (with_condition(60, 20, 1e6), randn(60, 10)),
    "duplicate and zero columns": (duplicates(), rand(50, 10, seed=1)),
    "nearly equal columns": (rand(50, 1) + 1e-6 * rand(50, 20, seed=1), rand(50, 10, seed=2)),
    "more columns than rows": (rand(10, 30), rand(10, 10, seed=1)),
    "more columns than rows, any sign": (randn(10, 30), randn(10, 10, seed=1)),
    "rank 5 of 20": (rand(50, 5) @ rand(5, 20, seed=1), rand(50, 10, seed=2)),
    "planted": (rand(50, 20), rand(50, 20) @ rand(20, 10, seed=1).round()),
    "all active": (rand(50, 20), -rand(50, 10, seed=1)),
    "all free": (torch.eye(20, dtype=torch.float64) + 0.01 * rand(20, 20), rand(20, 10, seed=1) + 1),
    "zero target": (rand(50, 20), torch.zeros(50, 3, dtype=torch.float64)),
    "zero basis": (torch.zeros(50, 4, dtype=torch.float64), rand(50, 3)),
    "wild column norms": (rand(50, 20) * torch.logspace(-20, 20, 20, dtype=torch.float64), rand(50, 10, seed=1)),
    "wild targets": (rand(50, 20), rand(50, 10, seed=1) * torch.logspace(-20, 20, 10, dtype=torch.float64)),
}


@pytest.mark.parametrize("solver", EXACT_TO_ROUNDING)
@pytest.mark.parametrize("name", HARD)
def test_hard_problem(solver, name):
    H, Y = HARD[name]
    H = H.clone().requires_grad_()
    solution = nnls(H, Y, solver=solver)
    assert solution.converged
    assert kkt(H, Y, solution.W) <= 1e-12
    theirs = residual_norms(H.detach(), Y, scipy_nnls(H, Y))
    # scipy itself may be beaten, and is wrong in some versions: ours may be no worse beyond rounding.
    assert (residual_norms(H.detach(), Y, solution.W.detach()) <= theirs + 1e-13).all()
    (solution.W / solution.W.detach().amax().clamp(min=1e-300)).sum().backward()
    assert H.grad.isfinite().all()


@pytest.mark.parametrize("scale_H", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("scale_Y", [1e-30, 1.0, 1e30])
def test_scales_in_float64(scale_H, scale_Y):
    H, Y = rand(50, 10), rand(50, 5, seed=1)
    expected = nnls(H, Y).W
    W = nnls(H * scale_H, Y * scale_Y).W
    torch.testing.assert_close(W * (scale_H / scale_Y), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale_H", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("scale_Y", [1e-15, 1.0, 1e15])
def test_scales_in_float32(scale_H, scale_Y):
    H, Y = (rand(50, 10) * scale_H).float(), (rand(50, 5, seed=1) * scale_Y).float()
    H.requires_grad_()
    solution = nnls(H, Y)
    assert solution.kkt_residual <= 1e-6
    expected = nnls(H.detach().double(), Y.double()).W
    torch.testing.assert_close(solution.W.detach(), expected.float(), rtol=1e-6, atol=0)
    # A loss of order one, so that its gradient can be represented.
    (solution.W * (scale_H / scale_Y)).sum().backward()
    assert H.grad.isfinite().all()


@pytest.mark.parametrize("solver", EXACT_TO_ROUNDING)
def test_against_scipy_with_penalties(solver):
    H, Y = random_problem(n=30, k=10, m=8)
    for ridge, l1 in ((0.7, 0.0), (0.0, 0.4), (0.7, 0.4)):
        W = nnls(H, Y, solver=solver, ridge=ridge, l1=l1).W
        torch.testing.assert_close(W, scipy_nnls(H, Y, ridge, l1), rtol=0, atol=1e-10)
        assert kkt(H, Y, W, ridge, l1) <= 1e-12


@pytest.mark.parametrize("max_iter", [0, 1, 10, 200])
def test_the_finish_makes_any_start_exact(max_iter):
    H, Y = with_condition(60, 20, 1e5), randn(60, 30)
    solution = nnls(H, Y, solver=ProjectedGradient(max_iter=max_iter))
    assert solution.kkt_residual <= 1e-12


def test_many_columns_in_chunks(monkeypatch):
    H, Y = rand(2, 30, 8), rand(2, 30, 50, seed=1)
    weights = rand(2, 8, 50, seed=2)

    def result():
        h = H.clone().requires_grad_()
        W = nnls(h, Y).W
        return W.detach(), *torch.autograd.grad((W * weights).sum(), h)

    whole = result()
    monkeypatch.setattr("diffnmf.solvers.exact.chunks.MAX_ENTRIES", 7 * 64)  # 7 columns at once
    for a, b in zip(whole, result(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_tolerance_stops_each_problem_for_itself():
    easy, hard = with_condition(40, 10, 2), with_condition(40, 10, 1e3)
    Y = randn(40, 5)
    solver = ProjectedGradient(max_iter=5000, tol=1e-8, finish=False)
    both = nnls(torch.stack([easy, hard]), Y, solver=solver)
    assert both.converged.all()
    assert both.iterations[0] < both.iterations[1] < 5000
    assert torch.equal(both.W[0], nnls(easy, Y, solver=solver).W)


@pytest.mark.usefixtures("torch_alone")
def test_iterations_count_the_finish():
    H, Y = random_problem(2)
    assert (nnls(H, Y, solver=ProjectedGradient(max_iter=40)).iterations > 40).all()


def test_large_problem_stays_small_in_memory():
    """No k×k system per column at once: 20,000 columns at k = 40 would need 256 MB in float64."""
    H, Y = rand(60, 40).float(), rand(60, 20_000, seed=1).float()
    solution = nnls(H, Y)
    assert solution.kkt_residual <= 1e-6
    sample = torch.arange(0, 20_000, 2000)
    torch.testing.assert_close(solution.W[:, sample].double(), scipy_nnls(H, Y[:, sample]), rtol=1e-5, atol=1e-6)


def test_float32_is_solved_in_float64():
    H, Y = with_condition(60, 20, 1e4).float(), randn(60, 10).float()
    W = nnls(H, Y).W
    exact = scipy_nnls(H, Y)
    assert np.abs(W.numpy() - exact.numpy()).max() <= 1e-6 * exact.abs().max()


@pytest.mark.slow
def test_all_of_mnist_at_once_in_a_gigabyte():
    """n = 784, m = 60,000, k = 50: forward and backward take less than 1 GiB above inputs and results."""
    program = """
import resource, torch
from diffnmf.layers import NNLSLayer
H = torch.rand(784, 50, requires_grad=True)
Y = torch.rand(784, 60_000).requires_grad_()
NNLSLayer()(H, Y[:, :100]).sum().backward()  # what PyTorch loads on the way is not ours
H.grad, Y.grad = torch.zeros_like(H), torch.zeros_like(Y)
weights = torch.rand(50, 60_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
W = NNLSLayer()(H, Y)
(W * weights).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("ridge", "l1"), [(0.0, 0.0), (0.3, 0.2)])
def test_a_small_problem_alone_is_as_in_a_batch(dtype, ridge, l1):
    """It takes a shorter way."""
    generator = torch.Generator().manual_seed(0)
    H, Y = (torch.randn(30, x, generator=generator, dtype=dtype) for x in (6, 5))
    alone = nnls(H, Y, ridge=ridge, l1=l1)
    batch = nnls(H.expand(2, -1, -1), Y.expand(2, -1, -1), ridge=ridge, l1=l1)
    for name, x in alone._asdict().items():
        expected = getattr(batch, name)[0]
        assert (x.shape, x.dtype) == (expected.shape, expected.dtype), name
        torch.testing.assert_close(x, expected, msg=name)


@pytest.mark.parametrize("spoilt", ["H", "Y"])
def test_a_small_problem_that_is_not_finite_is_told(spoilt):
    H, Y = torch.rand(20, 4), torch.rand(20, 3)
    (H if spoilt == "H" else Y)[0, 0] = torch.nan
    with pytest.warns(ConvergenceWarning, match="not finite"):
        solution = nnls(H, Y)
    assert not solution.converged and solution.kkt_residual.isnan()
