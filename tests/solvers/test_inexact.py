"""The solvers that stop before the solution: their steps against plain ones in numpy, and when they stop."""

import numpy as np
import pytest
import torch
from helpers import EXACT, UNROLLABLE, rand, randn
from nnls_problems import kkt, random_problem, with_condition
from torch.autograd import gradcheck

from diffnmf import nnls
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS, CoordinateDescent, FirstOrderSolver, LeastSquaresHALS, ProjectedGradient

pytestmark = pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")

FIRST_ORDER = [name for name, solver in SOLVERS.items() if issubclass(solver, FirstOrderSolver)]
STOPPED = [name for name in UNROLLABLE if name in EXACT]  # only without their finish


def swept(H, Y, W, sweeps, ridge=0.0, l1=0.0):
    """Coordinate descent as a textbook has it, one entry after the other in the units of H and Y."""
    H, Y, W = H.numpy(), Y.numpy(), W.numpy().copy()
    for _ in range(sweeps):
        for j in range(W.shape[1]):
            for i in range(W.shape[0]):
                gradient = H[:, i] @ (H @ W[:, j] - Y[:, j]) + l1 + ridge * W[i, j]
                W[i, j] = max(0.0, W[i, j] - gradient / (H[:, i] @ H[:, i] + ridge))
    return torch.from_numpy(W)


