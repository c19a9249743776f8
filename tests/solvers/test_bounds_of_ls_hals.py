"""Solver "ls_hals" with bounds: its steps against plain ones in numpy, and against the exact solution."""

import numpy as np
import pytest
import torch
from helpers import rand, randn
from nnls_problems import random_problem
from torch.autograd import gradcheck

from diffnmf import nnls, nnls_gram
from diffnmf.layers import NNLSLayer
from diffnmf.models import Generator, GeneratorConfig
from diffnmf.solvers import LeastSquaresHALS

pytestmark = [
    pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning"),
    pytest.mark.usefixtures("one_thread"),
]

SIGNED = torch.tensor([[False], [True], [False], [False]])
MANY = LeastSquaresHALS(300)


def by_hand(H, Y, lower, upper, sweeps, ridge=0.0, l1=0.0):
    """Clipped least squares, then one entry after the other at its clipped optimum, in the units of H and Y."""
    H, Y, lower, upper = (x.numpy() for x in (H, Y, lower, upper))
    system = H.T @ H + ridge * np.eye(H.shape[1])
    W = np.clip(np.linalg.solve(system, H.T @ Y - l1), lower, upper)
    for _ in range(sweeps):
        for i in range(len(W)):
            gradient = H[:, i] @ (H @ W - Y) + l1 + ridge * W[i]
            W[i] = np.clip(W[i] - gradient / system[i, i], lower[i], upper[i])
    return torch.from_numpy(W)


@pytest.mark.parametrize("sweeps", [0, 1, 4])
@pytest.mark.parametrize(("ridge", "l1"), [(0.0, 0.0), (0.7, 0.4)])
def test_every_step_is_clipped(sweeps, ridge, l1):
    H, Y = random_problem(n=10, k=4, m=6)
    upper = 0.2 * rand(4, 6, seed=5)
    upper[0, 0], upper[2] = torch.inf, 2.0
    lower = torch.where(SIGNED, -torch.inf, torch.zeros(4, 6, dtype=torch.float64))
    layer = NNLSLayer(LeastSquaresHALS(sweeps), ridge=ridge, l1=l1, upper=upper, signed=SIGNED, backward="unrolled")
    W = layer(H, Y)
    expected = by_hand(H, Y, lower, upper, sweeps, ridge, l1)
    torch.testing.assert_close(W, expected, rtol=0, atol=1e-8)  # 1e-10 of Tikhonov, times cond(G)
    assert (expected == upper).any()
    assert (expected < 0).any()


@pytest.mark.parametrize("options", [{"upper": 0.3}, {"signed": SIGNED}, {"upper": 0.3, "signed": SIGNED}], ids=str)
def test_many_sweeps_reach_the_exact_solution(options):
    H, Y = rand(3, 12, 4), randn(3, 12, 7, seed=1)
    exact = nnls(H, Y, **options).W
    torch.testing.assert_close(nnls(H, Y, solver=MANY, backward="unrolled", **options).W, exact, rtol=0, atol=1e-9)
    assert not torch.equal(exact, nnls(H, Y).W)  # the bounds have something to say


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_no_entry_is_above_its_bound_by_a_single_bit(dtype, scale):
    H, Y = rand(20, 6, dtype=dtype), (scale * rand(20, 30, seed=1)).to(dtype)
    upper = (0.1 * scale * rand(6, 30, seed=2)).to(dtype)
    W = NNLSLayer("ls_hals", upper=upper, backward="detached")(H, Y)
    assert (upper >= W).all()
    assert (upper == W).any()
    assert (W >= 0).all()


def test_what_is_not_allowed_and_what_has_no_room_stays_out_of_the_least_squares():
    H, Y = random_problem(n=10, k=4, m=3)
    mask = torch.tensor([[True], [False], [True], [True]])
    rest = nnls(H[:, mask.squeeze()], Y, solver=LeastSquaresHALS(0), upper=0.5).W
    for options in ({"allowed": mask, "upper": 0.5}, {"upper": torch.where(mask, 0.5, 0.0).double()}):
        W = nnls(H, Y, solver=LeastSquaresHALS(60), **options).W
        assert (W[1] == 0).all()
        torch.testing.assert_close(W, nnls(H, Y, **options).W, rtol=0, atol=1e-6)
    assert rest.max() <= 0.5


