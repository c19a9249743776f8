"""The training loop: it learns, it repeats itself bit for bit, and an epoch depends on nothing but its number."""

import copy
from itertools import pairwise

import pytest
import torch
from helpers import REAL_DATA, needs_data

from diffnmf import nnls
from diffnmf.data import GroupSampler, ImageSet, group_matrix, load_dataset
from diffnmf.errors import DivergenceError
from diffnmf.evaluation import score_generator
from diffnmf.factorization import merge
from diffnmf.metrics import relative_error, symmetry_adjusted_error
from diffnmf.models import Critic, Generator, GeneratorConfig
from diffnmf.training import Trainer, TrainingConfig
from diffnmf.training.batches import Batch, label_flips
from diffnmf.training.engine import make_accelerator

M, K = 8, 3
FROM_MERGE = {"adversarial": False, "basis_init": "merge", "batch_size": 4}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    """64 images of 8×8: smooth mixtures of a few blobs."""
    random = torch.Generator().manual_seed(0)
    blobs = torch.nn.functional.interpolate(torch.rand(5, 1, 3, 3, generator=random), 8, mode="bilinear").squeeze(1)
    shares = torch.rand(64, 5, generator=random).softmax(1)
    return ImageSet("blobs", torch.einsum("ic,chw->ihw", shares, blobs).clamp(0, 1), None)


def trainer(images, w_solver="unrolled", *, limit=None, model_seed=0, basis_init=None, **options):
    config = TrainingConfig(**{"batch_size": 2, **options})
    torch.manual_seed(model_seed)
    generator = Generator(GeneratorConfig((8, 8), M, K, w_solver, width=8, basis_init=basis_init))
    critic = Critic((8, 8), M, width=8) if config.adversarial else None
    sampler = GroupSampler(images, M, seed=config.seed, limit=limit)
    generator.set_slots(group_matrix(images, sampler.epoch(0)))
    return Trainer(generator, critic, sampler, config, make_accelerator(precision=config.precision))


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


class TestPenalties:
    @pytest.mark.parametrize("name", ["sparsity", "overlap", "closeness"])
    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    def test_what_has_a_weight_is_lowered_and_reported(self, images, name, w_solver):
        rows = {}
        for weight in (0.0, 1.0):
            options = {"adversarial": False, "basis_init": "merge", "learning_rate": 2e-3, name: weight}
            training = trainer(images, w_solver, **options)
            training.generator.start.prototypes.copy_(torch.rand(64, K, generator=torch.Generator().manual_seed(0)))
            rows[weight] = [training.train_epoch(epoch) for epoch in (1, 2, 3)]
        reported = [row[f"{name}_penalty"] for row in rows[1.0]]
        assert reported[2] < reported[0]
        assert not [entry for entry in rows[0.0][0] if entry.endswith("_penalty")]

    def test_canonical_targets_draw_each_slot_to_its_part(self, images):
        rows = {}
        for weight in (0.0, 1.0):
            training = trainer(images, adversarial=False, learning_rate=2e-3, canonical=weight)
            rows[weight] = [training.train_epoch(epoch) for epoch in range(1, 5)]
        reported = [row["canonical_penalty"] for row in rows[1.0]]
        assert reported[-1] < 0.8 * reported[0]
        assert "canonical_penalty" not in rows[0.0][0]
        # The same targets in every process and after every interruption: nothing has to be kept.
        again = trainer(images, adversarial=False, canonical=1.0, model_seed=1)
        assert torch.equal(again.loss.targets.prototypes, training.loss.targets.prototypes)
        merged = trainer(images, adversarial=False, basis_init="merge", canonical=1.0)
        assert merged.train_epoch(1)["canonical_penalty"] < 0.1 * reported[0]  # it begins at its targets

    def test_canonical_targets_are_merging_in_slots(self, images):
        training = trainer(images, adversarial=False, canonical=0.1)
        Y = group_matrix(images, training.sampler.epoch(3))
        found = training.loss.targets.of(Y)
        H, _ = merge(Y, K)
        assert symmetry_adjusted_error(found, H).max() < 1e-5
        torch.testing.assert_close(found, training.loss.targets.of(Y.flip(-1)), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(Y), K))
        assert training._ahead(Y)["canonical"].equal(found)

    def test_canonical_needs_as_many_components_as_merging_finds(self, images):
        training = TrainingConfig(canonical=0.1, adversarial=False)
        generator = Generator(GeneratorConfig((8, 8), M, 65, width=8))
        with pytest.raises(ValueError, match=r"canonical: expected at most k = max\(n, m\) = 64 components"):
            Trainer(generator, None, GroupSampler(images, M), training)

    def test_closeness_needs_prototypes(self, images):
        with pytest.raises(ValueError, match="closeness: expected a generator with prototypes.*basis_init"):
            trainer(images, closeness=0.1)

    def test_closeness_needs_prototypes_that_are_set(self, images):
        """To zeros nothing is close, and the gradient is zero."""
        training = trainer(images, adversarial=False, basis_init="merge", closeness=0.1)
        training.generator.start.prototypes.zero_()  # as they are until set_slots
        before = copy.deepcopy(training.generator.state_dict())
        with pytest.raises(ValueError, match=r"closeness: expected prototypes of the slots; got zeros.*set_slots"):
            training.train_epoch(1)
        assert_same(training.generator.state_dict(), before)
        training.generator.set_slots(group_matrix(images, training.sampler.epoch(1)))
        assert training.train_epoch(1)["closeness_penalty"] < 0.9