@pytest.mark.parametrize("sweeps", [1, 2, 5])
@pytest.mark.parametrize(("ridge", "l1"), [(0.0, 0.0), (0.7, 0.4)])
def test_coordinate_descent_is_that_of_a_textbook(sweeps, ridge, l1):
    H, Y = random_problem(n=10, k=4, m=3)
    solver = CoordinateDescent(max_iter=sweeps, finish=False)
    for start in (torch.zeros(4, 3, dtype=torch.float64), rand(4, 3, seed=3)):
        W = NNLSLayer(solver, ridge=ridge, l1=l1, backward="unrolled")(H, Y, W0=start)
        torch.testing.assert_close(W, swept(H, Y, start, sweeps, ridge, l1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sweeps", [0, 1, 4])
def test_ls_hals_is_clipped_least_squares_and_sweeps(sweeps):
    H, Y = random_problem(n=10, k=4, m=3)
    clipped = torch.from_numpy(np.linalg.lstsq(H.numpy(), Y.numpy(), rcond=None)[0]).clamp(min=0)
    W = NNLSLayer(LeastSquaresHALS(sweeps), backward="unrolled")(H, Y)
    torch.testing.assert_close(W, swept(H, Y, clipped, sweeps), rtol=0, atol=1e-8)  # 1e-10 of Tikhonov, times cond(G)


def test_ls_hals_shares_the_weight_among_equal_columns():
    H, Y = random_problem(n=10, k=4, m=3)
    H[:, 3] = H[:, 1]
    W = NNLSLayer(LeastSquaresHALS(0), backward="unrolled")(H, Y)
    torch.testing.assert_close(W[3], W[1], rtol=0, atol=1e-4)
    assert W[1].max() > 0


@pytest.mark.parametrize("name", UNROLLABLE)
def test_one_step_solves_an_orthogonal_basis(name):
    H = torch.linalg.qr(randn(8, 4)).Q * torch.tensor([1.0, 0.1, 7.0, 3.0], dtype=torch.float64)
    W = NNLSLayer(SOLVERS[name]().truncated(1), backward="unrolled")(H, randn(8, 5, seed=1))
    assert kkt(H, randn(8, 5, seed=1), W) <= 1e-9


def test_momentum_pays():
    """Gradient steps without it are the reference; both start at zero and take a step of one over the same bound."""
    H, Y = rand(60, 20), rand(60, 8, seed=1)
    W = NNLSLayer(ProjectedGradient(max_iter=200, finish=False), backward="unrolled")(H, Y)
    unit = H / torch.linalg.vector_norm(H, dim=0)
    G, X = unit.T @ unit, torch.zeros(20, 8, dtype=torch.float64)
    for _ in range(200):
        X = (X - (G @ X - unit.T @ Y) / torch.linalg.eigvalsh(G)[-1]).clamp(min=0)
    assert kkt(H, Y, W) < 0.1 * kkt(unit, Y, X)


def test_restarts_make_it_converge_linearly():
    """Momentum alone is at 3e-5 here: it swings around the solution."""
    H, Y = with_condition(40, 10, 30), randn(40, 5)
    assert nnls(H, Y, solver=ProjectedGradient(max_iter=400, finish=False)).kkt_residual <= 1e-9


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_the_tolerance_is_reached_and_no_step_is_taken_beyond(name, tol):
    H, Y = with_condition(40, 10, 30), randn(40, 5)
    solver = SOLVERS[name](max_iter=5000, tol=tol, finish=False)
    solution = nnls(H, Y, solver=solver)
    steps = int(solution.iterations)
    assert solution.converged and 0 < steps < 5000
    assert kkt(H, Y, solution.W) <= tol * (1 + 1e-9)
    earlier = nnls(H, Y, solver=solver.truncated(steps - solver.CHECK_EVERY))
    assert kkt(H, Y, earlier.W) > tol
    assert torch.equal(nnls(H, Y, solver=solver.truncated(steps)).W, solution.W)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_each_problem_stops_for_itself(name):
    easy, hard, Y = with_condition(40, 10, 2), with_condition(40, 10, 100), randn(40, 5)
    solver = SOLVERS[name](max_iter=5000, tol=1e-6, finish=False)
    both = nnls(torch.stack([easy, hard]), Y, solver=solver)
    assert both.iterations[0] < both.iterations[1] < 5000
    for i, H in enumerate((easy, hard)):
        alone = nnls(H, Y, solver=solver)
        assert alone.iterations == both.iterations[i]
        torch.testing.assert_close(both.W[i], alone.W, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_tolerance_of_zero_takes_every_step(name):
    H, Y = torch.eye(4, dtype=torch.float64), randn(4, 3)  # solved after one
    assert nnls(H, Y, solver=SOLVERS[name](max_iter=30, finish=False)).iterations == 30


@pytest.mark.parametrize("name", STOPPED)
def test_truncated_steps_lead_to_the_solution(name):
    H, Y = random_problem(2, n=20, k=6, m=5)
    W = nnls(H, Y, solver=SOLVERS[name]().truncated(2000)).W
    torch.testing.assert_close(W, nnls(H, Y).W, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in UNROLLABLE])
def test_what_only_ends_at_the_solution_cannot_be_truncated(name):
    with pytest.raises(ValueError, match=r"steps: expected none for \w+, which only ends at the solution; got 3"):
        SOLVERS[name]().truncated(3)


def leaves(n=8, k=4, m=3, seed=0):
    H, Y = random_problem(1, n=n, k=k, m=m, seed=seed)
    penalties = (torch.full((1,), value, dtype=torch.float64) for value in (0.3, 0.2))
    return tuple(x.requires_grad_() for x in (H, Y, *penalties))


def unrolled(solver):
    layer = NNLSLayer(solver, backward="unrolled")
    return lambda H, Y, ridge, l1: layer(H, Y, ridge=ridge, l1=l1)


@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("name", UNROLLABLE)
def test_the_unrolled_gradient_is_that_of_the_steps(name, steps):
    inputs = leaves()
    solve = unrolled(SOLVERS[name]().truncated(steps))
    assert solve(*inputs).eq(0).any()  # some entries are at their bound
    assert gradcheck(solve, inputs)


@pytest.mark.parametrize("name", STOPPED)
def test_the_unrolled_gradient_leaves_out_the_finish(name):
    solver = SOLVERS[name](max_iter=4)
    assert gradcheck(unrolled(solver), leaves())
    torch.testing.assert_close(unrolled(solver)(*leaves()), unrolled(solver.truncated(4))(*leaves()), rtol=0, atol=0)


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_the_unrolled_gradient_of_a_solver_that_stops_by_its_tolerance(name):
    solver = SOLVERS[name](max_iter=500, tol=1e-3, finish=False)
    H, Y, ridge, l1 = leaves()
    steps = int(nnls(H, Y, ridge=ridge, l1=l1, solver=solver, backward="detached").iterations)
    assert 0 < steps < 500
    weights = randn(1, 4, 3, seed=2)
    stopped, counted = (
        torch.autograd.grad((unrolled(s)(H, Y, ridge, l1) * weights).sum(), (H, Y, ridge, l1))
        for s in (solver, solver.truncated(steps))
    )
    for a, b in zip(stopped, counted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", UNROLLABLE)
def test_the_unrolled_gradient_converges_to_the_implicit_one(name):
    inputs = leaves()
    exact = torch.autograd.grad(NNLSLayer()(inputs[0], inputs[1], ridge=inputs[2], l1=inputs[3]).sin().sum(), inputs)
    long = torch.autograd.grad(unrolled(SOLVERS[name]().truncated(1000))(*inputs).sin().sum(), inputs)
    for a, b in zip(exact, long, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", STOPPED)
def test_no_gradient_comes_from_a_warm_start(name):
    H, Y = random_problem(n=8, k=4, m=3)
    W0 = rand(4, 3).requires_grad_()
    W = NNLSLayer(SOLVERS[name]().truncated(2), backward="unrolled")(H.requires_grad_(), Y, W0=W0)
    assert torch.autograd.grad(W.sum(), (H, W0), allow_unused=True)[1] is None


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("name", STOPPED)
def test_the_unrolled_gradient_from_a_warm_start(name, steps):
    """W0 is the same however H and Y are scaled: what is no number in it adds nothing."""
    W0 = rand(4, 3, seed=5)
    W0[0, 1], W0[2, 0] = torch.nan, torch.inf
    layer = NNLSLayer(SOLVERS[name]().truncated(steps), backward="unrolled")
    H, Y, ridge, l1 = leaves()
    assert gradcheck(lambda *inputs: layer(*inputs[:2], W0=W0, ridge=inputs[2], l1=inputs[3]), (H, Y, ridge, l1))


@pytest.mark.parametrize("name", UNROLLABLE)
def test_second_derivatives_of_the_steps_at_a_black_image(name):
    H, Y = random_problem(1, n=6, k=3, m=3)
    Y[..., 1] = 0
    inputs = H.requires_grad_(), Y.requires_grad_()
    W = NNLSLayer(SOLVERS[name]().truncated(2), backward="unrolled")(*inputs)
    first = torch.autograd.grad(W.sin().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(x.sin().sum() for x in first), inputs)
    assert all(x.isfinite().all() for x in (*first, *second))


@pytest.mark.parametrize("solver", [ProjectedGradient, CoordinateDescent])
@pytest.mark.parametrize("backward", ["unrolled", "detached"])
def test_no_step_leaves_an_entry_that_is_not_allowed(solver, backward):
    H, Y = random_problem(2)
    allowed = torch.arange(4)[:, None] != 1
    W0 = torch.ones(2, 4, 3, dtype=torch.float64)
    for steps in (0, 1, 3):
        W = NNLSLayer(solver(max_iter=steps, finish=False), backward=backward)(H, Y, allowed=allowed, W0=W0)
        assert (W[:, 1] == 0).all() and (W != 0).any()


@pytest.mark.parametrize("solver", [ProjectedGradient, CoordinateDescent])
def test_unrolled_gradients_at_small_scales_with_entries_that_are_not_allowed(solver):
    H, Y = random_problem(2)
    allowed, scale = torch.arange(4)[:, None] != 1, 2.0**-100
    gradients = []
    for s in (1.0, scale):
        inputs = [(H * s).requires_grad_(), (Y * s).requires_grad_()]
        layer = NNLSLayer(solver(max_iter=3, finish=False), backward="unrolled")
        gradients.append(torch.autograd.grad(layer(*inputs, allowed=allowed).sin().sum(), inputs))
    for usual, small in zip(*gradients, strict=True):
        torch.testing.assert_close(small * scale, usual, rtol=1e-12, atol=1e-14)
