"""GANUNMF: saved and loaded without loss, and groups of any batch shape factorised."""

import copy
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import yaml
from helpers import bytes_of
from safetensors.torch import load_file

from diffnmf.errors import RunFolderError
from diffnmf.layers import NNLSLayer
from diffnmf.models import GANUNMF, W_SOLVERS, GeneratorConfig
from diffnmf.models.evaluation_mode import evaluation_mode
from diffnmf.runs import factorize_images

OPTIONS = {"image_shape": (6, 5), "m": 4, "k": 3, "width": 8}
Y = torch.rand(2, 3, 30, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GANUNMF(**OPTIONS)


def test_threads_leave_the_mode_as_it_was(model):
    """A thread that comes while another one has the model in evaluation mode must not take that for its own mode."""
    model.train()
    entered, leave, modes = threading.Event(), threading.Event(), []

    def first():
        with evaluation_mode(model):
            entered.set()
            leave.wait(60)

    def second():
        with evaluation_mode(model):
            leave.set()
            other.join(60)
            modes.append(model.training)

    other = threading.Thread(target=first)
    other.start()
    entered.wait(60)
    second()
    assert modes == [False]
    assert model.training
    expected = copy.deepcopy(model).eval().factorize(Y).H
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: model.factorize(Y), range(16)):
            torch.testing.assert_close(result.H, expected)
    assert model.training
    with pytest.raises(ValueError, match="stop"), evaluation_mode(model):
        raise ValueError("stop")
    assert model.training


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (Y[0].numpy(), TypeError, r"Y: expected a torch.Tensor \(B, 30, 4\); got ndarray \(use torch.as_tensor\)"),
        ([[0.5]], TypeError, r"Y: expected a torch.Tensor \(B, 30, 4\); got list"),
        ((255 * Y[0]).byte(), TypeError, r"Y: expected floating pixels in \[0, 1\]; got torch.uint8"),
        (Y[0].double(), TypeError, r"Y: expected torch.float32, as the model; got torch.float64 \(use Y.to"),
        (Y[0].to("meta"), ValueError, "Y: expected the device of the model, cpu; got meta"),
    ],
)
def test_groups_of_another_kind_are_named(model, groups, error, message):
    with pytest.raises(error, match=message):
        model(groups)


class TestOptions:
    def test_a_configuration_or_what_makes_one(self):
        config = GeneratorConfig((6, 5), 4, 3, "fc", 8)
        for model in (GANUNMF(config), GANUNMF((6, 5), 4, 3, "fc", width=8), GANUNMF(**OPTIONS, w_solver="fc")):
            assert model.config == config

    def test_are_kept_as_plain_values(self, tmp_path):
        model = GANUNMF([np.int64(6), 5], np.int32(4), np.int64(3), width=8)
        assert model.config == GANUNMF(**OPTIONS).config
        model.save(tmp_path)
        assert GANUNMF.load(tmp_path).config == model.config

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"m": 0}, ValueError, "^m: expected an int ≥ 1; got 0"),
            ({"k": True}, TypeError, "^k: expected an int ≥ 1; got True"),
            ({"image_shape": 6}, TypeError, r"^image_shape: expected \(height, width\); got 6"),
            ({"image_shape": (6, 2.0)}, TypeError, r"^image_shape: expected an int ≥ 1; got 2\.0"),
            ({"dropout": 0.5}, TypeError, "unexpected keyword argument 'dropout'"),
        ],
    )
    def test_errors(self, options, error, message):
        with pytest.raises(error, match=message):
            GANUNMF(**{**OPTIONS, **options})

    def test_nothing_beside_a_configuration(self):
        config = GeneratorConfig(**OPTIONS)
        for options in ([4], {}), ([], {"m": 4}):
            with pytest.raises(TypeError, match=r"^config: expected it alone; got (4|m) beside it \(use dataclasses"):
                GANUNMF(config, *options[0], **options[1])


