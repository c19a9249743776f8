"""Losses and penalties against values worked out by hand, and the PCA disturbance against scikit-learn's."""

import math
from functools import partial

import pytest
import torch
from sklearn.decomposition import PCA

from diffnmf.factorization import UnitColumns
from diffnmf.metrics import hoyer_H, part_overlap, relative_error
from diffnmf.training.disturbance import leading_components, pca_disturbance
from diffnmf.training.losses import accuracy, adversarial_loss, critic_loss, reconstruction_loss
from diffnmf.training.penalties import closeness_penalty, overlap_penalty, sparsity_penalty

LOG3 = math.log(3)  # σ(log 3) = 3/4


class TestReconstruction:
    def test_by_hand(self):
        Y = torch.tensor([[[0.0, 1.0], [0.5, 0.5]]])
        Y_hat = torch.tensor([[[0.2, 0.0], [0.5, 0.1]]])
        assert reconstruction_loss(Y_hat, Y).item() == pytest.approx((0.2 + 1.0 + 0.0 + 0.4) / 4)

    def test_does_not_depend_on_the_number_of_groups(self):
        Y, Y_hat = torch.rand(2, 6, 3), torch.rand(2, 6, 3)
        twice = reconstruction_loss(Y_hat.repeat(2, 1, 1), Y.repeat(2, 1, 1))
        torch.testing.assert_close(twice, reconstruction_loss(Y_hat, Y))

    def test_relative_is_the_squared_relative_error_of_every_group(self):
        Y, Y_hat = torch.rand(2, 6, 3) * torch.tensor([1.0, 0.1])[:, None, None], torch.rand(2, 6, 3)
        expected = relative_error(Y, Y_hat).square().mean()
        torch.testing.assert_close(reconstruction_loss(Y_hat, Y, "relative"), expected)
        assert reconstruction_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), "relative") == 0

    def test_relative_to_start_is_one_at_the_start_of_every_group(self):
        Y = torch.rand(2, 6, 3) * torch.tensor([1.0, 0.1])[:, None, None]
        Y_start = Y + torch.tensor([0.3, 0.002])[:, None, None] * torch.randn(2, 6, 3)
        loss = partial(reconstruction_loss, Y=Y, kind="relative_to_start", Y_start=Y_start)
        torch.testing.assert_close(loss(Y_start), torch.tensor(1.0))
        halved = torch.stack(((Y[0] + Y_start[0]) / 2, Y_start[1]))  # half the error of the first: a quarter, squared
        torch.testing.assert_close(loss(halved), torch.tensor((0.25 + 1) / 2))

    def test_a_start_that_is_exact_gives_a_finite_loss(self):
        Y = torch.rand(1, 6, 3) + 0.1
        value = reconstruction_loss(1.001 * Y, Y, "relative_to_start", Y)
        torch.testing.assert_close(value, torch.tensor(1.0), rtol=1e-3, atol=0)  # as far off as a start counts at least
        black = torch.zeros(1, 6, 3)
        assert reconstruction_loss(black, black, "relative_to_start", black) == 0

    def test_relative_to_start_needs_the_start(self):
        with pytest.raises(ValueError, match="Y_start: expected the reconstruction of the start.*; got None"):
            reconstruction_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), "relative_to_start")


