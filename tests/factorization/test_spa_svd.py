"""The two reference points of a rank: columns of Y themselves (spa), and the best matrix of that rank (SVD)."""

import math

import numpy as np
import pytest
import torch
from helpers import rand

from diffnmf.factorization import initialize, svd, svd_curve
from diffnmf.factorization.spa import spa
from diffnmf.factorization.svd import truncated_svd


def spa_by_loop(Y, k):
    """Plain numpy, one problem: residuals by least squares on the chosen columns, not by deflation."""
    chosen = []
    for _ in range(k):
        basis = Y[:, chosen]
        residual = Y - basis @ np.linalg.lstsq(basis, Y, rcond=None)[0] if chosen else Y
        norms = np.linalg.norm(residual, axis=0)
        norms[chosen] = -1
        chosen.append(int(norms.argmax()))
    return Y[:, chosen]


def columns_of(H, Y):
    """For each column of H, the index of the column of Y that it is."""
    return [next(j for j in range(Y.shape[1]) if torch.equal(h, Y[:, j])) for h in H.T]


class TestSpa:
    @pytest.mark.parametrize("k", [1, 4, 9])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_agrees_with_a_plain_loop(self, k, dtype):
        Y = rand(2, 3, 12, 9, dtype=dtype)
        H = spa(Y, k)
        assert H.shape == (2, 3, 12, k)
        assert H.dtype == dtype
        for i, j in np.ndindex(2, 3):
            np.testing.assert_array_equal(H[i, j].numpy(), spa_by_loop(Y[i, j].double().numpy(), k))
            assert torch.equal(H[i, j], spa(Y[i, j], k))

    def test_finds_the_basis_of_separable_data(self):
        generator = torch.Generator().manual_seed(1)
        H = rand(30, 6, seed=2)
        weights = torch.distributions.Dirichlet(torch.ones(6, dtype=torch.float64)).sample((20,)).T
        order = torch.randperm(26, generator=generator)
        Y = torch.cat([H, H @ weights], dim=1)[:, order]
        found = columns_of(spa(Y, 6), Y)
        assert sorted(order[found].tolist()) == list(range(6))

    def test_the_first_is_the_longest_and_the_next_one_is_new(self):
        Y = torch.tensor([[3.0, 2.9, 0.0], [0.0, 0.1, 1.0]])
        assert columns_of(spa(Y, 2), Y) == [0, 2]

    @pytest.mark.parametrize("seed", range(5))
    def test_no_column_twice_when_the_rank_is_exhausted(self, seed):
        Y = rand(15, 3, seed=seed) @ rand(3, 10, seed=seed + 100)
        H = spa(Y, 10)
        assert sorted(columns_of(H, Y)) == list(range(10))
        assert columns_of(H, Y)[3:] == sorted(columns_of(H, Y)[3:])  # the first ones not yet chosen
        assert torch.linalg.matrix_rank(H[:, :3]) == 3

    def test_duplicates_and_zero_columns(self):
        Y = torch.tensor([[0.0, 2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]])
        assert spa(Y, 5).T.tolist() == [[2, 0], [0, 1], [0, 0], [2, 0], [0, 0]]
        assert torch.equal(spa(torch.zeros(2, 4, 3), 3), torch.zeros(2, 4, 3))

    def test_a_tiny_column_is_not_taken_for_rounding(self):
        Y = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1e-20]], dtype=torch.float64)
        assert spa(Y, 2)[:, 1].tolist() == [0, 0, 1e-20]

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_scale_changes_no_choice(self, scale):
        Y = rand(12, 9)
        assert columns_of(spa(Y * scale, 5), Y * scale) == columns_of(spa(Y, 5), Y)

    def test_nearly_dependent_columns(self):
        """Steps that classical Gram-Schmidt on the Gram matrix would get wrong: cond(Y) about 1e9."""
        Q, _ = torch.linalg.qr(rand(20, 8, seed=3))
        Y = Q[:, :1] + Q * torch.logspace(0, -9, 8, dtype=torch.float64)
        assert columns_of(spa(Y, 8), Y) == list(range(8))

    def test_nan_stays_in_its_problem(self):
        Y = rand(3, 6, 5)
        expected = spa(Y, 4)
        Y[1, 2, 3] = math.nan
        H = spa(Y, 4)
        assert torch.equal(H[[0, 2]], expected[[0, 2]])
        assert H[1].isnan().any()

    def test_gradient_goes_to_the_chosen_columns(self):
        Y = rand(6, 5).requires_grad_()
        H = spa(Y, 2)
        H.sum().backward()
        assert Y.grad is not None
        expected = torch.zeros(6, 5, dtype=torch.float64)
        expected[:, columns_of(H, Y)] = 1
        assert torch.equal(Y.grad, expected)

    def test_empty_batch_and_single_rows(self):
        assert spa(torch.ones(0, 4, 3), 2).shape == (0, 4, 2)
        assert spa(torch.tensor([[1.0, 3.0, 2.0]]), 3).tolist() == [[3, 1, 2]]

    def test_leaves_its_input_alone(self):
        Y = rand(6, 5)
        before = Y.clone()
        spa(Y, 5)
        assert torch.equal(Y, before)

    def test_more_than_all_columns(self):
        with pytest.raises(ValueError, match=r"k: expected at most m = 3.*got 4"):
            spa(torch.ones(5, 3), 4)


