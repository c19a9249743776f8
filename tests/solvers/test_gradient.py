"""Gradients of the NNLS layer against finite differences, another implementation, and each other."""

import pytest
import torch
from helpers import EXACT_TO_ROUNDING, UNROLLABLE
from nnls_problems import random_problem, with_condition
from torch.autograd import gradcheck, gradgradcheck

from diffnmf import nnls
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS


def leaves(*batch, n=8, k=4, m=3, seed=0):
    H, Y = random_problem(*batch, n=n, k=k, m=m, seed=seed)
    ridge = torch.full((*batch, 1, 1), 0.3, dtype=torch.float64)
    l1 = torch.full((*batch, 1, 1), 0.2, dtype=torch.float64)
    return tuple(x.requires_grad_() for x in (H, Y, ridge, l1))


def solve(**options):
    return lambda H, Y, ridge, l1: nnls(H, Y, ridge=ridge, l1=l1, **options).W


@pytest.mark.parametrize("solver", EXACT_TO_ROUNDING)
def test_first_and_second_order(solver):
    inputs = leaves(2)
    assert solve(solver=solver)(*inputs).eq(0).any()  # some entries are at their bound
    assert gradcheck(solve(solver=solver), inputs)
    assert gradgradcheck(solve(solver=solver), inputs)


@pytest.mark.parametrize("solver", EXACT_TO_ROUNDING)
def test_broadcast_and_shared_basis(solver):
    H, Y = random_problem(2)
    assert gradcheck(NNLSLayer(solver), (H[0].requires_grad_(), Y.requires_grad_()))


def test_third_order():
    H, Y, _, _ = leaves(n=5, k=2, m=2, seed=3)

    def gradient(H, Y):
        W = NNLSLayer()(H, Y)
        return torch.autograd.grad((W**3).sum(), (H, Y), create_graph=True)

    assert gradgradcheck(gradient, (H, Y))


@pytest.mark.parametrize("solver", SOLVERS)
def test_detached_is_a_constant(solver):
    H, Y, _, _ = leaves(2)
    assert not NNLSLayer(solver, backward="detached")(H, Y).requires_grad