class TestPenaltiesOfTheBasis:
    P = torch.rand(20, 4)

    def test_they_are_the_scores_of_a_basis_without_dead_columns(self):
        H = torch.rand(3, 20, 4).double()
        torch.testing.assert_close(sparsity_penalty(H), 1 - hoyer_H(H).mean())
        torch.testing.assert_close(overlap_penalty(H), part_overlap(H).mean())
        cosine = torch.nn.functional.cosine_similarity(H, self.P.double(), dim=1).mean()
        torch.testing.assert_close(closeness_penalty(H, self.P.double()), 1 - cosine)

    def test_they_are_what_the_classical_method_reduces(self):
        H, W, Y = torch.rand(3, 20, 4), torch.rand(3, 4, 6), torch.rand(3, 20, 6)
        H[0, :, 1] = 0
        method = UnitColumns(sparsity=0.3, overlap=0.2, closeness=0.1, prototypes=self.P)
        penalties = 0.3 * sparsity_penalty(H) + 0.2 * overlap_penalty(H) + 0.1 * closeness_penalty(H, self.P)
        loss = reconstruction_loss(H @ W, Y, "relative") + penalties
        torch.testing.assert_close(loss, method.objective(Y, H, W).mean().float())

    @pytest.mark.parametrize(
        "penalty",
        [sparsity_penalty, overlap_penalty, lambda H: closeness_penalty(H, TestPenaltiesOfTheBasis.P.double())],
    )
    def test_gradients(self, penalty):
        H = torch.rand(2, 20, 4).double().requires_grad_()
        assert torch.autograd.gradcheck(penalty, H)
        (gradient,) = torch.autograd.grad(penalty(H), H)
        assert (gradient * H).sum(1).abs().max() < 1e-12, "nothing is gained by scaling a column"

    @pytest.mark.parametrize("penalty", [sparsity_penalty, overlap_penalty])
    def test_dead_columns_and_single_ones_give_numbers(self, penalty):
        for shape in ((2, 20, 4), (2, 1, 4), (2, 20, 1)):
            H = torch.rand(*shape)
            H[0, :, 0] = 0
            H.requires_grad_()
            value = penalty(torch.relu(H))
            value.backward()
            assert 0 <= value <= 1
            assert H.grad.isfinite().all()


class TestCriticLoss:
    def logits(self, *values, shape=(1, 2, 2)):
        return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, *shape)

    def test_by_hand(self):
        real, fake = self.logits(LOG3, LOG3), self.logits(-LOG3, 0.0)
        value = critic_loss(real, fake, torch.tensor([False, False])).item()
        expected = 0.5 * (-math.log(3 / 4) + (-math.log(3 / 4) - math.log(1 / 2)) / 2)
        assert value == pytest.approx(expected)

    def test_flips_by_hand(self):
        real, fake = self.logits(LOG3, LOG3, LOG3), self.logits(0.0, 0.0, 0.0)
        value = critic_loss(real, fake, torch.tensor([False, True, False])).item()
        expected = 0.5 * ((-math.log(3 / 4) - math.log(1 / 4) - math.log(3 / 4)) / 3 - math.log(1 / 2))
        assert value == pytest.approx(expected)

    def test_a_flip_turns_the_gradient_of_its_own_group_only(self):
        real = torch.zeros(2, 1, 2, 2, requires_grad=True)
        critic_loss(real, torch.zeros(2, 1, 2, 2), torch.tensor([True, False])).backward()
        assert (real.grad[0] > 0).all(), "told to be fake"
        assert (real.grad[1] < 0).all()

    def test_a_flip_leaves_the_fake_side_alone(self):
        fake = torch.zeros(2, 1, 2, 2, requires_grad=True)
        critic_loss(torch.zeros(2, 1, 2, 2), fake, torch.tensor([True, True])).backward()
        torch.testing.assert_close(fake.grad, torch.full((2, 1, 2, 2), 0.5 * 0.5 / 8))

    def test_large_logits_stay_finite(self):
        real = torch.full((1, 1, 2, 2), -1e4)
        assert critic_loss(real, -real, torch.tensor([False])).item() == pytest.approx(1e4)


class TestAdversarialLoss:
    def test_by_hand(self):
        logits = torch.tensor([LOG3, -LOG3])
        expected = -(math.log(3 / 4) + math.log(1 / 4)) / 2
        assert adversarial_loss(logits).item() == pytest.approx(expected)
        assert adversarial_loss(logits, "non_saturating").item() == pytest.approx(expected)
        assert adversarial_loss(logits, "saturating").item() == pytest.approx(-expected)

    def test_both_forms_pull_the_same_way(self):
        slopes = {}
        for form in ("non_saturating", "saturating"):
            logits = torch.linspace(-8, 8, 17).requires_grad_()
            adversarial_loss(logits, form).backward()
            slopes[form] = 17 * logits.grad
        assert all((slope < 0).all() for slope in slopes.values()), "up is what the critic calls real"
        probability = torch.linspace(-8, 8, 17).sigmoid()
        torch.testing.assert_close(slopes["non_saturating"], probability - 1)
        torch.testing.assert_close(slopes["saturating"], -probability)

    def test_unknown_forms_list_the_known_ones(self):
        with pytest.raises(
            ValueError, match="adversarial_form: expected one of non_saturating, saturating; got 'wgan'"
        ):
            adversarial_loss(torch.zeros(1), "wgan")