def test_the_gradient_is_that_of_the_steps():
    H, Y = random_problem(n=8, k=4, m=3)
    upper = 0.2 + rand(4, 3, seed=3)
    upper[3, 0] = torch.inf  # must not become NaN on the way back
    layer = NNLSLayer("ls_hals", signed=SIGNED, backward="unrolled")
    W = layer(H, Y, upper=upper)
    assert (upper == W).any()
    assert ((upper > W) & (W > 0)).any()
    leaves = [x.clone().requires_grad_() for x in (H, Y)]
    assert gradcheck(lambda H, Y: layer(H, Y, upper=upper), leaves)
    finite = upper.clamp(max=5.0).requires_grad_()
    assert gradcheck(lambda H, Y, u: layer(H, Y, upper=u), (*leaves, finite))
    constant = NNLSLayer("ls_hals", upper=0.3, backward="detached")(*leaves)
    assert not constant.requires_grad


def test_transforms_see_the_same_steps():
    H, Y = rand(3, 8, 4), randn(3, 8, 5, seed=1)
    layer = NNLSLayer("ls_hals", upper=0.2, backward="unrolled")
    torch.testing.assert_close(torch.func.vmap(layer)(H, Y), layer(H, Y))
    leaf = H.clone().requires_grad_()
    (expected,) = torch.autograd.grad(layer(leaf, Y).square().sum(), leaf)
    found = torch.func.vmap(torch.func.grad(lambda h, y: layer(h, y).square().sum()))(H, Y)
    torch.testing.assert_close(found, expected)
    held = NNLSLayer("ls_hals", upper=0.2, backward="detached")
    torch.testing.assert_close(torch.func.vmap(held)(H, Y), layer(H, Y))
    assert torch.func.grad(lambda h: held(h, Y[0]).sum() + h.sum())(H[0]).eq(1).all()


@pytest.mark.parametrize(
    "options", [{"total": 1.0}, {"weights": torch.ones(8, 1).double()}, {"ridge": torch.ones(4, 5).double()}], ids=str
)
def test_more_than_bounds_is_refused(options):
    with pytest.raises(ValueError, match="ls_hals as it is set does not take weights, total, nor a ridge"):
        nnls(rand(8, 4), rand(8, 5), solver="ls_hals", upper=1.0, **options)
    with pytest.raises(ValueError, match="ls_hals as it is set does not take"):
        nnls_gram(torch.eye(4), torch.ones(4, 1), solver="ls_hals", upper=1.0)


def test_a_generator_of_intensities():
    """H and W in [0, 1] as Li et al. (2020) have them, and still with a gradient."""
    torch.manual_seed(0)
    for w_solver in ("ls_hals", "unrolled"):
        model = Generator(GeneratorConfig((8, 8), 6, 3, w_solver, width=8, upper=1.0))
        Y = 3 * torch.rand(2, 64, 6)  # brighter than one component can be
        H, W, Y_hat = model(Y)
        assert H.max() == 1
        assert W.max() == 1
        assert min(H.min(), W.min()) >= 0
        (Y_hat - Y).abs().mean().backward()
        assert any(p.grad.abs().max() > 0 for p in model.unet.parameters())
    free = Generator(GeneratorConfig((8, 8), 6, 3, "ls_hals", width=8))
    assert free(Y).H.max() > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"w_solver": "fc"}, "upper: expected none for w_solver 'fc'"),
        ({"w_solver": "unrolled", "w_steps": 5}, "upper: expected none for the steps of w_solver 'unrolled'"),
        ({"w_solver": "hals", "w_backward": "unrolled"}, "upper: expected none for the steps of w_solver 'hals'"),
    ],
)
def test_a_generator_whose_weights_know_no_bound(options, message):
    with pytest.raises(ValueError, match=message):
        GeneratorConfig((8, 8), 6, 3, upper=1.0, **options)
