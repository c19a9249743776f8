"""The scores: known answers by hand, the invariances they promise, and what zero columns give."""

import itertools
import math

import pytest
import torch
from helpers import close, matrix

from diffnmf.metrics import (
    column_error,
    copying,
    dead_components,
    hoyer_H,
    hoyer_sparsity,
    hoyer_W,
    part_overlap,
    relative_error,
    summarize,
    symmetry_adjusted_error,
    zero_share,
)


@pytest.fixture
def factors():
    """Y (2, 3, 12, 7), H (2, 3, 12, 4), W (2, 3, 4, 7), with dead columns of H and dead rows of W here and there."""
    generator = torch.Generator().manual_seed(0)
    Y = torch.rand(2, 3, 12, 7, generator=generator, dtype=torch.float64)
    H = torch.rand(2, 3, 12, 4, generator=generator, dtype=torch.float64)
    W = torch.rand(2, 3, 4, 7, generator=generator, dtype=torch.float64)
    H[0, 1, :, 2] = 0
    H[1, 0] = 0
    H[1, 1, :, 1:] = 0
    W[0, 2, 3] = 0
    W[1, 2] = 0
    Y[1, 1, :, 0] = 0
    return Y, H, W


class TestErrors:
    def test_known_answers(self):
        Y = matrix([[3.0, 0.0], [4.0, 1.0]])
        Y_hat = torch.zeros_like(Y)
        close(column_error(Y, Y_hat), (5.0 + 1.0) / 2)  # unsquared: the squares would give 13
        close(relative_error(Y, Y_hat), 1.0)
        close(relative_error(Y, matrix([[3.0, 0.0], [4.0, 2.0]])), 1 / math.sqrt(26))

    def test_zero_group(self):
        Y = torch.zeros(2, 3, 4)
        Y_hat = torch.stack([torch.zeros(3, 4), torch.ones(3, 4)])
        close(relative_error(Y, Y_hat), [0.0, math.inf])
        close(column_error(Y, Y_hat), [0.0, math.sqrt(3)], atol=1e-6)

    def test_scaling(self, factors):
        Y, H, W = factors
        torch.testing.assert_close(column_error(7 * Y, 7 * H @ W), 7 * column_error(Y, H @ W))
        torch.testing.assert_close(relative_error(7 * Y, 7 * H @ W), relative_error(Y, H @ W))

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_float32_neither_overflows_nor_vanishes(self, scale):
        Y = torch.full((3, 2), scale)
        torch.testing.assert_close(relative_error(Y, 0.5 * Y), torch.tensor(0.5))
        torch.testing.assert_close(column_error(Y, 0 * Y) / scale, torch.tensor(math.sqrt(3)))
        torch.testing.assert_close(copying(Y, Y), torch.tensor(1.0))
        torch.testing.assert_close(hoyer_H(Y), torch.tensor(0.0), rtol=0, atol=1e-6)

    def test_gradient_is_finite_at_an_exact_column(self):
        Y = torch.rand(4, 3, dtype=torch.float64)
        Y_hat = Y.clone()
        Y_hat[:, 0] += 1
        Y_hat.requires_grad_()
        column_error(Y, Y_hat).backward()
        assert Y_hat.grad is not None
        close(Y_hat.grad[:, 0], [1 / 6] * 4)  # 1/3 · 1/‖(1,1,1,1)‖
        close(Y_hat.grad[:, 1:], torch.zeros(4, 2))

    @pytest.mark.parametrize("score", [column_error, relative_error])
    def test_wrong_shapes_are_named(self, score):
        with pytest.raises(ValueError, match=r"Y and Y_hat.*\(4, 3\).*\(3, 4\)"):
            score(torch.ones(4, 3), torch.ones(3, 4))


