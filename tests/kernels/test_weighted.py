"""The kernels of weighted Gram matrices and of weighted half-steps against the operations of torch."""

import pytest
import torch

from diffnmf.factorization import weighted_sweep
from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.factorization.weighted_half_step import WeightedHalfStep
from diffnmf.factorization.weighted_sweep import weighted_sweep_
from diffnmf.kernels import weighted
from diffnmf.solvers.constrained.form import weighted_gram
from diffnmf.solvers.exact.chunks import MAX_ENTRIES_ACCELERATOR

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


def drawn_half_step(batch, k, p, width, dtype, *, turned=False, penalized=False):
    """A half-step of which a quarter of the entries are missing, and a factor to begin with."""
    generator = torch.Generator().manual_seed(0)
    F, X, T, V = (
        torch.rand(batch, *shape, generator=generator, dtype=dtype)
        for shape in ((k, p), (k, width), *[(width, p) if turned else (p, width)] * 2)
    )
    F[:, k // 2] = 0  # a dead component has no curvature
    V = torch.where(V < 0.25, 0.0, V)
    penalties = Penalties.of(0.5, 0.3, T).take(torch.zeros(batch, dtype=torch.int64)) if penalized else Penalties()
    return WeightedHalfStep(F, T.mT if turned else T, V.mT if turned else V, penalties), X


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "p", "k", "width"), [*SHAPES, (2, 600, 3, 40), (3, 7, 8, 16)])
def test_weighted_half_steps(request, batch, p, k, width, dtype, turned):
    half, X = drawn_half_step(batch, k, p, width, dtype, turned=turned, penalized=turned)
    square = (half.target.square() * half.weights).sum((1, 2), dtype=torch.float64)

    def results():
        improved = X.clone()
        weighted_sweep_(half, improved, 3)
        return improved, half.gradient(X), half.error(square, X, may_look=True)

    ours = results()
    request.getfixturevalue("torch_alone")
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for a, b in zip(ours, results(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_a_column_that_is_not_finite_spoils_no_other():
    half, X = drawn_half_step(2, 5, 6, 100, torch.float64)
    expected = X.clone()
    weighted_sweep_(half, expected, 2)
    X[0, 2, 3] = torch.inf
    weighted_sweep_(half, X, 2)
    others = torch.ones(2, 100, dtype=torch.bool)
    others[0, 3] = False
    assert torch.equal(X.mT[others], expected.mT[others])
    assert not X[0, :, 3].isfinite().all()


def test_what_lies_between_columns_is_read_as_it_lies():
    half, X = drawn_half_step(2, 5, 33, 70, torch.float32)
    apart = WeightedHalfStep(
        half.other, *(x.repeat_interleave(2, 2)[..., ::2] for x in (half.target, half.weights)), Penalties()
    )
    assert apart.target.stride(2) == 2
    results = []
    for some in (half, apart):
        improved = X.clone()
        weighted_sweep_(some, improved, 2)
        results.append(improved)
    assert torch.equal(*results)


def test_an_error_of_many_rows_is_summed_in_double():
    ones = torch.ones(1, 1, 2**18)
    weights = torch.full((1, 2**18, 1), 0.1)
    expected = 2**18 * float(weights[0, 0, 0]) * 0.25
    found = float(weighted.square(ones, ones.mT, weights, torch.full((1, 1, 1), 0.5)))
    assert found == pytest.approx(expected, rel=1e-6)


def test_gram_matrices_of_a_wide_factor_are_made_in_parts_on_an_accelerator(monkeypatch):
    """All at once those of 65,536 columns at k = 100 would take four gigabytes, twice with their copies by rows."""
    made = []
    monkeypatch.setattr(weighted_sweep, "sweep_columns", lambda grams, *rest: made.append(grams.shape))
    F, X = torch.rand(1, 100, 3, device="meta"), torch.rand(1, 100, 2**16, device="meta")
    Y = torch.rand(1, 3, 2**16, device="meta")
    weighted_sweep_(WeightedHalfStep(F, Y, Y, Penalties()), X, 2)
    assert max(shape.numel() for shape in made) <= MAX_ENTRIES_ACCELERATOR
    assert sum(shape[2] for shape in made) == 2**16
