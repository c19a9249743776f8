"""The kernels of HᵀH, HᵀY and ‖y‖² against the operations of torch."""

import pytest
import torch

from diffnmf.kernels import normal_equations

pytestmark = pytest.mark.usefixtures("every_variant")
# B, n, k, m: fewer and more than whole vectors, tiles and blocks of columns.
SHAPES = [(1, 1, 1, 1), (2, 31, 4, 5), (3, 70, 5, 97), (1, 5, 9, 300), (2, 100, 33, 13)]


def side_by_side(turned, *shape, dtype):
    """A matrix whose rows lie side by side, or whose columns do."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.mT.contiguous().mT if turned else x


@pytest.mark.parametrize("turned", ["", "H", "Y", "HY"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "n", "k", "m"), SHAPES)
def test_products_are_those_of_float64(batch, n, k, m, dtype, turned):
    H = side_by_side("H" in turned, batch, n, k, dtype=dtype)
    Y = side_by_side("Y" in turned, batch, n, m, dtype=dtype)
    close = {"rtol": 1e-12, "atol": 1e-12 * n}
    torch.testing.assert_close(normal_equations.gram(H), H.double().mT @ H.double(), **close)
    torch.testing.assert_close(normal_equations.correlation(H, Y), H.double().mT @ Y.double(), **close)
    torch.testing.assert_close(normal_equations.squares(Y), Y.double().square().sum(1, keepdim=True), **close)
    W = torch.rand(batch, k, m, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    residual = H.double() @ W - Y.double()
    gradient, squares = normal_equations.residual_gradient(H, Y, W)
    torch.testing.assert_close(gradient, H.double().mT @ residual, rtol=1e-12, atol=1e-12 * n * k)
    torch.testing.assert_close(squares, residual.square().sum(1, keepdim=True), rtol=1e-12, atol=1e-12 * n * k)


def test_one_basis_for_a_batch_and_every_second_number():
    H = torch.rand(1, 40, 6).expand(3, -1, -1)
    Y = torch.rand(3, 40, 20)[:, ::2, ::2]
    expected = H[:, ::2].double().mT @ Y.double()
    torch.testing.assert_close(normal_equations.correlation(H[:, ::2], Y), expected)
    torch.testing.assert_close(normal_equations.gram(H), H.double().mT @ H.double())


def test_nothing():
    H, Y = torch.rand(0, 5, 3), torch.rand(2, 5, 0)
    assert normal_equations.gram(H).shape == (0, 3, 3)
    assert normal_equations.correlation(torch.rand(2, 5, 3), Y).shape == (2, 3, 0)
    assert normal_equations.squares(Y).shape == (2, 1, 0)
