"""Beta-divergences where numbers are difficult: zeros, small entries beside large ones, β near 0 and 1."""

import pytest
import torch
from nmf_problems import random_matrix

from diffnmf.factorization.reconstruction import Loss, weights_of


@pytest.mark.parametrize("beta", [-1, 0, 0.5, 1, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("least", [0.0, 1e-3])
def test_weights_that_are_small_beside_others_are_solved_for(beta, dtype, least):
    """Of components that share hardly anything every weight is known."""
    H = (torch.eye(4) + least * random_matrix(4, 4)).to(dtype)
    W = torch.tensor([[1.0, 0.7], [0.2, 1.0], [1e-2, 3e-3], [3e-3, 1.0]], dtype=dtype)
    found = weights_of(H, H @ W, None, Loss(beta))
    torch.testing.assert_close(found, W, rtol=1e-2 if dtype == torch.float32 else 1e-5, atol=0)
