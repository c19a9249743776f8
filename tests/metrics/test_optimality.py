"""Distance from the best: the excess over the SVD, the KKT residual of W, the projected gradient of (H, W)."""

import math

import pytest
import torch
from helpers import close, matrix, rand

from diffnmf import nnls
from diffnmf.factorization import factorize, truncated_svd
from diffnmf.factorization.half_step import half_step
from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.factorization.stationarity import stationarity
from diffnmf.metrics import excess_over_svd, nnls_kkt_residual, projected_gradient


class TestExcessOverSVD:
    def test_known_answers(self):
        Y = matrix([[4, 0], [0, 3]])  # the best matrix of rank 1 leaves 3 of 5
        close(excess_over_svd(Y, matrix([[4, 0], [0, 0]]), 1), 0.0)
        close(excess_over_svd(Y, matrix([[0, 0], [0, 3]]), 1), 4 / 3 - 1)
        close(excess_over_svd(Y, 0 * Y, 1), 5 / 3 - 1)
        close(excess_over_svd(Y, Y, 1), -1.0)  # rank 2: no bound for it

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_svd_has_none(self, dtype):
        Y = rand(2, 3, 12, 7, dtype=dtype)
        excess = excess_over_svd(Y, truncated_svd(Y, 4).requires_grad_(), 4)
        assert excess.dtype == dtype
        assert not excess.requires_grad
        close(excess, torch.zeros(2, 3))

    @pytest.mark.parametrize("method", ["hals", "anls", "mu", "spa"])
    def test_no_factorisation_passes_the_svd(self, method):
        Y = rand(5, 12, 7)
        H, W = factorize(Y, 3, method=method, tol=0.0)[:2]
        excess = excess_over_svd(Y, H @ W, 3)
        assert excess.shape == (5,)
        assert (excess >= -1e-12).all()
        assert excess.max() > 1e-3
        assert (excess_over_svd(Y, H @ W, 2) < excess).all()  # a looser bound for what has one component more

    def test_scaling_changes_nothing(self):
        Y, Y_hat = rand(12, 7), rand(12, 7, seed=1)
        torch.testing.assert_close(excess_over_svd(1e20 * Y, 1e20 * Y_hat, 3), excess_over_svd(Y, Y_hat, 3))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(("n", "m", "k"), [(784, 40, 30), (40, 300, 1), (30, 20, 5)])
    def test_where_Y_has_the_rank_only_Y_will_do(self, n, m, k, dtype):
        H, W = rand(4, n, k, dtype=dtype), rand(4, k, m, seed=1, dtype=dtype)
        Y = H @ W
        for same in (Y, (H.double() @ W.double()).to(dtype), truncated_svd(Y, k)):
            assert excess_over_svd(Y, same, k).tolist() == [0.0] * 4
        assert excess_over_svd(Y, 1.001 * Y, k).tolist() == [math.inf] * 4

    def test_as_many_components_as_columns(self):
        Y = rand(12, 7)
        assert excess_over_svd(Y, Y, 7).item() == 0
        assert excess_over_svd(Y, 0.9 * Y, 9).item() == math.inf

    def test_zero_group(self):
        Y = torch.zeros(2, 3, 4)
        Y_hat = torch.stack([torch.zeros(3, 4), torch.ones(3, 4)])
        assert excess_over_svd(Y, Y_hat, 2).tolist() == [0.0, math.inf]

    @pytest.mark.parametrize("k", [3, 7])  # below the rank of Y, and not
    def test_nan_shows_in_its_own_problem_only(self, k):
        Y, Y_hat = rand(3, 12, 7), rand(3, 12, 7, seed=1)
        clean = excess_over_svd(Y, Y_hat, k)
        Y[0, 0, 0] = Y_hat[1, 0, 0] = math.nan
        excess = excess_over_svd(Y, Y_hat, k)
        assert excess.isnan().tolist() == [True, True, False]
        torch.testing.assert_close(excess[2], clean[2])

    def test_wrong_arguments_are_named(self):
        with pytest.raises(ValueError, match=r"Y and Y_hat.*\(4, 3\).*\(3, 4\)"):
            excess_over_svd(torch.ones(4, 3), torch.ones(3, 4), 2)
        with pytest.raises(ValueError, match=r"k: expected an int ≥ 1; got 0"):
            excess_over_svd(torch.ones(4, 3), torch.ones(4, 3), 0)


