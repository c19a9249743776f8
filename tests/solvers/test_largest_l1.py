"""The smallest l1 at which W is all zero."""

import pytest
import torch
from nnls_problems import random_problem

from diffnmf import nnls
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS, largest_useful_l1

EXACT = [name for name, solver in SOLVERS.items() if solver().exact and name != "cvxpylayer"]


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 2.0**-60, 2.0**60])
def test_W_is_zero_from_there_on_and_not_before(solver, ridge, dtype, scale):
    H, Y = random_problem(2, 3, dtype=dtype)
    H, Y = H * scale, Y * scale
    l1 = largest_useful_l1(H, Y)
    assert l1.shape == (2, 3) and l1.dtype == dtype
    torch.testing.assert_close(l1, (H.mT @ Y).amax((-2, -1)))
    layer = NNLSLayer(solver, ridge=ridge * scale**2)
    assert layer(H, Y, l1=l1[..., None, None]).eq(0).all()
    below = layer(H, Y, l1=(1 - 1e-4) * l1[..., None, None])
    assert (below > 0).flatten(2).any(-1).all()


def test_a_layer_at_the_bound_has_no_gradient():
    H, Y = (x.requires_grad_() for x in random_problem(2))
    for gradient in torch.autograd.grad(NNLSLayer()(H, Y, l1=largest_useful_l1(H, Y)[..., None, None]).sum(), (H, Y)):
        assert gradient.eq(0).all()


def test_cvxpylayers_agrees():
    H, Y = random_problem()
    l1 = largest_useful_l1(H, Y)
    assert NNLSLayer("cvxpylayer")(H, Y, l1=l1).max() <= 1e-7
    assert NNLSLayer("cvxpylayer")(H, Y, l1=0.9 * l1).max() >= 1e-3


def test_nnls_shows_it():
    H, Y = random_problem(2)
    H.requires_grad_()
    for l1 in (0.0, 0.3, 1e9):
        found = nnls(H, Y, l1=l1).largest_useful_l1
        torch.testing.assert_close(found, largest_useful_l1(H, Y), rtol=0, atol=0)
        assert not found.requires_grad


def test_no_positive_correlation_needs_no_l1():
    H = torch.rand(2, 10, 3)
    assert largest_useful_l1(H, -torch.rand(2, 10, 4)).tolist() == [0.0, 0.0]
    assert largest_useful_l1(H, torch.rand(2, 10, 0)).tolist() == [0.0, 0.0]
    assert largest_useful_l1(H[:0], torch.rand(10, 4)).shape == (0,)


@pytest.mark.parametrize("scale", [1e-150, 1e140])
def test_extreme_scales(scale):
    H, Y = random_problem(2)
    torch.testing.assert_close(largest_useful_l1(H * scale, Y * scale) / scale / scale, largest_useful_l1(H, Y))


def test_what_is_not_finite():
    H, Y = random_problem(3)
    expected = largest_useful_l1(H, Y[..., 1:])
    Y[..., 0] = torch.nan
    torch.testing.assert_close(largest_useful_l1(H, Y), expected)
    H[1, 0, 0] = torch.inf
    assert largest_useful_l1(H, Y).isnan().tolist() == [False, True, False]


def test_half_precision_gets_a_tensor_that_l1_takes():
    H, Y = random_problem(2, dtype=torch.float16)
    l1 = largest_useful_l1(H, Y)
    assert l1.dtype == torch.float32
    assert NNLSLayer()(H, Y, l1=l1[..., None, None]).eq(0).all()


def test_under_vmap():
    H, Y = random_problem(3)
    expected = largest_useful_l1(H, Y)
    mapped = torch.func.vmap(lambda h, y: nnls(h, y).largest_useful_l1)(H, Y)
    rounding = {"rtol": 4 * torch.finfo(torch.float64).eps, "atol": 0}  # of another product
    torch.testing.assert_close(mapped, expected, **rounding)
    torch.testing.assert_close(torch.func.vmap(largest_useful_l1)(H, Y), expected, **rounding)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="H and Y"):
        largest_useful_l1(torch.rand(4, 3), torch.rand(5, 2))
    with pytest.raises(TypeError, match=r"H: expected a torch.Tensor"):
        largest_useful_l1([[1.0]], torch.rand(5, 2))