class TestTruncatedSvd:
    @pytest.mark.parametrize("shape", [(20, 7), (7, 20), (8, 8)])
    @pytest.mark.parametrize("k", [1, 4, 6])
    @pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
    def test_agrees_with_numpy(self, shape, k, dtype, atol):
        Y = rand(2, 2, *shape, dtype=dtype)
        U, sigma, Vh = np.linalg.svd(Y.double().numpy(), full_matrices=False)
        expected = (U[..., :k] * sigma[..., None, :k]) @ Vh[..., :k, :]
        result = truncated_svd(Y, k)
        assert result.dtype == dtype
        np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=atol)
        error = torch.linalg.norm((result - Y).double(), dim=(-2, -1)).numpy()
        np.testing.assert_allclose(error, np.sqrt((sigma[..., k:] ** 2).sum(-1)), rtol=1e-5)

    @pytest.mark.parametrize("k", [5, 6, 100])
    def test_full_rank_gives_a_copy(self, k):
        Y = rand(3, 8, 5)
        result = truncated_svd(Y, k)
        assert torch.equal(result, Y)
        assert result.data_ptr() != Y.data_ptr()

    def test_a_matrix_of_that_rank_is_kept(self):
        Y = rand(30, 3) @ rand(3, 12, seed=1)
        torch.testing.assert_close(truncated_svd(Y, 3), Y, rtol=0, atol=1e-13)
        torch.testing.assert_close(truncated_svd(Y.float(), 5), Y.float(), rtol=0, atol=1e-6)
        assert torch.equal(truncated_svd(torch.zeros(4, 3), 1), torch.zeros(4, 3))

    def test_float64_keeps_small_singular_values(self):
        Q, _ = torch.linalg.qr(rand(20, 6))
        P, _ = torch.linalg.qr(rand(6, 6, seed=1))
        sigma = torch.logspace(0, -11, 6, dtype=torch.float64)
        error = truncated_svd((Q * sigma) @ P, 5) - (Q[:, :5] * sigma[:5]) @ P[:5]
        assert error.abs().max() < 1e-14

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_problem_that_is_not_finite_spoils_no_other(self, dtype, bad):
        Y = rand(3, 8, 5, dtype=dtype)
        expected = truncated_svd(Y, 2)
        Y[1, 2, 3] = bad
        result = truncated_svd(Y, 2)
        torch.testing.assert_close(result[[0, 2]], expected[[0, 2]])
        assert result[1].isnan().all()

    def test_beats_a_choice_of_columns(self):
        Y = rand(20, 10)
        basis, _ = torch.linalg.qr(spa(Y, 4))
        assert torch.linalg.norm(Y - truncated_svd(Y, 4)) < torch.linalg.norm(Y - basis @ (basis.T @ Y))

    def test_empty_batch(self):
        assert truncated_svd(torch.ones(0, 4, 3), 2).shape == (0, 4, 3)


@pytest.mark.parametrize("method", [spa, truncated_svd])
class TestArguments:
    @pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
    def test_k_is_a_positive_int(self, method, k, error):
        with pytest.raises(error, match="k: expected an int"):
            method(torch.ones(4, 3), k)

    @pytest.mark.parametrize(
        ("Y", "error", "message"),
        [
            (torch.ones(4), ValueError, "Y: expected a matrix or a batch of them"),
            (torch.ones(4, 3, dtype=torch.int64), TypeError, "Y: expected a real floating-point dtype"),
        ],
    )
    def test_y_is_a_floating_point_matrix(self, method, Y, error, message):
        with pytest.raises(error, match=message):
            method(Y, 1)


def test_no_more_matrices_at_a_time_than_a_gpu_takes(monkeypatch):
    Y = torch.rand(2, 5, 8, 6, generator=torch.Generator().manual_seed(0))
    found = [lambda: truncated_svd(Y, 2), lambda: svd_curve(Y), lambda: initialize(Y, 2, "nndsvd")[0]]
    expected, sizes = [compute() for compute in found], []
    monkeypatch.setattr(svd, "AT_ONCE", 3)
    for name in ("eigh", "eigvalsh"):
        compute = getattr(torch.linalg, name)
        monkeypatch.setattr(torch.linalg, name, lambda G, compute=compute: sizes.append(len(G)) or compute(G))
    for compute, value in zip(found, expected, strict=True):
        assert torch.equal(compute(), value)
    assert len(sizes) == 12 and max(sizes) == 3
