"""Columns of unit length, of every size and dtype."""

import pytest
import torch

from diffnmf.solvers.norms import safe_norm, with_unit_columns

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0, -0.5, -0.9])
def test_columns_of_every_size_have_length_one(dtype, share):
    """``share`` of the exponents above 1, or below it: lengths and their squares leave the range of the dtype."""
    size = 0.8 * torch.finfo(dtype).max ** share
    directions = 0.25 + 0.75 * torch.rand(2, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    H = (size * directions).to(dtype)
    U = with_unit_columns(H)
    assert U.dtype == dtype
    expected = H.double() / H.double().abs().amax(-2, keepdim=True)
    expected = expected / torch.linalg.vector_norm(expected, dim=-2, keepdim=True)
    torch.testing.assert_close(U, expected.to(dtype), rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_stay_zeros_and_hand_their_gradient_on(dtype):
    H = torch.rand(6, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    H[:, 1] = 0
    H.requires_grad_()
    U = with_unit_columns(H)
    assert not U[:, 1].any() and U[:, [0, 2]].all()
    weights = torch.arange(18.0).reshape(6, 3).to(dtype)
    (U * weights).sum().backward()
    assert H.grad.isfinite().all() and torch.equal(H.grad[:, 1], weights[:, 1])


def test_not_a_number_spoils_its_own_column_alone():
    H = torch.ones(4, 3)
    H[1, 1] = torch.nan
    U = with_unit_columns(H)
    assert U[:, 1].isnan().all() and torch.equal(U[:, [0, 2]], torch.full((4, 2), 0.5))


def test_gradients_and_transforms():
    H = torch.rand(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(with_unit_columns, H, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(with_unit_columns, H)
    assert torch.equal(torch.func.vmap(with_unit_columns)(H), with_unit_columns(H))
    assert with_unit_columns(torch.empty(0, 3)).shape == (0, 3)


def test_a_device_without_float64_has_norms_in_float32(monkeypatch):
    monkeypatch.setattr("diffnmf.solvers.norms.has_float64", lambda device: False)
    H = torch.rand(5, 3)
    assert safe_norm(H, dim=-2).dtype == torch.float32
    torch.testing.assert_close(safe_norm(with_unit_columns(H), dim=-2), torch.ones(3))