class TestHoyer:
    def test_known_answers(self):
        X = matrix([[1, 2, 1, 3], [0, 2, 1, 0], [0, 2, 0, 0], [0, 2, 0, 4]])
        close(hoyer_sparsity(X, 0), [1.0, 0.0, 2 - math.sqrt(2), (2 - 7 / 5) / 1])

    def test_one_entry_and_zero_vectors_give_zero(self):
        close(hoyer_sparsity(torch.rand(3, 1), 1), [0.0] * 3)
        close(hoyer_sparsity(torch.zeros(3, 4), 1), [0.0] * 3)

    def test_dead_vectors_are_left_out(self):
        H = matrix([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
        close(hoyer_H(H), (1.0 + 0.0) / 2)
        close(hoyer_W(H.mT), (1.0 + 0.0) / 2)
        close(hoyer_H(torch.zeros(4, 3)), 0.0)
        close(hoyer_W(torch.zeros(4, 3)), 0.0)

    def test_column_scaling_changes_nothing(self, factors):
        _, H, W = factors
        d = matrix([1e-3, 1.0, 5.0, 1e4])
        torch.testing.assert_close(hoyer_H(H * d), hoyer_H(H))
        torch.testing.assert_close(hoyer_W(W * d[:, None]), hoyer_W(W))

    @pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e307])
    def test_the_ends_of_float64_change_nothing(self, scale):
        x = torch.zeros(100, 1, dtype=torch.float64)
        x[50:] = 1
        torch.testing.assert_close(hoyer_H(scale * x), hoyer_H(x))

    def test_range(self, factors):
        _, H, _ = factors
        sparsity = hoyer_sparsity(H, -2)
        assert ((sparsity >= 0) & (sparsity <= 1)).all()


def test_zero_share():
    H = matrix([[0.0, 1.0], [0.05, 0.5]])
    close(zero_share(H), 0.25)
    close(zero_share(H, tolerance=0.1), 0.5)
    close(zero_share(torch.zeros(3, 2)), 1.0)
    torch.testing.assert_close(zero_share(1e6 * H, tolerance=0.1), zero_share(H, tolerance=0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_column_longer_than_its_dtype_can_say_is_a_column(dtype):
    """512×512 pixels of 255 in float16 are such a column."""
    H = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], dtype=dtype)
    long = H * (0.75 * torch.finfo(dtype).max)
    assert torch.linalg.vector_norm(long, dim=0).isinf().all()
    for score in (lambda X: copying(X, H), lambda X: copying(H, X), part_overlap):
        torch.testing.assert_close(score(long), score(H))


class TestCopying:
    def test_a_choice_of_the_images_scores_one(self, factors):
        Y, _, _ = factors
        close(copying(3 * Y[0, 0][:, [5, 2]], Y[0, 0]), 1.0)

    def test_known_answer(self):
        Y = matrix([[1, 0, 0], [0, 2, 0], [0, 0, 0]])
        H = matrix([[3, 0, 0], [4, 0, 0], [0, 7, 0]])  # cosines 0.6 and 0.8; orthogonal to all; dead
        close(copying(H, Y), (0.8 + 0.0) / 2)

    def test_nothing_alive(self):
        close(copying(torch.zeros(3, 2), torch.rand(3, 4)), 0.0)
        close(copying(torch.rand(3, 2), torch.zeros(3, 4)), 0.0)

    def test_scaling_changes_nothing(self, factors):
        Y, H, _ = factors
        torch.testing.assert_close(copying(H * matrix([1, 9, 0.1, 4]), 5 * Y), copying(H, Y))

    def test_wrong_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"H and Y.*same number of rows"):
            copying(torch.ones(4, 2), torch.ones(3, 2))


class TestDeadComponents:
    def test_counts(self):
        H = matrix([[1, 0, 1, 1], [1, 0, 1, 1]])
        W = matrix([[1, 1], [1, 1], [0, 0], [1e-9, 0]])
        count = dead_components(H, W)
        assert count.dtype == torch.int64
        assert count.item() == 3
        assert dead_components(H, W, tolerance=0.0).item() == 2
        assert dead_components(0 * H, W).item() == 4

    def test_moving_scale_between_the_factors_changes_nothing(self, factors):
        _, H, W = factors
        d = matrix([1e-9, 1, 1e9, 3.0])
        assert torch.equal(dead_components(H * d, W / d[:, None]), dead_components(H, W))
        assert dead_components(H, W).tolist() == [[0, 1, 1], [4, 3, 4]]

    def test_wrong_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"H and W.*as many columns of H as rows of W"):
            dead_components(torch.ones(4, 2), torch.ones(3, 2))