class TestRelativeToStart:
    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    def test_begins_at_the_error_of_the_start(self, images, w_solver):
        """At 1 with the weights of the start; exact ones fit better."""
        training = trainer(images, w_solver, limit=4, reconstruction="relative_to_start", **FROM_MERGE)
        Y = group_matrix(images, training.sampler.epoch(1))
        H0, W0 = training.generator.start.factors(Y)
        W = W0 if w_solver == "fc" else nnls(H0, Y).W
        expected = (relative_error(Y, H0 @ W) / relative_error(Y, H0 @ W0)).square().mean().item()
        assert training.train_epoch(1)["reconstruction_loss"] == pytest.approx(expected, rel=1e-3)  # of a single step
        assert expected <= 1

    def test_weights_count_in_units_of_the_squared_error_of_the_start(self, images):
        """The loss of a group is that of "relative", with a weight that is multiplied, over the error of the start."""
        to_start = trainer(images, limit=1, reconstruction="relative_to_start", sparsity=2.0, **FROM_MERGE)
        Y = group_matrix(images, to_start.sampler.epoch(1))
        H0, W0 = to_start.generator.start.factors(Y)
        unit = relative_error(Y, H0 @ W0).square().item()
        relative = trainer(images, limit=1, reconstruction="relative", sparsity=2.0 * unit, **FROM_MERGE)
        found, expected = to_start.train_epoch(1), relative.train_epoch(1)
        assert found["reconstruction_loss"] == pytest.approx(expected["reconstruction_loss"] / unit)
        assert found["sparsity_penalty"] == pytest.approx(expected["sparsity_penalty"])
        norm = expected["generator_gradient_norm"]
        assert found["generator_gradient_norm"] == pytest.approx(norm / unit, rel=1e-4)
        assert norm > 0

    def test_needs_a_start(self, images):
        with pytest.raises(ValueError, match="reconstruction: expected a generator with a start.*basis_init"):
            trainer(images, reconstruction="relative_to_start")


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
            "critic_gradient_norm",
            "reconstruction_loss",
            "adversarial_loss",
            "generator_gradient_norm",
        ]
        assert all(isinstance(value, float) for value in row.values())
        assert all(0 <= row[name] <= 1 for name in ("critic_accuracy_real", "critic_accuracy_fake"))

    def test_without_the_critic_its_losses_are_left_out(self, images):
        training = trainer(images, adversarial=False, limit=2)
        assert training.critic is None
        assert list(training.train_epoch(1)) == ["reconstruction_loss", "generator_gradient_norm"]
        assert not [name for name in training.state_dict() if "critic" in name]

    def test_means_are_over_groups_though_the_last_step_has_fewer(self, images):
        training = trainer(images, limit=3, batch_size=2)
        values = iter([torch.tensor(1.0), torch.tensor(4.0)])
        training.step = lambda batches: {"reconstruction_loss": next(values)}
        assert training.train_epoch(1) == {"reconstruction_loss": 2.0}

    def test_progress_wraps_the_steps(self, images):
        seen = []
        trainer(images, limit=3, batch_size=2).train_epoch(
            1, lambda steps: (seen.append(step) or step for step in steps)
        )
        assert len(seen) == 2

    def test_a_critic_is_needed(self, images):
        with pytest.raises(ValueError, match="critic: expected a Critic with adversarial=True; got None"):
            Trainer(Generator(GeneratorConfig((8, 8), M, K, width=8)), None, GroupSampler(images, M), TrainingConfig())


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

    @pytest.mark.parametrize("epoch", [0, 4])
    def test_an_epoch_that_the_schedule_does_not_have_is_refused(self, images, epoch):
        """Beyond the last one the learning rate is zero: such an epoch would change nothing, and not say so."""
        with pytest.raises(ValueError, match=f"epoch: expected 1 to 3, .*; got {epoch}; .* more epochs"):
            trainer(images, limit=1, epochs=3).train_epoch(epoch)

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
        batch = Batch(torch.rand(1, 64, M), torch.tensor([False]), 1.0)
        models = {"generator": training.generator, "critic": training.critic}
        for step, moved, still in (
            (training._critic_step, "critic", "generator"),
            (training._generator_step, "generator", "critic"),
        ):
            before = weights(training)
            step([batch], training.generator(batch.Y), {})
            assert all(parameter.grad is None for parameter in models[still].parameters())
            changed = {name for name, value in weights(training).items() if not torch.equal(value, before[name])}
            assert changed
            assert all(name.startswith(moved) for name in changed)

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
            Generator(GeneratorConfig((8, 8), M, K + 1, width=8)),
            Critic((8, 8), M, 8),
            GroupSampler(images, M),
            TrainingConfig(batch_size=2),
        )
        with pytest.raises(RuntimeError, match="size mismatch"):
            other.load_state_dict(state)
        with pytest.raises(KeyError, match="critic"):
            trainer(images).load_state_dict(trainer(images, adversarial=False).state_dict())

    def test_the_state_of_other_steps_is_refused(self, images):
        """A position inside an epoch is a number of steps."""
        state = trainer(images, batch_size=4).state_dict()
        with pytest.raises(ValueError, match=r"batch_size: expected 4 groups a step.*got 2 × 1 × 1"):
            trainer(images, batch_size=2).load_state_dict(state)
        trainer(images, batch_size=2, accumulate=2).load_state_dict(state)