@pytest.mark.parametrize("solver", EXACT_TO_ROUNDING)
@pytest.mark.parametrize(("n", "k", "m"), [(40, 10, 6), (6, 9, 4)])
def test_agreement_with_cvxpylayers(solver, n, k, m):
    H, Y, ridge, l1 = leaves(2, n=n, k=k, m=m, seed=5)
    weights = torch.randn(2, k, m, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = {}
    for name in (solver, "cvxpylayer"):
        W = nnls(H, Y, ridge=ridge, l1=l1, solver=name).W
        results[name] = (W, *torch.autograd.grad((W * weights).sum(), (H, Y, ridge, l1)))
    for ours, theirs in zip(*results.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_gradient_in_a_batch_is_the_gradient_in_a_loop():
    H, Y, ridge, l1 = leaves(3, n=20, k=6, m=5)
    (together,) = torch.autograd.grad(nnls(H, Y, ridge=ridge, l1=l1).W.square().sum(), H)
    for i in range(3):
        h = H[i].detach().requires_grad_()
        (alone,) = torch.autograd.grad(nnls(h, Y[i], ridge=ridge[i], l1=l1[i]).W.square().sum(), h)
        torch.testing.assert_close(together[i], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("penalised", [False, True])
def test_envelope_identity(penalised):
    """Where the outer loss is what W minimises, the path through W adds nothing."""
    H, Y, ridge, l1 = leaves(2, n=20, k=6, m=5)
    if not penalised:
        ridge, l1 = torch.zeros_like(ridge), torch.zeros_like(l1)

    def gradient(backward):
        W = nnls(H, Y, ridge=ridge, l1=l1, backward=backward).W
        loss = 0.5 * (Y - H @ W).square().sum()
        loss = loss + (l1 * W + 0.5 * ridge * W.square()).sum()
        return torch.autograd.grad(loss, (H, Y))

    for implicit, detached in zip(gradient("implicit"), gradient("detached"), strict=True):
        torch.testing.assert_close(implicit, detached, rtol=0, atol=1e-12)


def test_the_path_through_W_matters_for_other_losses():
    H, Y, _, _ = leaves(2, n=20, k=6, m=5)
    losses = {b: (Y - H @ NNLSLayer(backward=b)(H, Y)).abs().mean() for b in ("implicit", "detached")}
    implicit, detached = (torch.autograd.grad(loss, H)[0] for loss in losses.values())
    assert (implicit - detached).norm() > 0.1 * detached.norm()


@pytest.mark.parametrize("asked", ["H", "Y", "ridge", "l1"])
def test_gradient_only_where_asked_for(asked):
    names = ("H", "Y", "ridge", "l1")
    inputs = {name: x.detach() for name, x in zip(names, leaves(2), strict=True)}
    full = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    inputs[asked] = inputs[asked].clone().requires_grad_()
    nnls(**inputs).W.square().sum().backward()
    nnls(**full).W.square().sum().backward()
    assert [name for name in names if inputs[name].grad is not None] == [asked]
    torch.testing.assert_close(inputs[asked].grad, full[asked].grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_gradients_have_the_input_dtype_and_are_right(dtype):
    H, Y = random_problem(2, n=20, k=5, m=4)
    H, Y = H.to(dtype).requires_grad_(), Y.to(dtype).requires_grad_()
    exact = tuple(x.detach().double().requires_grad_() for x in (H, Y))
    NNLSLayer()(H, Y).sum().backward()
    NNLSLayer()(*exact).sum().backward()
    for low, high in zip((H, Y), exact, strict=True):
        assert low.grad.dtype == dtype
        error = (low.grad.double() - high.grad).norm() / high.grad.norm()
        assert error <= 10 * torch.finfo(dtype).eps


def test_planted_solutions_have_finite_gradients():
    """At ties any element of the conservative Jacobian will do, but it must be a number."""
    H = torch.rand(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    planted = torch.rand(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).round()
    H.requires_grad_()
    NNLSLayer()(H, (H @ planted).detach()).square().sum().backward()
    assert H.grad.isfinite().all()


def test_rank_deficient_and_dead_columns_have_finite_gradients():
    H, Y = random_problem(2, n=20, k=6, m=5)
    H[..., 3] = H[..., 2]
    H[..., 5] = 0
    H.requires_grad_()
    solution = nnls(H, Y)
    solution.W.square().sum().backward()
    assert solution.converged.all()
    assert H.grad.isfinite().all()


@pytest.mark.parametrize("create_graph", [False, True])
def test_nearly_equal_columns_keep_the_digits_of_the_gradient(create_graph):
    """At condition 1e6 the Gram matrix alone would give 2e-4: the reference is a dense solve with H itself."""
    H, Y = random_problem(n=30, k=4, m=3)
    H[:, 1] = H[:, 0] + 1e-6 * H[:, 1]
    H, Y = H.abs(), Y.abs()
    H.requires_grad_()
    W = NNLSLayer()(H, Y)
    weights = torch.randn(W.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((W * weights).sum(), H, create_graph=create_graph)
    expected = torch.zeros_like(gradient)
    for y, w, g in zip(Y.T, W.detach().T, weights.T, strict=True):
        free = w > 0
        basis = H.detach()[:, free]
        R = torch.linalg.qr(basis).R
        v = torch.linalg.solve_triangular(R.T, g[free, None], upper=False)
        v = torch.linalg.solve_triangular(R, v, upper=True)[:, 0]
        expected[:, free] += torch.outer(y - basis @ w[free], v) - torch.outer(basis @ v, w[free])
    assert (gradient - expected).norm() <= 1e-7 * expected.norm()


def test_float32_gradients_of_an_ill_conditioned_basis():
    H, Y = with_condition(60, 10, 1e4).float().requires_grad_(), random_problem(n=60, k=1, m=8)[1].float()
    exact = H.detach().double().requires_grad_()
    NNLSLayer()(H, Y).sum().backward()
    NNLSLayer()(exact, Y.double()).sum().backward()
    assert (H.grad.double() - exact.grad).norm() <= 1e-5 * exact.grad.norm()


def test_backward_inside_autocast_keeps_its_precision():
    H, Y = (x.float() for x in random_problem(2, n=20, k=5, m=4))
    H.requires_grad_()
    (expected,) = torch.autograd.grad(NNLSLayer()(H, Y).sum(), H)
    W = NNLSLayer()(H, Y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (gradient,) = torch.autograd.grad(W.sum(), H)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name not in UNROLLABLE])
def test_what_cannot_be_unrolled_is_refused_with_and_without_a_gradient(solver):
    H, Y = random_problem()
    with pytest.raises(ValueError, match='backward: .*use "implicit" or "detached"'):
        NNLSLayer(solver, backward="unrolled")(H, Y)