class TestKKTResidual:
    H, Y = 2 * torch.eye(2), torch.tensor([[6.0], [8.0]])  # ‖y‖ = 10, solution (3, 4)

    @pytest.mark.parametrize(
        ("W", "expected"),
        [
            ((3, 4), 0.0),
            ((3, 5), 0.2),  # W̃ = 10, g̃ = 2
            ((3, 3), 0.2),  # g̃ = −2
            ((-1, 4), 0.8),  # W̃ = −2, g̃ = −8
            ((0, 0), 0.8),  # g̃ = (−6, −8)
        ],
    )
    def test_known_answers(self, W, expected):
        close(nnls_kkt_residual(self.H, self.Y, torch.tensor(W).float()[:, None]), expected)

    def test_a_negative_entry_shows_where_the_gradient_is_zero(self):
        close(nnls_kkt_residual(self.H, self.H @ matrix([[-3], [4]]).float(), matrix([[-3], [4]])), 0.6)

    def test_penalties(self):
        assert nnls_kkt_residual(self.H, self.Y, matrix([[2], [3]])) > 0.1
        close(nnls_kkt_residual(self.H, self.Y, matrix([[2], [3]]), l1=4.0), 0.0)
        close(nnls_kkt_residual(self.H, self.Y, matrix([[1.5], [2]]), ridge=4.0), 0.0)
        penalties = torch.tensor([0.0, 4.0])
        W = torch.stack([matrix([[3], [4]]), matrix([[2], [3]])])
        close(nnls_kkt_residual(self.H, self.Y.expand(2, 2, 1), W, l1=penalties[:, None, None]), [0.0, 0.0])

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"l1": 0.3},
            {"ridge": 0.2},
            {"ridge": rand(4, 7)},
            {"upper": 0.2},
            {"upper": rand(4, 1), "l1": 0.3},
            {"allowed": rand(4, 7) > 0.4},
            {"weights": rand(12, 7)},
            {"total": 1.0},
            {"total": 0.2, "total_kind": "at_most"},
            {"signed": torch.arange(4)[:, None] > 2},
            {"total": 1.0, "upper": 0.6, "weights": rand(12, 7), "allowed": rand(4, 7) > 0.2, "ridge": 0.1},
        ],
        ids=lambda options: " ".join(options) or "plain",
    )
    def test_is_what_nnls_reports(self, options):
        H, Y = rand(3, 12, 4), rand(2, 1, 12, 7, seed=1)
        solution = nnls(H, Y, **options)
        residual = nnls_kkt_residual(H, Y, solution.W, **options)
        assert residual.shape == (2, 3)
        assert residual.dtype == torch.float64
        torch.testing.assert_close(residual, solution.kkt_residual)
        assert (nnls_kkt_residual(H, Y, solution.W * 1.01, **options) > 1e-3).all()

    def test_a_bound(self):
        close(nnls_kkt_residual(self.H, self.Y, matrix([[2], [2]]), upper=2.0), 0.0)
        assert nnls_kkt_residual(self.H, self.Y, matrix([[2], [2]])) > 0.1
        close(nnls_kkt_residual(self.H, self.Y, matrix([[3], [2]]), upper=2.0), 0.2)  # W̃ = 6, and 4 is its bound
        close(nnls_kkt_residual(self.H, self.Y, matrix([[3], [4]]), upper=5.0), 0.0)
        with pytest.raises(ValueError, match="upper"):
            nnls_kkt_residual(self.H, self.Y, self.Y, upper=-1.0)

    def test_no_components_leave_nothing_to_improve(self):
        close(nnls_kkt_residual(rand(2, 12, 0), rand(2, 12, 7), rand(0, 7)), [0.0, 0.0])

    def test_scaling_changes_nothing(self):
        H, Y, W = rand(12, 4), rand(12, 7, seed=1), rand(4, 7, seed=2)
        d, e = matrix([1e-3, 1, 5, 1e4]), 10 ** (4 * rand(7) - 2)
        residual = nnls_kkt_residual(H, Y, W)
        torch.testing.assert_close(nnls_kkt_residual(H * d, Y * e, W / d[:, None] * e), residual)

    def test_one_W_for_many_groups(self):
        H, Y, W = rand(12, 4), rand(3, 12, 7, seed=1), rand(4, 7, seed=2)
        residual = nnls_kkt_residual(H, Y, W.requires_grad_())
        close(residual, [nnls_kkt_residual(H, y, W).item() for y in Y])
        assert not residual.requires_grad

    def test_wrong_arguments_are_named(self):
        H, Y = torch.ones(5, 4, 2), torch.ones(5, 4, 3)
        with pytest.raises(ValueError, match=r"W: expected .* \(5, 2, 3\).*; got \(3, 2\)"):
            nnls_kkt_residual(H, Y, torch.ones(3, 2))
        with pytest.raises(TypeError, match=r"W: expected a torch.Tensor"):
            nnls_kkt_residual(H, Y, [[1.0]])
        with pytest.raises(ValueError, match=r"H and Y"):
            nnls_kkt_residual(H, Y.mT, torch.ones(2, 3))
        with pytest.raises(ValueError, match=r"ridge: .*-1"):
            nnls_kkt_residual(H, Y, torch.ones(2, 3), ridge=-1.0)


