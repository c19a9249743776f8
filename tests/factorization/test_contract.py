"""What holds for every method: shapes, dtypes, an honest history, batches, odd matrices, NaN that stays where it is."""

import math
import time

import pytest
import torch
from nmf_problems import random_matrix, relative_errors

from diffnmf.factorization import METHODS, Factors, factorize
from diffnmf.factorization.workers import for_each

pytestmark = pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")
methods = pytest.mark.parametrize("method", METHODS)


def check(Y, k: int, result: Factors, atol: float = 1e-11) -> None:
    """Shapes, dtypes, signs, and a history that ends with the error of what is returned."""
    *batch, n, m = Y.shape
    assert result.H.shape == (*batch, n, k)
    assert result.W.shape == (*batch, k, m)
    assert result.H.dtype == result.W.dtype == Y.dtype
    assert (result.H >= 0).all()
    assert (result.W >= 0).all()
    assert result.errors.shape == (len(result.errors), *batch)
    assert result.errors.dtype == torch.float64
    assert result.iterations.shape == result.converged.shape == tuple(batch)
    assert result.iterations.dtype == torch.int64
    assert result.converged.dtype == torch.bool
    if result.iterations.numel():
        assert len(result.errors) == result.iterations.max() + 1
    torch.testing.assert_close(result.errors[-1], relative_errors(Y, result.H, result.W), rtol=0, atol=atol)


@methods
@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (3, 9, 9), (2, 3, 10, 6), (1, 6, 8)])
def test_shapes(method, shape):
    Y = random_matrix(*shape)
    check(Y, 4, factorize(Y, 4, method=method, max_iter=15))


@methods
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 2e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float64, 1e-12)]
)
def test_dtypes(method, dtype, atol):
    Y = random_matrix(3, 20, 9, dtype=dtype)
    result = factorize(Y, 3, method=method, max_iter=30, tol=0.0)
    check(Y, 3, result, atol)
    whole = factorize(Y.double(), 3, method=method, max_iter=30, tol=0.0)
    torch.testing.assert_close(result.errors[-1], whole.errors[-1], rtol=0, atol=max(atol, 1e-3))


@methods
def test_small_errors_are_measured_on_the_residual(method):
    for dtype, atol in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        Y = random_matrix(2, 30, 12, rank=2, dtype=dtype)
        check(Y, 4, factorize(Y, 4, method=method, max_iter=60, tol=0.0), atol)


@methods
def test_a_batch_equals_a_loop(method):
    Y = random_matrix(2, 3, 15, 8, seed=1) * torch.tensor([1.0, 30.0, 1e-3])[:, None, None]
    batch = factorize(Y, 3, method=method, tol=1e-3, max_iter=60)
    for i in range(2):
        for j in range(3):
            alone = factorize(Y[i, j], 3, method=method, tol=1e-3, max_iter=60)
            assert alone.iterations == batch.iterations[i, j]
            torch.testing.assert_close(alone.H, batch.H[i, j], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(alone.W, batch.W[i, j], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(alone.errors, batch.errors[: len(alone.errors), i, j], rtol=0, atol=1e-11)
            assert (batch.errors[len(alone.errors) :, i, j] == batch.errors[len(alone.errors) - 1, i, j]).all()


ODD = {
    "zero": torch.zeros(9, 6),
    "constant": torch.full((9, 6), 3.0),
    "zero rows and columns": random_matrix(9, 6) * (torch.arange(9) % 3 > 0)[:, None] * (torch.arange(6) > 2),
    "rank one": random_matrix(9, 6, rank=1),
    "rank two": random_matrix(9, 6, rank=2),
    "one row": random_matrix(1, 6),
    "one column": random_matrix(9, 1),
    "one entry": torch.full((1, 1), 2.0),
    "single entry": torch.zeros(9, 6).index_put_((torch.tensor(2), torch.tensor(3)), torch.tensor(5.0)),
    "tiny": random_matrix(9, 6) * 1e-200,
    "huge": random_matrix(9, 6) * 1e200,
}


@methods
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("k", [1, 3, 12])
@pytest.mark.parametrize("init", ["random", "nndsvd"])
def test_odd_matrices(method, name, k, init):
    Y = ODD[name].double()
    if method == "spa" and k > Y.shape[1]:
        pytest.skip("spa chooses among the columns")
    if method == "merge" and k > max(Y.shape):
        pytest.skip("there is nothing to merge")
    result = factorize(Y, k, method=method, init=init, max_iter=25)
    assert result.errors[-1] <= 1 + 1e-12
    check(Y, k, result)


@methods
def test_scales_of_float32(method):
    Y = random_matrix(20, 9, dtype=torch.float32)
    expected = factorize(Y, 3, method=method, max_iter=20)
    for exponent in (-60, 60):
        result = factorize(Y * 2.0**exponent, 3, method=method, max_iter=20)
        torch.testing.assert_close(result.errors, expected.errors, rtol=0, atol=0)


@methods
@pytest.mark.parametrize("shape", [(0, 5, 4), (3, 0, 5, 4)])
def test_empty_batch(method, shape):
    result = factorize(torch.rand(*shape), 2, method=method, max_iter=12)
    assert result.H.shape == (*shape[:-1], 2)
    assert result.W.shape == (*shape[:-2], 2, 4)
    assert result.converged.shape == shape[:-2]


@methods
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_stays_in_its_problem(method, bad, dtype):
    Y = random_matrix(4, 20, 9, dtype=dtype)
    expected = factorize(Y, 3, method=method, tol=0.0, max_iter=25)
    Y[1, 2, 3] = bad
    result = factorize(Y, 3, method=method, tol=0.0, max_iter=25)
    for before, after in ((expected.H, result.H), (expected.W, result.W), (expected.errors.T, result.errors.T)):
        assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
        assert after[1].isnan().all()
    assert not factorize(Y, 3, method=method, max_iter=25).converged[1]


@methods
def test_leaves_its_input_alone_and_repeats_itself(method):
    Y = random_matrix(2, 12, 8)
    before = Y.clone()
    first, second = (factorize(Y, 3, method=method, max_iter=12, seed=5) for _ in range(2))
    assert torch.equal(Y, before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_results_carry_no_gradient_and_autocast_changes_nothing():
    Y = random_matrix(2, 12, 8, dtype=torch.float32)
    expected = factorize(Y, 3, max_iter=12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = factorize(Y.clone().requires_grad_(), 3, max_iter=12)
    assert not result.H.requires_grad
    assert torch.equal(result.H, expected.H)


def test_more_chunks_than_threads_give_what_one_gives(monkeypatch):
    Y = random_matrix(13, 20, 9)
    expected = factorize(Y, 3, tol=1e-3, max_iter=60)
    monkeypatch.setattr("diffnmf.factorization.alternating.CHUNK_BYTES", 20_000)  # four problems a chunk
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            result = factorize(Y, 3, tol=1e-3, max_iter=60)
            assert torch.get_num_threads() == count
            torch.testing.assert_close(result.H, expected.H, rtol=1e-9, atol=1e-9)
            assert torch.equal(result.iterations, expected.iterations)
    finally:
        torch.set_num_threads(threads)


def test_after_an_error_or_an_interrupt_no_other_piece_is_begun():
    begun = []

    def work(piece: int) -> None:
        if piece == 0:
            raise KeyboardInterrupt
        begun.append(piece)
        time.sleep(0.01)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyboardInterrupt):
            for_each(work, range(500), parallel=True)
        assert len(begun) < 499  # all of them take five seconds, the other thread's answer none
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