class StopError(Exception):
    """Stands for whatever ends a process."""


class TestStoppedInside:
    """Stopped between two steps, wherever that is, and continued in a new trainer: the same bits."""

    @staticmethod
    def started(images, **options):
        return trainer(images, **{"limit": 7, "flip_probability": 0.5, **options})

    @classmethod
    def stopped(cls, images, epoch, step, file, **options):
        """Train until this step of this epoch and save there."""
        training = cls.started(images, **options)

        def stop():
            if (training.epoch, training.steps_done) == (epoch, step):
                torch.save(training.state_dict(), file)
                raise StopError

        with pytest.raises(StopError):
            for number in range(1, epoch + 1):
                training.train_epoch(number, after_step=stop)
        return file

    @pytest.mark.parametrize(("epoch", "step"), [(1, 1), (1, 3), (2, 4)])
    @pytest.mark.parametrize("options", [{}, {"adversarial": False}, {"ema_decay": 0.0}, {"accumulate": 2}])
    def test_is_a_training_that_never_stopped(self, images, tmp_path, epoch, step, options):
        if options.get("accumulate"):
            step = min(step, 2)  # half as many steps in an epoch
        whole = self.started(images, **options)
        rows = {number: whole.train_epoch(number) for number in (1, 2, 3)}
        file = self.stopped(images, epoch, step, tmp_path / "state.pt", **options)
        resumed = self.started(images, model_seed=99, **options)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        assert (resumed.epoch, resumed.steps_done) == (epoch, step)
        for number in range(epoch, 4):
            assert resumed.train_epoch(number) == rows[number], "the curves, too"
        assert_same(weights(resumed), weights(whole))
        if whole.averaged is not None:
            assert_same(resumed.averaged.state_dict(), whole.averaged.state_dict())

    def test_the_random_state_goes_on(self, images):
        """What a user's own model draws from the global generators is part of the state."""
        training = trainer(images, limit=1)
        torch.manual_seed(3)
        torch.rand(5)
        state = training.state_dict()
        expected = torch.rand(2)
        torch.manual_seed(4)
        training.load_state_dict(state)
        assert torch.equal(torch.rand(2), expected)


class TestAccumulation:
    @pytest.mark.parametrize("adversarial", [True, False])
    def test_is_the_larger_batch(self, images, adversarial):
        """Seven groups in batches of two, so that the last step and its last batch are smaller."""
        options = {"limit": 7, "adversarial": adversarial, "flip_probability": 0.5}
        results = []
        for split in ({"batch_size": 4}, {"batch_size": 2, "accumulate": 2}, {"batch_size": 1, "accumulate": 4}):
            training = trainer(images, **options, **split)
            results.append((training.train_epoch(1), weights(training)))
        for row, weight in results[1:]:
            assert row == pytest.approx(results[0][0], rel=1e-4)
            for name, value in weight.items():
                torch.testing.assert_close(value, results[0][1][name], rtol=1e-3, atol=1e-4)