class TestFactorize:
    @pytest.mark.parametrize("batch", [(), (1,), (2,), (2, 3)])
    def test_any_batch_shape(self, model, batch):
        groups = Y[tuple(0 for _ in range(2 - len(batch)))][..., :, :]
        groups = groups[: batch[0]] if batch else groups
        H, W, Y_hat = model.factorize(groups)
        assert (H.shape, W.shape, Y_hat.shape) == ((*batch, 30, 3), (*batch, 3, 4), (*batch, 30, 4))
        assert not H.requires_grad
        torch.testing.assert_close(H @ W, Y_hat)
        torch.testing.assert_close(W, NNLSLayer()(H, groups), rtol=1e-4, atol=1e-5)

    def test_a_batch_is_its_groups(self, model):
        together = model.factorize(Y)
        alone = model.factorize(Y[1, 2])
        for part, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(part, expected[1, 2], rtol=1e-4, atol=1e-5)

    def test_more_groups_than_go_at_once(self, model):
        groups = Y.flatten(0, 1).repeat(12, 1, 1)  # 72
        assert torch.equal(model.factorize(groups).H[:6], model.factorize(groups[:32]).H[:6])

    def test_no_groups(self, model):
        assert model.factorize(Y[:0]).H.shape == (0, 3, 30, 3)

    @pytest.mark.parametrize("training", [True, False])
    def test_leaves_the_mode_alone(self, model, training):
        model.train(training)
        model.factorize(Y)
        assert model.training is model.generator.training is training

    def test_rounding_may_step_over_one(self, model):
        model.factorize(torch.full((30, 4), 1 + 1e-6))

    def test_double_precision_in(self, model):
        assert model.factorize(Y.double()).H.dtype == torch.float32

    @pytest.mark.parametrize("refine", [0, 1])
    def test_a_model_in_another_precision(self, model, refine):
        expected = model.factorize(Y, refine=refine)
        found = model.double().factorize(Y, refine=refine)
        assert found.H.dtype == found.W.dtype == torch.float64
        torch.testing.assert_close(found.Y_hat.float(), expected.Y_hat, rtol=1e-4, atol=1e-5)
        assert model.half().factorize(Y, refine=refine).H.dtype == torch.float16

    @pytest.mark.parametrize(
        ("groups", "error", "message"),
        [
            (torch.zeros(30, 4, dtype=torch.uint8), TypeError, r"Y: expected floating pixels.*uint8.*divide"),
            (torch.zeros(30, 5), ValueError, r"Y: expected .*30, 4\), columns of 4 images of 6×5; got \(30, 5\)"),
            (torch.zeros(4), ValueError, r"Y: expected .*got \(4,\)"),
            (torch.full((30, 4), float("nan")), ValueError, r"Y: expected finite"),
            (
                torch.rand(30, 4).numpy(),
                TypeError,
                r"Y: expected a torch.Tensor.*; got ndarray \(use torch",
            ),
            ([[0.5] * 4] * 30, TypeError, r"Y: expected a torch.Tensor.*; got list"),
            (torch.rand(30, 4).to_sparse(), TypeError, r"Y: expected a dense tensor.*Y\.to_dense"),
            (torch.rand(30, 4) - 2, ValueError, r"Y: expected pixels in \[0, 1\]; got -\d.* \(shift and scale"),
            (torch.full((30, 4), 255.0), ValueError, r"Y: expected pixels in \[0, 1\]; got 255 \(shift and scale"),
        ],
    )
    def test_errors(self, model, groups, error, message):
        with pytest.raises(error, match=message):
            model.factorize(groups)


