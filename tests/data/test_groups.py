"""Groups: balanced, without replacement, new in every epoch, the same for the same seed."""

import pytest
import torch
from helpers import REAL_DATA, needs_data

from diffnmf.data import GroupSampler, ImageSet, group_matrix, load_dataset


def labelled(*counts, first=0):
    """A set with so many images of each class, in random order; the classes are numbered from ``first``."""
    labels = torch.arange(first, first + len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(7))]
    return ImageSet("labelled", torch.rand(len(labels), 2, 3), labels)


def unlabelled(count):
    return ImageSet("unlabelled", torch.rand(count, 2, 3), None)


def assert_no_repetition(groups):
    assert groups.unique().numel() == groups.numel()


class TestBalanced:
    @pytest.mark.parametrize("order", ["random", "class"])
    @pytest.mark.parametrize("first", [0, -3])
    def test_every_class_has_its_share(self, order, first):
        images = labelled(9, 7, 20, first=first)
        sampler = GroupSampler(images, 6, order=order)
        groups = sampler.epoch(0)
        assert len(sampler) == 3, "the smallest class runs out first"
        assert sampler.left_out == 36 - 3 * 6
        assert groups.shape == (3, 6)
        assert groups.dtype == torch.int64
        assert_no_repetition(groups)
        assert torch.equal(images.labels[groups].sort(dim=1).values - first, torch.tensor([[0, 0, 1, 1, 2, 2]] * 3))

    def test_class_order_keeps_the_meaning_of_a_slot(self):
        images = labelled(8, 8, 8)
        classes = images.labels[GroupSampler(images, 6, order="class").epoch(4)]
        assert torch.equal(classes, torch.tensor([[0, 0, 1, 1, 2, 2]] * 4))

    def test_random_order_permutes_every_group_by_itself(self):
        images = labelled(*[50] * 5)
        classes = images.labels[GroupSampler(images, 5).epoch(0)]  # (50, 5)
        assert len(classes.unique(dim=0)) > 25
        # Every class comes to every slot, about as often: 10 times of 50 each.
        counts = torch.nn.functional.one_hot(classes).sum(0)
        assert counts.min() >= 1
        assert counts.max() <= 25

    def test_fewer_than_the_classes_takes_the_first_ones(self):
        images = labelled(*[4] * 40)
        sampler = GroupSampler(images, 10, order="class")
        assert len(sampler) == 4
        assert sampler.left_out == 120
        assert torch.equal(images.labels[sampler.epoch(0)], torch.arange(10).expand(4, 10))

    def test_one_of_each_class(self):
        images = labelled(3, 3, 3, 3)
        assert torch.equal(images.labels[GroupSampler(images, 4, order="class").epoch(0)], torch.arange(4).expand(3, 4))

    @pytest.mark.parametrize(("group_size", "nearest"), [(4, "3 and 6"), (5, "3 and 6"), (40, "39 and 42")])
    def test_unbalanced_size(self, group_size, nearest):
        with pytest.raises(ValueError, match=rf"group_size: .*3 classes.*got {group_size}; the nearest are {nearest}"):
            GroupSampler(labelled(50, 50, 50), group_size)

    def test_too_few_images(self):
        with pytest.raises(ValueError, match=r"group_size: expected at most 8 .*12 images \(4 images of.*got 10"):
            GroupSampler(labelled(8, 4), 10)
        assert len(GroupSampler(labelled(8, 4), 8)) == 1, "what the error recommends works"


class TestUnlabelled:
    def test_any_images(self):
        sampler = GroupSampler(unlabelled(23), 5)
        groups = sampler.epoch(0)
        assert (len(sampler), sampler.left_out) == (4, 3)
        assert groups.shape == (4, 5)
        assert_no_repetition(groups)
        assert groups.min() >= 0
        assert groups.max() < 23

    def test_what_is_left_out_changes(self):
        sampler = GroupSampler(unlabelled(23), 5)
        assert torch.cat([sampler.epoch(epoch) for epoch in range(10)]).unique().numel() == 23

    def test_class_order_needs_labels(self):
        with pytest.raises(ValueError, match=r"order: expected 'random' for images without labels"):
            GroupSampler(unlabelled(23), 5, order="class")

    def test_too_few_images(self):
        with pytest.raises(
            ValueError,
            match=r"group_size: expected at most 23 for the part of unlabelled .*23 images.*got 40; make the groups",
        ):
            GroupSampler(unlabelled(23))
        assert len(GroupSampler(unlabelled(23), 23)) == 1


class TestEpochs:
    @pytest.mark.parametrize("order", ["random", "class"])
    def test_same_seed_and_epoch_same_groups(self, order):
        images = labelled(20, 20)
        first, second = (GroupSampler(images, 4, order=order, seed=3) for _ in range(2))
        second.epoch(0)
        torch.rand(3)  # neither the history of the sampler nor the global generator matters
        assert torch.equal(first.epoch(5), second.epoch(5))

    def test_streams_are_unrelated(self):
        images = unlabelled(40)
        drawn = {
            (seed, epoch): tuple(GroupSampler(images, 40, seed=seed).epoch(epoch).flatten().tolist())
            for seed in range(8)
            for epoch in range(8)
        }
        assert len(set(drawn.values())) == 64, "seed 0 in epoch 1 is not seed 1 in epoch 0"

    def test_the_global_generator_is_left_alone(self):
        images = labelled(20, 20)
        state = torch.get_rng_state()
        GroupSampler(images, 4).epoch(0)
        assert torch.equal(torch.get_rng_state(), state)

    def test_large_seeds(self):
        sampler = GroupSampler(unlabelled(10), 5, seed=2**70)
        assert not torch.equal(sampler.epoch(0), sampler.epoch(2**40))

    def test_limit_takes_the_first_groups(self):
        images = labelled(20, 25)
        every, some = GroupSampler(images, 4), GroupSampler(images, 4, limit=3)
        assert (len(every), len(some)) == (10, 3)
        assert torch.equal(some.epoch(2), every.epoch(2)[:3])
        assert some.left_out == every.left_out == 5
        assert len(GroupSampler(images, 4, limit=100)) == 10


