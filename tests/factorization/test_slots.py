"""Components in a fixed order."""

import itertools

import pytest
import torch
from nmf_problems import random_matrix

from diffnmf.factorization import match_slots, slot_prototypes, take_slots

pytestmark = pytest.mark.usefixtures("one_thread")


def cosines(H, P):
    return (torch.nn.functional.normalize(P, dim=-2) * torch.nn.functional.normalize(H, dim=-2)).sum(-2).mean(-1)


def test_no_other_order_resembles_the_prototypes_more():
    H, P = random_matrix(2, 3, 6, 4), random_matrix(6, 4, seed=1)
    order = match_slots(H, P)
    assert order.shape == (2, 3, 4)
    best = cosines(H.gather(-1, order.unsqueeze(-2).expand_as(H)), P)
    for permutation in itertools.permutations(range(4)):
        assert (cosines(H[..., list(permutation)], P) <= best + 1e-12).all()


def test_components_move_together():
    H, W, P = random_matrix(5, 6, 4), random_matrix(5, 4, 7, seed=1), random_matrix(6, 4, seed=2)
    ordered_H, ordered_W = take_slots(H, W, match_slots(H, P))
    torch.testing.assert_close(ordered_H @ ordered_W, H @ W)
    assert torch.equal(match_slots(ordered_H, P), torch.arange(4).expand(5, 4))
    scaled = H * torch.tensor([1e-3, 1.0, 1e3, 7.0])
    assert torch.equal(match_slots(scaled, P), match_slots(H, P))


def test_a_column_that_is_zero_or_nan_takes_what_is_left():
    P = torch.eye(4)
    H = torch.eye(4)[:, [1, 0, 3, 2]].clone()
    for value in (0.0, torch.nan):
        H[:, 2] = value
        assert match_slots(H, P).tolist() == [1, 0, 3, 2]


def test_columns_longer_than_a_number_of_their_dtype():
    """Their length is infinite in float16: what was divided by it resembled nothing."""
    P = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)).half()
    longer = 60000 * P[:, [2, 0, 1]]
    assert longer.isfinite().all() and match_slots(longer, P).tolist() == [1, 2, 0]


def test_prototypes_are_what_permuted_bases_have_in_common():
    torch.manual_seed(0)
    parts = torch.block_diag(*[torch.ones(5, 1)] * 4)  # (20, 4)
    H = torch.stack([(parts + 0.3 * torch.rand(20, 4))[:, torch.randperm(4)] for _ in range(12)])
    P = slot_prototypes(H)
    assert P.norm(dim=0).allclose(torch.ones(4))
    H = torch.stack([x[:, order] for x, order in zip(H, match_slots(H, P), strict=True)])
    mean = torch.nn.functional.normalize(torch.nn.functional.normalize(H, dim=1).mean(0), dim=0)
    torch.testing.assert_close(P, mean)
    assert cosines(P, parts[:, match_slots(parts, P)]) > 0.95
    torch.testing.assert_close(slot_prototypes(H[:1]), torch.nn.functional.normalize(H[0], dim=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_slots(torch.rand(5, 3), torch.rand(5, 4)), r"prototypes: expected \(n, k\).*got \(5, 4\)"),
        (lambda: match_slots(torch.rand(5, 3), torch.rand(6, 3)), "H and prototypes: expected the same number of rows"),
        (lambda: slot_prototypes(torch.rand(5, 3)), r"H: expected \(G, n, k\)"),
        (lambda: slot_prototypes(torch.rand(0, 5, 3)), r"H: expected \(G, n, k\)"),
        (lambda: slot_prototypes(torch.rand(2, 5, 3), rounds=-1), "rounds: expected an int ≥ 0"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
