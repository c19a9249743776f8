"""Slot consistency: known answers, the invariances it promises, and a search through all permutations."""

import dataclasses
import itertools
import math

import pytest
import torch
from helpers import rand

from diffnmf.metrics import SlotConsistency, permutation_consistency, slot_consistency


def close(found, unmatched, matched):
    assert found.unmatched == pytest.approx(unmatched, rel=0, abs=1e-12)
    assert found.matched == pytest.approx(matched, rel=0, abs=1e-12)
    assert found.gap == pytest.approx(matched - unmatched, rel=0, abs=1e-12)


def cosine(x, y):
    return (x @ y / (x.norm() * y.norm())).item()


def best_of_all(first, second):
    """The matched cosine of two bases (n, k), by trying every permutation."""
    k = first.shape[1]
    table = [[cosine(first[:, i], second[:, j]) for j in range(k)] for i in range(k)]
    return max(sum(table[i][p[i]] for i in range(k)) / k for p in itertools.permutations(range(k)))


def shuffled(H, seed=0):
    """Each basis with its columns in an order of its own."""
    order = torch.rand(H.shape[0], 1, H.shape[2], generator=torch.Generator().manual_seed(seed)).argsort(-1)
    return H.take_along_dim(order, dim=-1)


class TestSlotConsistency:
    def test_the_same_basis_everywhere(self):
        close(slot_consistency(rand(6, 3).expand(5, 6, 3)), 1.0, 1.0)

    def test_the_same_parts_in_another_order(self):
        parts = torch.eye(3, dtype=torch.float64)
        H = torch.stack([parts, parts[:, [1, 0, 2]]])
        close(slot_consistency(H), 1 / 3, 1.0)  # only the last slot keeps its part

    def test_pairs_count_alike(self):
        # Two columns of three groups; pair by pair, the slots agree in 2, 0 and 0 of 2 of them.
        parts = torch.eye(2, dtype=torch.float64)
        close(slot_consistency(torch.stack([parts, parts, parts.flip(1)])), 1 / 3, 1.0)

    def test_known_cosines(self):
        H = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[3.0, 4.0], [4.0, 3.0]]], dtype=torch.float64)
        close(slot_consistency(H), 0.6, 0.8)

    def test_bases_without_a_common_part_have_no_gap(self):
        H = torch.zeros(2, 4, 2)
        H[0, 0, 0] = H[0, 1, 1] = H[1, 2, 0] = H[1, 3, 1] = 1
        close(slot_consistency(H), 0.0, 0.0)

    def test_one_column(self):
        H = rand(2, 5, 1)
        expected = cosine(H[0, :, 0], H[1, :, 0])
        close(slot_consistency(H), expected, expected)

    @pytest.mark.parametrize("seed", range(5))
    def test_all_permutations(self, seed):
        H = rand(2, 5, 4, seed=seed) ** 3  # uneven columns, so that the order matters
        unmatched = sum(cosine(H[0, :, j], H[1, :, j]) for j in range(4)) / 4
        matched = best_of_all(*H)
        assert matched > unmatched + 1e-3
        close(slot_consistency(H), unmatched, matched)

    def test_is_the_mean_over_all_pairs_of_groups(self):
        H = rand(4, 6, 3) ** 3
        pairs = list(itertools.combinations(range(4), 2))
        each = [slot_consistency(H[list(pair)]) for pair in pairs]
        unmatched, matched = (sum(getattr(x, name) for x in each) / len(pairs) for name in ("unmatched", "matched"))
        close(slot_consistency(H), unmatched, matched)
        assert len({round(x.matched, 6) for x in each}) == len(pairs)

    def test_positive_scaling_of_columns_changes_nothing(self):
        H = rand(4, 6, 3)
        found = slot_consistency(H)
        close(slot_consistency(H * (10 ** (6 * rand(4, 1, 3, seed=1) - 3))), found.unmatched, found.matched)

    def test_permuting_columns_changes_unmatched_only(self):
        H = rand(4, 6, 3) ** 3
        found, other = slot_consistency(H), slot_consistency(shuffled(H))
        assert other.matched == pytest.approx(found.matched, rel=0, abs=1e-12)
        assert abs(other.unmatched - found.unmatched) > 1e-3

    def test_one_order_for_all_groups_changes_nothing(self):
        H = rand(4, 6, 3)
        found = slot_consistency(H)
        close(slot_consistency(H[..., [2, 0, 1]]), found.unmatched, found.matched)

    def test_a_dead_column_resembles_nothing(self):
        H = torch.eye(3).repeat(2, 1, 1)
        H[0, :, 0] = 0
        close(slot_consistency(H), 2 / 3, 2 / 3)
        H[1, :, 0] = 0  # not even another dead one
        close(slot_consistency(H), 2 / 3, 2 / 3)
        close(slot_consistency(torch.zeros(3, 4, 2)), 0.0, 0.0)

    def test_columns_of_any_sign(self):
        H = torch.eye(2).repeat(2, 1, 1)
        H[1] *= -1
        close(slot_consistency(H), -1.0, 0.0)

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_float32_neither_overflows_nor_vanishes(self, scale):
        close(slot_consistency(torch.full((2, 3, 2), scale)), 1.0, 1.0)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_nan_shows(self, bad):
        H = rand(3, 4, 2)
        H[1, 2, 0] = bad
        found = slot_consistency(H)
        assert math.isnan(found.unmatched)
        assert math.isnan(found.matched)
        assert math.isnan(found.gap)

    def test_gives_plain_numbers_without_gradient(self):
        found = slot_consistency(rand(3, 4, 2).float().requires_grad_())
        assert {type(value) for value in (found.unmatched, found.matched, found.gap)} == {float}
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.matched = 1.0

    @pytest.mark.parametrize("shape", [(1, 4, 2), (4, 2), (2, 2, 4, 2), (2, 4, 0)])
    def test_wrong_shapes_are_named(self, shape):
        with pytest.raises(ValueError, match=r"H: expected \(G, n, k\).*at least 2 groups.*got \(.*torch\.stack"):
            slot_consistency(torch.ones(shape))


