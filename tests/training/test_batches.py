"""How the groups of an epoch are dealt out: whatever the processes and batches, every step sees the same groups."""

import itertools

import pytest
import torch

from diffnmf.data import GroupSampler, ImageSet
from diffnmf.training import TrainingConfig
from diffnmf.training.batches import EpochPlan

M = 2


@pytest.fixture(scope="module")
def images():
    """Image i is i everywhere, as bytes."""
    return ImageSet("bytes", torch.arange(44, dtype=torch.uint8)[:, None, None].expand(-1, 3, 2).contiguous(), None)


def plans(images, *, processes=1, groups=None, epoch=3, **options):
    sampler = GroupSampler(images, M, limit=groups)
    config = TrainingConfig(flip_probability=0.5, **options)
    return [EpochPlan(sampler, epoch, config, process=p, processes=processes) for p in range(processes)]


def seen(plans_, step):
    """The groups, flips and shares of a step, over all processes and batches; groups of share 0 are left out."""
    batches = [plan.batch(*part) for plan in plans_ for part in plan.slices(step)]
    counted = [batch for batch in batches if batch.share > 0]
    groups = {
        tuple((batch.Y[i, 0] * 255).round().int().tolist()): bool(batch.flipped[i])
        for batch in counted
        for i in range(len(batch.Y))
    }
    return groups, sum(batch.share for batch in batches), counted


@pytest.mark.parametrize("groups", range(1, 23))
def test_every_step_is_the_same_however_it_is_dealt_out(images, groups):
    (whole,) = plans(images, groups=groups, batch_size=4)
    for processes, accumulate in ((1, 2), (1, 4), (2, 1), (2, 2), (4, 1)):
        split = plans(
            images, groups=groups, processes=processes, accumulate=accumulate, batch_size=4 // processes // accumulate
        )
        assert {len(plan) for plan in split} == {len(whole)}
        for step in range(len(whole)):
            assert seen(split, step)[0] == seen([whole], step)[0]
            assert seen(split, step)[1] == pytest.approx(1)
            assert {plan.size(step) for plan in split} == {whole.size(step)}
            # Every process takes part in every batch: one that stayed away would leave the others waiting.
            parts = [plan.slices(step) for plan in split]
            assert len({len(part) for part in parts}) == 1
            assert all(piece.stop > piece.start for part in parts for piece, _ in part)


def test_an_epoch_is_all_its_groups_once(images):
    (plan,) = plans(images, batch_size=4)
    drawn = list(itertools.chain.from_iterable(seen([plan], step)[0] for step in range(len(plan))))
    assert sorted(drawn) == sorted(tuple(group) for group in GroupSampler(images, M).epoch(3).tolist())
    assert sum(plan.size(step) for step in range(len(plan))) == 22


def test_shares_are_counts(images):
    (first, second) = plans(images, processes=2, groups=7, batch_size=2)
    _, _, counted = seen([first, second], 1)
    assert [(len(batch.Y), batch.share) for batch in counted] == [(2, 2 / 3), (1, 1 / 3)]


def test_groups_are_put_together_from_bytes_where_the_images_are(images):
    """One uint8 tensor on the device; floats only for the groups of the step."""
    (plan,) = plans(images, batch_size=4)
    assert plan.images.images is images.images
    assert plan.images.images.dtype == torch.uint8
    batch = plan.batch(slice(0, 3), 1.0)
    assert (batch.Y.shape, batch.Y.dtype) == ((3, 6, M), torch.float32)
    assert batch.Y.device == images.images.device
    expected = images.images[plan.groups[:3]].flatten(2).mT.float() / 255
    assert torch.equal(batch.Y, expected)


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_what_is_prepared_ahead_belongs_to_the_groups_of_the_batch(processes, accumulate, monkeypatch):
    monkeypatch.setattr("diffnmf.training.batches.AHEAD", 5)
    images = ImageSet("numbers", torch.rand(60, 2, 2, generator=torch.Generator().manual_seed(0)), None)
    sampler, calls = GroupSampler(images, 4), []

    def prepare(Y):
        calls.append(len(Y))
        return {"mean": Y.mean((1, 2)), "first": Y[:, 0]}

    config = TrainingConfig(batch_size=2, accumulate=accumulate)
    for process in range(processes):
        calls.clear()
        plan = EpochPlan(sampler, 1, config, process=process, processes=processes, prepare=prepare)
        for step in range(len(plan)):
            for part in plan.slices(step):
                batch = plan.batch(*part)
                assert torch.equal(batch.prepared["mean"], batch.Y.mean((1, 2)))
                assert torch.equal(batch.prepared["first"], batch.Y[:, 0])
        assert len(calls) < len(plan) * accumulate or len(plan) * accumulate <= 3
