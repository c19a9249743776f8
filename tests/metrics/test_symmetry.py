"""The distance of two bases, order and scale of their columns left aside."""

import itertools

import pytest
import torch
from helpers import rand

from diffnmf.metrics import symmetry_adjusted_error


def by_trying(H, H_true):
    """Every permutation, each column at its best scale ≥ 0."""
    best = torch.inf
    for order in itertools.permutations(range(H.shape[1])):
        P = H[:, list(order)]
        scale = ((P * H_true).sum(0) / P.square().sum(0)).clamp(min=0)
        best = min(best, (P * scale - H_true).norm().item())
    return best / H_true.norm().item()


@pytest.mark.parametrize("seed", range(4))
def test_no_order_and_no_scale_is_nearer(seed):
    H, H_true = rand(7, 4, seed=seed), rand(7, 4, seed=seed + 10)
    assert symmetry_adjusted_error(H, H_true).item() == pytest.approx(by_trying(H, H_true), rel=1e-12)


def test_columns_of_any_sign_are_not_turned_around():
    H_true = torch.eye(3, dtype=torch.float64)
    assert symmetry_adjusted_error(-H_true, H_true) == 1
    H, T = rand(6, 3) - 0.5, rand(6, 3, seed=1) - 0.5
    assert symmetry_adjusted_error(H, T).item() == pytest.approx(by_trying(H, T), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e18])
def test_it_is_zero_for_the_same_parts(dtype, scale):
    H = rand(2, 3, 20, 6, dtype=dtype)
    other = H[..., torch.randperm(6)] * torch.tensor([0.1, 3.0, 1.0, 7.0, 0.5, 2.0], dtype=dtype) * scale
    error = symmetry_adjusted_error(other, H)
    assert error.shape == (2, 3)
    assert error.dtype == dtype
    assert error.max() < 100 * torch.finfo(dtype).eps
    assert symmetry_adjusted_error(H, other).max() < 100 * torch.finfo(dtype).eps


def test_numbers_whose_squares_overflow():
    H = torch.diag(torch.tensor([1e200, 1e-200, 1.0], dtype=torch.float64))
    assert symmetry_adjusted_error(H.flip(-1), H) == 0


def test_one_true_basis_for_many():
    H, H_true = rand(5, 9, 3), rand(9, 3, seed=1)
    found = symmetry_adjusted_error(H, H_true)
    assert [symmetry_adjusted_error(h, H_true).item() for h in H] == found.tolist()


def test_what_is_missing_or_no_number():
    H = torch.eye(4, dtype=torch.float64)
    missing = H.clone()
    missing[:, 2] = 0
    assert symmetry_adjusted_error(missing, H).item() == pytest.approx(0.5)
    assert symmetry_adjusted_error(0 * H, H) == 1
    broken = torch.stack((H, H))
    broken[1, 0, 0] = torch.nan
    for error in (symmetry_adjusted_error(broken, H), symmetry_adjusted_error(H, broken)):
        assert error[0] == 0
        assert error[1].isnan()
    assert symmetry_adjusted_error(H, 0 * H).isnan()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.rand(4, 3), torch.rand(4, 2)), ValueError, r"H_true: expected the rows and columns of H, \(4, 3\)"),
        ((torch.rand(2, 4, 3), torch.rand(3, 4, 3)), ValueError, "H_true: expected batch dimensions that broadcast"),
        ((torch.rand(4), torch.rand(4, 2)), ValueError, "H: expected a matrix"),
        ((torch.rand(4, 3), [[1.0]]), TypeError, "H_true: expected a torch.Tensor"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        symmetry_adjusted_error(*arguments)
