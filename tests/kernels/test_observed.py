"""The kernels of half-steps of a matrix that is known where it stores something, against the operations of torch."""

import pytest
import torch

from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.factorization.observed_half_step import ObservedHalfStep
from diffnmf.factorization.sparse_matrix import ObservedMatrix

pytestmark = pytest.mark.usefixtures("every_variant")


def drawn_half_step(p, k, width, dtype, *, share=0.4, penalized=False, turned=False):
    """A half-step, some of whose columns are known nowhere, and a factor to begin with."""
    generator = torch.Generator().manual_seed(0)
    F, X, T = (torch.rand(*shape, generator=generator, dtype=dtype) for shape in ((k, p), (k, width), (p, width)))
    known = torch.rand(p, width, generator=generator) < share
    known[:, width // 2] = False
    F[k // 2] = 0  # a dead component has no curvature
    T = torch.where(known, T, 0.0)
    matrix = ObservedMatrix.of(T.to_sparse_csc() if turned else T.to_sparse_csr())
    penalties = Penalties.of(0.5, 0.3, T) if penalized else Penalties()
    return ObservedHalfStep(F.unsqueeze(0), matrix, penalties), X.unsqueeze(0)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("p", "k", "width"), [(1, 1, 1), (31, 4, 5), (70, 5, 97), (5, 9, 200), (100, 33, 13), (3000, 3, 4)]
)
def test_half_steps(request, p, k, width, dtype, turned):
    half, X = drawn_half_step(p, k, width, dtype, penalized=turned, turned=turned)
    square = half.target.values.square().sum(dtype=torch.float64).reshape(1)

    def results():
        improved = X.clone()
        half.sweep_(improved, 3)
        return improved, half.gradient(X), half.error(square, X, may_look=True)

    ours = results()
    request.getfixturevalue("torch_alone")
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for a, b in zip(ours, results(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_squares_of_a_long_column_are_not_rounded_away():
    p = 400_000
    target = ObservedMatrix.of(torch.full((p, 1), 0.1).to_sparse_csr())
    half = ObservedHalfStep(torch.zeros(1, 1, p), target, Penalties())
    error = half.error(torch.ones(1, dtype=torch.float64), torch.zeros(1, 1, 1), may_look=True)
    expected = target.values.double().square().sum().reshape(1)
    torch.testing.assert_close(error.square(), expected, rtol=2e-6, atol=0)


def test_a_column_that_is_not_finite_spoils_no_other():
    half, X = drawn_half_step(60, 6, 50, torch.float64)
    expected = X.clone()
    half.sweep_(expected, 2)
    X[0, 2, 3] = torch.inf
    half.sweep_(X, 2)
    others = torch.arange(50) != 3
    assert torch.equal(X[..., others], expected[..., others])
    assert not X[0, :, 3].isfinite().all()


def test_indices_of_32_bits():
    half, X = drawn_half_step(40, 5, 30, torch.float64)
    columns = half.target.columns
    places = (columns.crow_indices().int(), columns.col_indices().int())
    small = torch.sparse_csr_tensor(*places, columns.values(), columns.shape, check_invariants=True)
    other = ObservedHalfStep(half.other, ObservedMatrix(half.target.rows, small), half.penalties)
    expected = X.clone()
    half.sweep_(expected, 2)
    other.sweep_(X, 2)
    assert torch.equal(X, expected)