class TestAverage:
    def test_follows_the_weights(self, images):
        training = trainer(images, limit=4, ema_decay=0.5)
        seen, name = [], "unet.head.weight"
        training.train_epoch(1, after_step=lambda: seen.append(training.generator.state_dict()[name].clone()))
        expected = seen[0]
        for count, value in enumerate(seen[1:], start=1):
            decay = min(0.5, (1 + count) / (10 + count))
            expected = decay * expected + (1 - decay) * value
        torch.testing.assert_close(training.averaged.state_dict()[name], expected)

    def test_none_is_kept(self, images):
        training = trainer(images, limit=1, ema_decay=0.0)
        training.train_epoch(1)
        assert training.averaged is None
        assert "ema" not in training.state_dict()


class TestDivergence:
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_names_the_loss_and_the_step(self, images, bad):
        training = trainer(images, limit=8)

        def spoil():
            if training.steps_done == 2:
                with torch.no_grad():
                    training.critic.layers[-1].bias.fill_(bad)

        with pytest.raises(DivergenceError, match=r"^critic_\w+: .*in epoch 1, step 3"):
            training.train_epoch(1, after_step=spoil)

    def test_no_such_state_is_saved(self, images):
        training = trainer(images, limit=8)

        def save():
            if training.steps_done == 1:
                with torch.no_grad():
                    training.generator.unet.head.bias.fill_(float("nan"))
            else:
                training.state_dict()

        with pytest.raises(DivergenceError, match="step 2"):
            training.train_epoch(1, after_step=save)


class TestPrecision:
    def test_bfloat16_learns_and_is_scored_in_float32(self, images):
        training = trainer(images, precision="bfloat16", learning_rate=2e-3)
        groups = training.sampler.epoch(0)
        before = score_generator(training.generator, images, groups)["relative_error"]
        seen = []
        training.generator.unet.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        training.train_epoch(1)
        assert set(seen) == {torch.bfloat16}
        after = score_generator(training.generator, images, groups)["relative_error"]
        assert after < before
        assert seen[-1] == torch.float32
        assert all(parameter.dtype == torch.float32 for parameter in training.generator.parameters())

    def test_float16_needs_a_gpu(self):
        with pytest.raises(ValueError, match=r"precision: .*float16.*bfloat16"):
            make_accelerator("cpu", "float16")

    def test_one_precision_after_the_other(self, images):
        """accelerate keeps one setting a process; trainings in one program must not inherit it."""
        first = trainer(images, limit=2).train_epoch(1)
        trainer(images, limit=2, precision="bfloat16").train_epoch(1)
        assert trainer(images, limit=2).train_epoch(1) == first


class TestFlips:
    @staticmethod
    def seen(images, epoch=1, **options):
        """The groups and the flips that the steps of an epoch are given."""
        training = trainer(images, flip_probability=0.5, **options)
        groups, flips = [], []

        def step(batches):
            for batch in batches:
                assert len(batch.Y) == len(batch.flipped)
                groups.append(batch.Y)
                flips.append(batch.flipped)
            return {"loss": torch.tensor(0.0)}

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
    def test_share(self, probability):
        flips = label_flips(probability, 10_000, seed=0, epoch=1)
        # Four standard deviations of a binomial share.
        assert flips.float().mean().item() == pytest.approx(
            probability, abs=4 * (probability * (1 - probability) / 1e4) ** 0.5
        )


@needs_data
def test_two_epochs_on_mnist_are_better_than_none():
    split = load_dataset("mnist", data_dir=REAL_DATA)
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig((28, 28), 40, 10, width=32))
    config = TrainingConfig(batch_size=2)
    sampler = GroupSampler(split.train, 40, limit=8)
    training = Trainer(generator, Critic((28, 28), 40, 32), sampler, config)
    test_groups = GroupSampler(split.test, 40, limit=8).epoch(0)
    before = score_generator(generator, split.test, test_groups)
    for epoch in (1, 2):
        training.train_epoch(epoch)
    after = score_generator(generator, split.test, test_groups)
    assert after["relative_error"] < before["relative_error"]
    assert after["column_error"] < before["column_error"]