@pytest.fixture
def factors():
    """Y (3, 12, 7), H (3, 12, 4), W (3, 4, 7), with zeros in both factors."""
    H, W = rand(3, 12, 4, seed=1), rand(3, 4, 7, seed=2)
    return rand(3, 12, 7), torch.where(H < 0.4, 0.0, H), torch.where(W < 0.4, 0.0, W)


class TestProjectedGradient:
    def test_known_answers(self):
        # Y − HW = 3: gradients −3·1 and −3·2.
        close(projected_gradient(matrix([[5]]), matrix([[2]]), matrix([[1]])), math.sqrt(9 + 36))
        # W = 0: nothing for H, and W wants to grow.
        close(projected_gradient(matrix([[5]]), matrix([[2]]), matrix([[0]])), 10.0)
        # HW − Y = 1: gradients (3, 0) for H and (1, 1) for W, whose second entry is zero and cannot shrink.
        close(projected_gradient(matrix([[2]]), matrix([[1, 1]]), matrix([[3], [0]])), math.sqrt(9 + 1))

    def test_against_autograd(self, factors):
        Y, H, W = factors
        H.requires_grad_()
        W.requires_grad_()
        gradients = torch.autograd.grad(0.5 * (Y - H @ W).square().sum(), (H, W))
        square = torch.zeros(3, dtype=torch.float64)
        for X, gradient in zip((H, W), gradients, strict=True):
            at_zero = gradient[X == 0]
            assert (at_zero > 0).any()  # both kinds of zeros are there
            assert (at_zero < 0).any()
            square += (gradient * ((X > 0) | (gradient < 0))).square().sum((1, 2))
        found = projected_gradient(Y, H, W)
        torch.testing.assert_close(found, square.sqrt())
        assert not found.requires_grad

    def test_is_what_the_factorisations_stop_by(self, factors):
        Y, H, W = factors
        free = Penalties()
        stop = stationarity(half_step(H.mT, Y, free), W, half_step(W, Y.mT, free), H.mT)
        torch.testing.assert_close(projected_gradient(Y, H, W), stop.norm)

    def test_falls_to_zero_where_a_factorisation_converges(self):
        Y = rand(12, 7)
        start = factorize(Y, 3, method="anls", max_iter=1, tol=0.0)
        end = factorize(Y, 3, method="anls", max_iter=2000, tol=1e-7)
        assert projected_gradient(Y, end.H, end.W) < 1e-4 * projected_gradient(Y, start.H, start.W)

    def test_exact_factors(self, factors):
        _, H, W = factors
        close(projected_gradient(H @ W, H, W), [0.0] * 3)
        close(projected_gradient(torch.zeros(4, 3), torch.zeros(4, 2), torch.zeros(2, 3)), 0.0)

    def test_float32_is_summed_in_float64(self, factors):
        Y, H, W = (x.float() for x in factors)
        found = projected_gradient(1e30 * Y, 1e15 * H, 1e15 * W)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found / 1e45, projected_gradient(Y, H, W), rtol=1e-5, atol=0)

    def test_one_basis_for_many_groups(self, factors):
        Y, H, W = factors
        close(projected_gradient(Y, H[0], W), [projected_gradient(Y[g], H[0], W[g]).item() for g in range(3)])

    def test_nan_shows_in_its_own_problem_only(self, factors):
        for x in factors:
            x[0, 0, 0] = math.nan
        assert projected_gradient(*factors).isnan().tolist() == [True, False, False]

    def test_wrong_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"H and W.*as many columns of H as rows of W"):
            projected_gradient(torch.ones(4, 3), torch.ones(4, 2), torch.ones(3, 2))
        with pytest.raises(ValueError, match=r"Y and Y_hat.*\(3, 4\).*\(4, 3\)"):
            projected_gradient(torch.ones(3, 4), torch.ones(4, 2), torch.ones(2, 3))