class TestFiles:
    @pytest.mark.parametrize("w_solver", W_SOLVERS)
    def test_round_trip(self, w_solver, tmp_path):
        model = GANUNMF(**OPTIONS, w_solver=w_solver, depth=0, unit_norm=True)
        model.save(tmp_path / "a" / "model")
        loaded = GANUNMF.load(tmp_path / "a" / "model")
        assert loaded.config == model.config
        assert not loaded.training
        states = model.state_dict(), loaded.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_are_plain(self, model, tmp_path):
        model.save(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["generator.safetensors", "model.yaml"]
        content = yaml.safe_load((tmp_path / "model.yaml").read_text())
        assert (content["image_shape"], content["m"], content["k"]) == ([6, 5], 4, 3)
        assert load_file(tmp_path / "generator.safetensors").keys() == model.generator.state_dict().keys()

    @pytest.mark.parametrize("name", ["best", "ema"])
    def test_a_training_run_is_not_saved_over(self, model, tmp_path, name):
        """Its best weights would come back, not the ones that were saved."""
        model.save(tmp_path)
        model.save(tmp_path)  # a model of its own is replaced
        shutil.copy(tmp_path / "generator.safetensors", tmp_path / f"{name}.safetensors")
        before = bytes_of(tmp_path)
        with pytest.raises(RunFolderError, match=rf"^path: expected a folder without a training run; .*{name}\."):
            GANUNMF(**OPTIONS).save(tmp_path)
        assert bytes_of(tmp_path) == before

    def test_the_best_weights_come_first(self, model, tmp_path):
        model.save(tmp_path)
        other = GANUNMF(**OPTIONS)
        other.save(tmp_path / "other")
        (tmp_path / "other" / "generator.safetensors").rename(tmp_path / "best.safetensors")
        for weights, expected in ((None, other), ("best", other), ("generator", model)):
            loaded = GANUNMF.load(tmp_path, weights=weights)
            assert torch.equal(loaded.generator.unet.head.weight, expected.generator.unet.head.weight)

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("model.yaml", None, r"expected the folder of a model; .* has no model\.yaml"),
            ("model.yaml", "k: [", r"model\.yaml: expected the configuration of a model in YAML"),
            ("model.yaml", "- 1", r"model\.yaml: expected the entries image_shape, m, k"),
            ("model.yaml", "{image_shape: [6, 5], m: 4, k: 3, lr: 1}", r"model\.yaml: expected the entries"),
            ("model.yaml", "{image_shape: [6, 5], m: 4, k: 3, w_solver: x}", r"model\.yaml: w_solver: expected one of"),
            ("model.yaml", "{image_shape: 6, m: 4, k: 3}", r"model\.yaml: "),
            ("model.yaml", "{image_shape: [6, 5], m: 4, k: 0}", r"model\.yaml: k: expected"),
            ("model.yaml", "{image_shape: [6, 5], m: 4, k: 2, width: 8}", r"generator\.safetensors: does not fit"),
            ("generator.safetensors", None, r"generator\.safetensors: .*no such file"),
            ("generator.safetensors", "nonsense", r"generator\.safetensors: not the weights of a model, or damaged"),
        ],
    )
    def test_damage(self, model, tmp_path, file, content, message):
        model.save(tmp_path)
        (tmp_path / file).unlink()
        if content is not None:
            (tmp_path / file).write_text(content)
        with pytest.raises(RunFolderError, match=message):
            GANUNMF.load(tmp_path)

    def test_unknown_weights(self, model, tmp_path):
        model.save(tmp_path)
        with pytest.raises(ValueError, match="weights: expected one of best, ema, generator; got 'last'"):
            GANUNMF.load(tmp_path, weights="last")

    def test_a_failing_write_leaves_the_old_model(self, model, tmp_path, monkeypatch):
        model.save(tmp_path)
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        written = []

        def full(path):  # when the new model.yaml is there, and before its weights are
            written.append(path.name)
            if "safetensors" in path.name:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr("diffnmf.files.to_disk", full)
        with pytest.raises(RunFolderError, match=r"could not be written \(No space left on device\)"):
            GANUNMF(**{**OPTIONS, "k": OPTIONS["k"] + 1}).save(tmp_path)
        assert any("model.yaml" in name for name in written)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_gradients_pass_through(model):
    groups = Y[0]
    (model(groups).Y_hat - groups).abs().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_saved_model_comes_back_in_its_dtype(tmp_path, dtype):
    model = GANUNMF(image_shape=(8, 8), m=5, k=2, width=4).to(dtype).eval()
    model.save(tmp_path / "model")
    loaded = GANUNMF.load(tmp_path / "model")
    for name, x in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], x) and loaded.state_dict()[name].dtype == x.dtype, name
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((10, 8, 8)).astype(np.float32))
    factors = factorize_images(tmp_path / "model", tmp_path / "images.npy", tmp_path / "out")
    assert factors.H.shape == (2, 64, 2) and np.isfinite(factors.Y_hat).all()
