"""The training loop: it learns, it repeats itself bit for bit, and an epoch depends on nothing but its number."""

import os
from itertools import pairwise

import pytest
import torch

from diffnmf.data import GroupSampler, ImageSet, load_dataset
from diffnmf.evaluation import score_generator
from diffnmf.models import Critic, Generator
from diffnmf.training import Trainer, TrainingConfig

REAL_DATA = os.environ.get("DIFFNMF_DATA")
needs_data = pytest.mark.skipif(not REAL_DATA, reason="needs the real data sets: set DIFFNMF_DATA to their folder")

M, K = 8, 3


@pytest.fixture(autouse=True)
def one_thread():
    """For tiny matrices threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images():
    """64 images of 8×8: smooth mixtures of a few blobs."""
    random = torch.Generator().manual_seed(0)
    blobs = torch.nn.functional.interpolate(torch.rand(5, 1, 3, 3, generator=random), 8, mode="bilinear").squeeze(1)
    shares = torch.rand(64, 5, generator=random).softmax(1)
    return ImageSet("blobs", torch.einsum("ic,chw->ihw", shares, blobs).clamp(0, 1), None)


def trainer(images, w_solver="unrolled", *, limit=None, model_seed=0, **options):
    config = TrainingConfig(**{"batch_size": 2, **options})
    torch.manual_seed(model_seed)
    generator = Generator((8, 8), M, K, w_solver, width=8)
    critic = Critic((8, 8), M, width=8) if config.adversarial else None
    return Trainer(generator, critic, GroupSampler(images, M, seed=config.seed, limit=limit), config)


def weights(trained):
    """Every tensor of the models, under its name."""
    parts = {"generator": trained.generator, "critic": trained.critic}
    return {
        f"{part}.{name}": tensor.clone()
        for part, model in parts.items()
        if model is not None
        for name, tensor in model.state_dict().items()
    }


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


class TestEpoch:
    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    @pytest.mark.parametrize("adversarial", [True, False])
    def test_lowers_the_loss(self, images, w_solver, adversarial):
        training = trainer(images, w_solver, adversarial=adversarial, learning_rate=2e-3)
        groups = training.sampler.epoch(0)
        before = score_generator(training.generator, images, groups)["relative_error"]
        training.train_epoch(1)
        after = score_generator(training.generator, images, groups)["relative_error"]
        assert after < 0.95 * before

    def test_reports_every_loss_as_a_number(self, images):
        row = trainer(images, limit=3).train_epoch(1)
        assert list(row) == [
            "critic_loss",
            "critic_accuracy_real",
            "critic_accuracy_fake",
            "reconstruction_loss",
            "adversarial_loss",
        ]
        assert all(isinstance(value, float) for value in row.values())
        assert all(0 <= row[name] <= 1 for name in ("critic_accuracy_real", "critic_accuracy_fake"))

    def test_without_the_critic_its_losses_are_left_out(self, images):
        training = trainer(images, adversarial=False, limit=2)
        assert training.critic is None
        assert list(training.train_epoch(1)) == ["reconstruction_loss"]
        assert sorted(training.state_dict()) == ["generator", "generator_optimizer"]

    def test_means_are_over_groups_though_the_last_step_has_fewer(self, images):
        training = trainer(images, limit=3, batch_size=2)
        values = iter([torch.tensor(1.0), torch.tensor(4.0)])
        training.step = lambda Y, flipped: {"reconstruction_loss": next(values)}
        assert training.train_epoch(1) == {"reconstruction_loss": 2.0}

    def test_progress_wraps_the_steps(self, images):
        seen = []
        trainer(images, limit=3, batch_size=2).train_epoch(
            1, lambda steps: (seen.append(step) or step for step in steps)
        )
        assert len(seen) == 2

    def test_a_critic_is_needed(self, images):
        with pytest.raises(ValueError, match="critic: expected a Critic with adversarial=True; got None"):
            Trainer(Generator((8, 8), M, K, width=8), None, GroupSampler(images, M), TrainingConfig())


class TestOpponents:
    def test_the_critic_learns_to_tell_real_from_fake(self, images):
        still = 1e-12  # the opponent does not move
        training = trainer(
            images,
            flip_probability=0.0,
            learning_rate=still,
            critic_learning_rate=2e-3,
            reconstruction_weight=0.0,
            epochs=25,
            constant_share=1.0,
        )
        rows = [training.train_epoch(epoch) for epoch in range(1, 26)]
        assert rows[-1]["critic_loss"] < 0.5 * rows[0]["critic_loss"]
        assert rows[-1]["critic_accuracy_real"] == rows[-1]["critic_accuracy_fake"] == 1

    def test_learning_rates_are_constant_and_then_fall(self, images):
        training = trainer(images, limit=1, epochs=10, constant_share=0.4, learning_rate=1e-3)
        rates = []
        for epoch in range(1, 11):
            training.train_epoch(epoch)
            rates.append([o.param_groups[0]["lr"] for o in (training.generator_optimizer, training.critic_optimizer)])
        generator, critic = zip(*rates, strict=True)
        assert generator[:4] == (1e-3,) * 4
        steps = [before - after for before, after in pairwise(generator[4:])]
        assert steps == pytest.approx([1e-3 / 7] * 5)
        assert 0 < generator[-1] < 2e-4
        ratio = training.config.critic_learning_rate / 1e-3
        assert critic == pytest.approx([rate * ratio for rate in generator])

    def test_each_has_its_own_learning_rate(self, images):
        training = trainer(images, limit=1, learning_rate=1e-3, critic_learning_rate=2e-4)
        before = weights(training)
        training.train_epoch(1)
        after = weights(training)
        for part, rate in {"generator": 1e-3, "critic": 2e-4}.items():
            # The first step of Adam is as long as the learning rate wherever there is a gradient to speak of.
            longest = max((after[name] - before[name]).abs().max().item() for name in after if name.startswith(part))
            assert longest == pytest.approx(rate, rel=1e-2), part

    def test_the_generator_learns_to_pass_for_real(self, images):
        training = trainer(images, learning_rate=2e-3, critic_learning_rate=1e-12, reconstruction_weight=0.0)
        rows = [training.train_epoch(epoch) for epoch in range(1, 6)]
        assert rows[-1]["adversarial_loss"] < rows[0]["adversarial_loss"]

    def test_the_step_of_one_leaves_the_gradients_of_the_other_alone(self, images):
        training = trainer(images, limit=1)
        training.train_epoch(1)
        assert all(parameter.requires_grad for parameter in training.critic.parameters())
        gradients = [parameter.grad.clone() for parameter in training.critic.parameters()]
        Y = torch.rand(1, 64, M)
        training._generator_step(Y, training.generator(Y))
        assert all(torch.equal(p.grad, g) for p, g in zip(training.critic.parameters(), gradients, strict=True))
        gradients = [parameter.grad.clone() for parameter in training.generator.parameters()]
        training._critic_step(Y, training.generator(Y), torch.tensor([False]))
        assert all(torch.equal(p.grad, g) for p, g in zip(training.generator.parameters(), gradients, strict=True))

    def test_the_form_of_the_adversarial_loss_matters(self, images):
        results = []
        for form in ("saturating", "non_saturating"):
            training = trainer(images, limit=2, adversarial_form=form, reconstruction_weight=0.0)
            training.train_epoch(1)
            results.append(weights(training)["generator.unet.head.weight"])
        assert not torch.equal(*results)

    @pytest.mark.parametrize(("given", "used"), [(None, K), (2, 2)])
    def test_rank_of_the_real_samples(self, images, given, used):
        assert trainer(images, pca_rank=given).pca_rank == used


class TestRepetition:
    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    def test_the_same_seed_gives_the_same_bits(self, images, w_solver):
        results = []
        for _ in range(2):
            training = trainer(images, w_solver, limit=4)
            rows = [training.train_epoch(epoch) for epoch in (1, 2)]
            results.append((weights(training), rows))
            torch.rand(17)  # the global random state has no say
        assert_same(results[0][0], results[1][0])
        assert results[0][1] == results[1][1]

    def test_another_seed_gives_other_bits(self, images):
        results = []
        for seed in (0, 1):
            training = trainer(images, seed=seed, limit=4)
            training.train_epoch(1)
            results.append(weights(training))
        assert not torch.equal(*(result["generator.unet.head.weight"] for result in results))

    @pytest.mark.parametrize("adversarial", [True, False])
    def test_a_resumed_training_is_one_that_never_stopped(self, images, adversarial, tmp_path):
        options = {"adversarial": adversarial, "limit": 4, "flip_probability": 0.5}
        whole = trainer(images, **options)
        rows = [whole.train_epoch(epoch) for epoch in (1, 2, 3)]
        first = trainer(images, **options)
        for epoch in (1, 2):
            first.train_epoch(epoch)
        torch.save(first.state_dict(), tmp_path / "state.pt")
        second = trainer(images, model_seed=99, **options)
        second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert second.train_epoch(3) == rows[-1]
        assert_same(weights(second), weights(whole))

    def test_an_epoch_skipped_is_another_training(self, images):
        """The epochs differ, so that the test above could fail."""
        results = []
        for epochs in ((1, 2, 3), (1, 2, 2)):
            training = trainer(images, limit=4)
            for epoch in epochs:
                training.train_epoch(epoch)
            results.append(weights(training))
        assert not torch.equal(*(result["generator.unet.head.weight"] for result in results))

    def test_the_state_of_other_models_is_refused(self, images):
        state = trainer(images).state_dict()
        other = Trainer(
            Generator((8, 8), M, K + 1, width=8), Critic((8, 8), M, 8), GroupSampler(images, M), TrainingConfig()
        )
        with pytest.raises(RuntimeError, match="size mismatch"):
            other.load_state_dict(state)
        with pytest.raises(KeyError, match="critic"):
            trainer(images).load_state_dict(trainer(images, adversarial=False).state_dict())


class TestFlips:
    @staticmethod
    def seen(images, epoch=1, **options):
        """The groups and the flips that the steps of an epoch are given."""
        training = trainer(images, flip_probability=0.5, **options)
        groups, flips = [], []

        def step(Y, flipped):
            assert len(Y) == len(flipped)
            groups.append(Y)
            flips.append(flipped)
            return {}

        training.step = step
        training.train_epoch(epoch)
        return torch.cat(groups), torch.cat(flips)

    @pytest.mark.parametrize("batch_size", [2, 3, 8, 100])
    def test_belong_to_the_groups_and_not_to_the_steps(self, images, batch_size):
        groups, flips = self.seen(images, batch_size=batch_size)
        expected_groups, expected_flips = self.seen(images, batch_size=1)
        assert flips.dtype == torch.bool
        assert flips.shape == (8,)
        assert torch.equal(groups, expected_groups)
        assert torch.equal(flips, expected_flips)

    def test_a_limit_leaves_those_of_the_first_groups(self, images):
        assert torch.equal(self.seen(images, limit=5)[1], self.seen(images)[1][:5])

    def test_are_drawn_anew_for_every_epoch_and_seed(self, images):
        drawn = [self.seen(images, epoch=epoch, seed=seed)[1] for epoch in (1, 2) for seed in (0, 1)]
        assert len({tuple(flips.tolist()) for flips in drawn}) == 4

    @pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
    def test_share(self, images, probability):
        flips = trainer(images, flip_probability=probability)._flips(1, 10_000)
        # Four standard deviations of a binomial share.
        assert flips.float().mean().item() == pytest.approx(
            probability, abs=4 * (probability * (1 - probability) / 1e4) ** 0.5
        )


@needs_data
def test_two_epochs_on_mnist_are_better_than_none():
    split = load_dataset("mnist", data_dir=REAL_DATA)
    torch.manual_seed(0)
    generator = Generator((28, 28), 40, 10, width=32)
    config = TrainingConfig(batch_size=2)
    sampler = GroupSampler(split.train, 40, limit=8)
    training = Trainer(generator, Critic((28, 28), 40, 32), sampler, config)
    test_groups = GroupSampler(split.test, 40, limit=8).epoch(0)
    before = score_generator(generator, split.test, test_groups)
    for epoch in (1, 2):
        training.train_epoch(epoch)
    after = score_generator(generator, split.test, test_groups)
    assert after["relative_error"] < before["relative_error"]
    assert after["eps"] < before["eps"]