class TestPartOverlap:
    def test_known_answers(self):
        close(part_overlap(torch.eye(4, dtype=torch.float64)), 0.0, atol=0)
        close(part_overlap(torch.ones(4, 3, dtype=torch.float64)), 1.0)
        H = matrix([[1, 1, 0, 0], [0, 1, 0, 2]])  # cosines of the live columns: 1/√2, 0, 1/√2
        close(part_overlap(H), math.sqrt(2) / 3)

    def test_fewer_than_two_live_columns(self):
        close(part_overlap(torch.rand(4, 1)), 0.0)
        close(part_overlap(torch.zeros(4, 3)), 0.0)
        close(part_overlap(matrix([[1, 0], [2, 0]])), 0.0)

    @pytest.mark.parametrize("batch", [(), (1,), (8,)])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_many_parts_in_16_bits(self, batch, dtype):
        generator = torch.Generator().manual_seed(0)
        for k in (363, 600):
            H = torch.rand(*batch, 20, k, generator=generator)
            found = part_overlap(H.to(dtype))
            assert found.dtype == dtype
            torch.testing.assert_close(found.float(), part_overlap(H), rtol=0.01, atol=0)


class TestSummarize:
    def test_is_each_score_per_problem(self, factors):
        Y, H, W = factors
        scores = summarize(Y, H, W)
        assert list(scores) == [
            "column_error", "relative_error", "hoyer_H", "hoyer_W", "copying", "dead_components", "part_overlap",
        ]  # fmt: skip
        for name, score in scores.items():
            assert score.shape == (2, 3), name
            assert score.isfinite().all(), name
        for i, j in itertools.product(range(2), range(3)):
            alone = summarize(Y[i, j], H[i, j], W[i, j])
            for name, score in alone.items():
                torch.testing.assert_close(score, scores[name][i, j], msg=name)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dtype_and_gradient(self, factors, dtype):
        Y, H, W = (x.to(dtype).requires_grad_() for x in factors)
        for name, score in summarize(Y, H, W).items():
            assert score.dtype == (torch.int64 if name == "dead_components" else dtype), name
            assert not score.requires_grad, name

    def test_one_basis_for_many_groups(self, factors):
        Y, H, W = factors
        assert {score.shape for score in summarize(Y, H[0, 0], W).values()} == {(2, 3)}

    def test_empty_batch(self):
        scores = summarize(torch.ones(0, 5, 4), torch.ones(0, 5, 2), torch.ones(0, 2, 4))
        assert {score.shape for score in scores.values()} == {(0,)}

    def test_nan_shows_in_its_own_problem_only(self, factors):
        Y, H, W = factors
        clean = summarize(Y, H, W)
        Y, H, W = Y.clone(), H.clone(), W.clone()
        for x in (Y, H, W):
            x[0, 0] = math.nan
        for name, score in summarize(Y, H, W).items():
            assert torch.equal(score.flatten()[1:], clean[name].flatten()[1:]), name
            assert name == "dead_components" or score[0, 0].isnan(), name
        assert zero_share(H)[0, 0].isnan()


@pytest.mark.parametrize("score", [column_error, relative_error, copying, part_overlap, summarize])
def test_autocast_lowers_no_score(factors, score):
    Y, H, W = (x.float() for x in factors)
    arguments = {copying: (H, Y), part_overlap: (H,), summarize: (Y, H, W)}.get(score, (Y, H @ W))
    expected = score(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        found = score(*arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("m", "k"), [(3, 0), (0, 2)])
def test_no_component_and_no_column_have_scores(m, k):
    Y, H, W = torch.rand(2, 4, m), torch.rand(2, 4, k), torch.rand(2, k, m)
    scores = summarize(Y, H, W)
    assert {tuple(score.shape) for score in scores.values()} == {(2,)}
    assert scores["copying"].tolist() == [0, 0]
    assert scores["dead_components"].tolist() == [k, k]
    assert zero_share(W).tolist() == [1, 1]
    assert bool(symmetry_adjusted_error(W, W).isnan().all())
