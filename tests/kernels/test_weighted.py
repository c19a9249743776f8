"""The kernel of weighted Gram matrices against the operations of torch."""

import pytest
import torch

from diffnmf.kernels import weighted
from diffnmf.solvers.constrained.form import weighted_gram

pytestmark = pytest.mark.usefixtures("every_variant")
# B, n, k, m: fewer and more than whole tiles and strips.
SHAPES = [(1, 1, 1, 1), (2, 31, 4, 5), (3, 70, 5, 97), (1, 5, 9, 200), (2, 100, 33, 13)]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "n", "k", "m"), SHAPES)
def test_weighted_gram(request, batch, n, k, m, dtype, turned):
    generator = torch.Generator().manual_seed(0)
    H = torch.randn(batch, n, k, generator=generator, dtype=dtype)
    V = torch.rand(batch, *((m, n) if turned else (n, m)), generator=generator, dtype=dtype)
    V = V.mT if turned else V
    ours = weighted_gram(H, V)
    assert torch.equal(ours, ours.mT)
    request.getfixturevalue("torch_alone")
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(ours, weighted_gram(H, V), rtol=tolerance, atol=tolerance * n)


def test_one_weight_for_all_columns_is_read_as_it_lies():
    H, v = torch.rand(2, 20, 3, dtype=torch.float64), torch.rand(2, 20, 1, dtype=torch.float64)
    expected = (H.mT @ (H * v)).unsqueeze(1).expand(-1, 50, -1, -1)
    torch.testing.assert_close(weighted.gram(H.mT, v.expand(-1, -1, 50)), expected)