class TestPermutationConsistency:
    def test_a_basis_that_follows_no_order(self):
        H = rand(3, 6, 4)
        close(permutation_consistency(H, 2 * H), 1.0, 1.0)

    def test_the_same_parts_in_other_slots(self):
        H = rand(3, 6, 4)
        found = permutation_consistency(H, shuffled(H))
        assert found.matched == pytest.approx(1.0, rel=0, abs=1e-12)
        assert found.gap > 0.01

    def test_compares_each_group_with_itself_only(self):
        H, H_permuted = rand(3, 6, 3) ** 3, rand(3, 6, 3, seed=1) ** 3
        each = [slot_consistency(torch.stack(pair)) for pair in zip(H, H_permuted, strict=True)]
        unmatched, matched = (sum(getattr(x, name) for x in each) / 3 for name in ("unmatched", "matched"))
        close(permutation_consistency(H, H_permuted), unmatched, matched)
        found = permutation_consistency(H.roll(1, 0), H_permuted)
        assert abs(found.matched - matched) > 1e-3

    def test_one_group(self):
        H = torch.eye(2)[None]
        close(permutation_consistency(H, H.flip(-1)), 0.0, 1.0)

    def test_nan_in_either(self):
        H, bad = rand(2, 4, 2), rand(2, 4, 2)
        bad[1, 0, 1] = math.nan
        for found in (permutation_consistency(H, bad), permutation_consistency(bad, H)):
            assert math.isnan(found.unmatched)
            assert math.isnan(found.matched)

    def test_wrong_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"H: expected \(G, n, k\).*at least 1 group, .*got \(4, 2\)"):
            permutation_consistency(torch.ones(4, 2), torch.ones(4, 2))
        with pytest.raises(ValueError, match=r"H: .*got \(0, 4, 2\)"):
            permutation_consistency(torch.ones(0, 4, 2), torch.ones(0, 4, 2))
        with pytest.raises(ValueError, match=r"H_permuted: expected the shape of H, \(2, 4, 3\); got \(2, 4, 2\)"):
            permutation_consistency(torch.ones(2, 4, 3), torch.ones(2, 4, 2))


def test_gap():
    assert SlotConsistency(unmatched=0.25, matched=0.75).gap == 0.5