class TestArguments:
    @pytest.mark.parametrize("value", [4.0, "4", None, True])
    def test_group_size_type(self, value):
        with pytest.raises(TypeError, match=r"group_size: expected an int ≥ 1; got "):
            GroupSampler(unlabelled(10), value)

    @pytest.mark.parametrize("value", [0, -1])
    def test_group_size_range(self, value):
        with pytest.raises(ValueError, match=rf"group_size: expected an int ≥ 1; got {value}"):
            GroupSampler(unlabelled(10), value)

    @pytest.mark.parametrize("value", [0, -1])
    def test_limit_range(self, value):
        with pytest.raises(ValueError, match=rf"limit: expected an int ≥ 1, or None; got {value}"):
            GroupSampler(unlabelled(10), 5, limit=value)

    def test_negative_seed_and_epoch(self):
        with pytest.raises(ValueError, match=r"seed: expected an int ≥ 0; got -1"):
            GroupSampler(unlabelled(10), 5, seed=-1)
        with pytest.raises(ValueError, match=r"epoch: expected an int ≥ 0; got -1"):
            GroupSampler(unlabelled(10), 5).epoch(-1)

    def test_unknown_order(self):
        with pytest.raises(ValueError, match=r"order: expected one of class, random; got 'sorted'"):
            GroupSampler(unlabelled(10), 5, order="sorted")


class TestGroupMatrix:
    @pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)])
    def test_columns_are_images_row_by_row(self, shape):
        images = unlabelled(9)
        indices = torch.randint(9, shape)
        Y = group_matrix(images, indices)
        assert Y.shape == (*shape[:-1], 6, 4)
        assert Y.dtype == torch.float32
        columns = Y.movedim(-2, -1).reshape(-1, 6)
        assert torch.equal(columns, images.images.reshape(9, 6)[indices.flatten()])

    def test_uint8(self):
        images = ImageSet("bytes", torch.tensor([[[0, 51], [102, 255]]], dtype=torch.uint8), None)
        Y = group_matrix(images, torch.tensor([0]))
        torch.testing.assert_close(Y, torch.tensor([[0.0], [0.2], [0.4], [1.0]]))

    def test_single_index(self):
        with pytest.raises(ValueError, match=r"indices: expected at least one dimension"):
            group_matrix(unlabelled(3), torch.tensor(1))

    def test_a_list(self):
        for call in (group_matrix, ImageSet.pixels):
            with pytest.raises(TypeError, match=r"indices: expected a torch.Tensor of integers; got list"):
                call(unlabelled(3), [0, 1])

    def test_digits(self):
        train = load_dataset("digits").train
        Y = group_matrix(train, GroupSampler(train).epoch(0))
        assert Y.shape == (34, 64, 40)
        assert Y.min() == 0
        assert Y.max() == 1


@needs_data
class TestRealData:
    @pytest.mark.parametrize(("name", "train", "test"), [("mnist", 1355, 223), ("fashion", 1500, 250), ("faces", 8, 2)])
    def test_number_of_groups(self, name, train, test):
        split = load_dataset(name, data_dir=REAL_DATA)
        for images, count in ((split.train, train), (split.test, test)):
            sampler = GroupSampler(images)
            groups = sampler.epoch(1)
            assert len(sampler) == count
            assert sampler.left_out == len(images) - 40 * count
            assert groups.shape == (count, 40)
            assert_no_repetition(groups)
            share = 40 // len(images.labels.unique())
            expected = images.labels.unique().repeat_interleave(share)
            assert torch.equal(images.labels[groups].sort(dim=1).values, expected.expand(count, 40))

    def test_ten_people(self):
        split = load_dataset("faces", data_dir=REAL_DATA)
        sampler = GroupSampler(split.train, 10, order="class")
        assert (len(sampler), sampler.left_out) == (8, 240)
        assert torch.equal(split.train.labels[sampler.epoch(0)], torch.arange(10).expand(8, 10))


class TestRemark:
    def test_whole_classes_in_no_group(self):
        sampler = GroupSampler(labelled(9, 9, 9, 9, 9), 3)
        assert "one image of each of 3 classes, the first of the 5 of labelled; no group has" in sampler.remark

    def test_most_images_in_no_group(self):
        sampler = GroupSampler(labelled(160, 4), 4)
        assert "156 of 164 images of labelled are in no group of an epoch: the smallest of 2 classes" in sampler.remark

    @pytest.mark.parametrize("images", [labelled(20, 15), unlabelled(20)])
    def test_nothing_to_say(self, images):
        assert GroupSampler(images, 6).remark is None