def test_accuracy():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    assert accuracy(logits, real=True).item() == 0.75
    assert accuracy(logits, real=False).item() == 0.25


class TestDisturbance:
    @pytest.mark.parametrize("rank", [1, 3, 5])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_the_clipped_pca_of_every_group(self, rank, dtype):
        Y = torch.rand(3, 20, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).round(decimals=3)
        disturbed = pca_disturbance(Y.to(dtype), rank)
        assert disturbed.dtype == dtype
        for group, result in zip(Y, disturbed, strict=True):
            pca = PCA(rank).fit(group.T.numpy())  # columns are the samples
            expected = pca.inverse_transform(pca.transform(group.T.numpy())).clip(0, 1).T
            torch.testing.assert_close(result.double(), torch.from_numpy(expected), rtol=0, atol=1e-5)

    def test_is_clipped(self):
        Y = (torch.rand(4, 30, 10, generator=torch.Generator().manual_seed(0)) > 0.8).float()
        disturbed = pca_disturbance(Y, 3)
        assert disturbed.min() == 0
        assert disturbed.max() <= 1
        assert (disturbed == 0).float().mean() > 0.05

    @pytest.mark.parametrize("m", [2, 3, 4, 9])
    def test_is_never_the_identity(self, m):
        """m centred columns have rank m − 1: whatever rank is asked for, something must be taken away."""
        Y = 0.25 + 0.5 * torch.rand(2, 30, m, generator=torch.Generator().manual_seed(0))
        for rank in (1, m - 2, m - 1, m, m + 5):
            if rank >= 1:
                difference = (pca_disturbance(Y, rank) - Y).abs().amax(dim=(1, 2))
                assert (difference > 0.02).all(), f"rank {rank}"

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_is_never_the_identity_of_few_pixels(self, n):
        """n pixels have at most rank n, however many images there are."""
        Y = 0.25 + 0.5 * torch.rand(2, n, 30, generator=torch.Generator().manual_seed(0))
        for rank in (1, n, n + 5):
            disturbed = pca_disturbance(Y, rank)
            assert ((disturbed - Y).abs().amax(dim=(1, 2)) > 0.02).all(), f"rank {rank}"
            assert torch.equal(pca_disturbance(Y, rank, leading_components(Y, rank)), disturbed)  # as found ahead
        if n == 1:
            torch.testing.assert_close(disturbed, Y.mean(dim=-1, keepdim=True).expand_as(Y))

    def test_ranks_too_high_are_the_highest_that_disturbs(self):
        Y = torch.rand(2, 30, 6)
        for rank in (5, 6, 40):
            assert torch.equal(pca_disturbance(Y, rank), pca_disturbance(Y, 4))

    def test_equal_images_and_black_ones(self):
        Y = torch.rand(2, 30, 1).expand(-1, -1, 6)
        torch.testing.assert_close(pca_disturbance(Y, 2), Y)
        assert not pca_disturbance(torch.zeros(2, 30, 6), 2).any()

    def test_gives_no_gradient(self):
        assert not pca_disturbance(torch.rand(2, 30, 6, requires_grad=True), 2).requires_grad


class TestReconstructionKinds:
    def test_known_values(self):
        Y = torch.zeros(1, 4, 2)
        Y_hat = torch.tensor([[[3.0, 0.0], [4.0, 0.0], [0.0, 0.0], [0.0, 2.0]]])
        assert reconstruction_loss(Y_hat, Y, "l1").item() == pytest.approx(9 / 8)
        assert reconstruction_loss(Y_hat, Y, "l2").item() == pytest.approx(29 / 8)
        assert reconstruction_loss(Y_hat, Y, "column_error").item() == pytest.approx(
            (5 / 2 + 2 / 2) / 2
        )  # eq. (4) / √n

    def test_a_perfect_image_leaves_the_gradient_finite(self):
        Y = torch.rand(1, 4, 2)
        Y_hat = Y.clone().requires_grad_()
        reconstruction_loss(Y_hat, Y, "column_error").backward()
        assert torch.equal(Y_hat.grad, torch.zeros_like(Y))

    def test_an_unknown_kind_is_named(self):
        with pytest.raises(
            ValueError, match="reconstruction: expected one of column_error, .*, relative_to_start; got 'l3'"
        ):
            reconstruction_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), "l3")
