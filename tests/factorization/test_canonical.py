"""One representative for factorisations that differ in order and scale alone."""

import itertools

import pytest
import torch
from nmf_problems import random_matrix
from torch.autograd import gradcheck

from diffnmf.factorization import canonicalize, match_slots, move_prototypes, slot_prototypes

pytestmark = pytest.mark.usefixtures("one_thread")

H, W, P = random_matrix(5, 8, 4), random_matrix(5, 4, 7, seed=1), random_matrix(8, 4, seed=2)


def test_the_product_stays_and_all_orders_and_scales_are_one():
    first_H, first_W = canonicalize(H, W, P)
    torch.testing.assert_close(first_H @ first_W, H @ W)
    torch.testing.assert_close(first_H.norm(dim=1), torch.ones(5, 4, dtype=H.dtype))
    for order in itertools.permutations(range(4)):
        scale = torch.tensor([1e-3, 1.0, 1e3, 7.0], dtype=H.dtype)
        other = canonicalize(H[..., list(order)] * scale, W[:, list(order)] / scale[:, None], P)
        torch.testing.assert_close(other, (first_H, first_W))
    again = canonicalize(first_H, first_W, P)
    torch.testing.assert_close(again, (first_H, first_W))


def test_sorting_jumps_where_matching_does_not():
    """Two components of nearly the same mass: the least change of Y turns the sorted order around."""
    parts = torch.eye(4, 2, dtype=torch.float64)
    found = []
    for more in (1e-9, -1e-9):
        weights = torch.tensor([[1.0 + more], [1.0]], dtype=torch.float64)
        mass = weights.norm(dim=1)
        found.append((canonicalize(parts, weights, parts + 0.1)[0], parts[:, mass.argsort(descending=True)]))
    (matched, by_mass), (matched_after, by_mass_after) = found
    torch.testing.assert_close(matched, matched_after)
    assert (by_mass - by_mass_after).abs().max() == 1


def test_a_dead_component_takes_a_slot_that_is_left_and_has_no_weight():
    dead = H.clone()
    dead[:, :, 1] = 0
    canonical_H, canonical_W = canonicalize(dead, W, P)
    empty = (canonical_H == 0).all(1)
    assert empty.sum(1).tolist() == [1] * 5
    assert ((canonical_W == 0).all(2) == empty).all()
    torch.testing.assert_close(canonical_H @ canonical_W, dead @ W)


def test_the_gradient_passes_through_it():
    leaves = [H[0].clone().requires_grad_(), W[0].clone().requires_grad_()]
    assert gradcheck(lambda h, w: canonicalize(h, w, P), leaves)


def test_prototypes_follow_what_comes():
    parts = torch.block_diag(*[torch.ones(5, 1, dtype=torch.float64)] * 4)
    g = torch.Generator().manual_seed(0)
    groups = [parts[:, torch.randperm(4, generator=g)] + 0.3 * random_matrix(6, 20, 4, seed=i) for i in range(30)]
    prototypes = slot_prototypes(groups[0])
    for group in groups[1:]:
        moved = move_prototypes(prototypes, group)
        torch.testing.assert_close(moved.norm(dim=0), torch.ones(4, dtype=H.dtype))
        assert torch.equal(match_slots(moved, prototypes), torch.arange(4))  # slots keep their meaning
        prototypes = moved
    everything = slot_prototypes(torch.cat(groups))
    matched = everything[:, match_slots(everything, prototypes)]
    assert (matched * prototypes).sum(0).min() > 0.999
    stayed = move_prototypes(everything, groups[0], rate=0.0)
    torch.testing.assert_close(stayed, everything / everything.norm(dim=0), rtol=0.0, atol=1e-15)
    torch.testing.assert_close(
        move_prototypes(prototypes, parts, rate=1.0), parts[:, match_slots(parts, prototypes)] / 5**0.5
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: canonicalize(H, W[:, :3], P), ValueError, r"W: expected a row for each column of H"),
        (lambda: canonicalize(H, W[:4], P), ValueError, r"W: expected a row for each column of H"),
        (lambda: canonicalize(H, W, P[:, :3]), ValueError, r"prototypes: expected \(n, k\)"),
        (lambda: canonicalize(H, W, P[:7]), ValueError, "H and prototypes: expected the same number of rows"),
        (lambda: canonicalize(H.long(), W, P), TypeError, "H: expected a real floating-point dtype"),
        (lambda: move_prototypes(P, H.expand(0, *H.shape)), ValueError, "H: expected the bases of at least one group"),
        (lambda: move_prototypes(P, H, rate=1.5), ValueError, r"rate: expected a number in \[0, 1\]"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
