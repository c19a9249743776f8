"""The U-Net and the critic: any image size, no batch statistics."""

import pytest
import torch
from torch import nn

from diffnmf.models import Critic, UNet
from diffnmf.models.blocks import _averages

SIZES = [(8, 8), (28, 28), (64, 64), (5, 7), (1, 1), (30, 17), (1, 9)]


def unet(shape, m=3, k=2, width=16, **options):
    torch.manual_seed(0)
    return UNet(m, k, shape, width, **options)


class TestUNet:
    @pytest.mark.parametrize("shape", SIZES)
    @pytest.mark.parametrize("batch", [1, 2])
    def test_maps_have_the_size_of_the_images(self, shape, batch):
        model = unet(shape)
        maps, bottleneck = model(torch.rand(batch, 3, *shape))
        assert maps.shape == (batch, 2, *shape)
        # Rounded up: what padding makes divisible.
        small = tuple(-(-side // 2**model.depth) for side in shape)
        assert bottleneck.shape == (batch, model.bottleneck_channels, *small)
        assert maps.isfinite().all()

    @pytest.mark.parametrize(
        ("shape", "depth"), [((8, 8), 1), ((28, 28), 2), ((64, 64), 4), ((5, 7), 0), ((1, 1), 0), ((30, 17), 2)]
    )
    def test_depth_follows_the_image_size(self, shape, depth):
        assert unet(shape).depth == depth

    @pytest.mark.parametrize(("shape", "padded"), [((30, 17), (32, 20)), ((5, 7), (8, 8)), ((29, 31), (32, 32))])
    def test_any_size_is_the_padded_one_cropped(self, shape, padded):
        model = unet(shape, depth=2)
        images = torch.rand(2, 3, *shape)
        canvas = torch.zeros(2, 3, *padded)
        canvas[..., : shape[0], : shape[1]] = images
        maps, _ = model(images)
        expected, _ = model(canvas)
        torch.testing.assert_close(maps, expected[..., : shape[0], : shape[1]])

    @pytest.mark.parametrize(("shape", "depth"), [((3, 9), 4), ((28, 28), 5), ((1, 2), 1), ((1, 1), 0)])
    def test_the_deepest_ends_in_a_pixel(self, shape, depth):
        maps, bottleneck = unet(shape, depth=depth)(torch.rand(1, 3, *shape))
        assert maps.shape == (1, 2, *shape) and bottleneck.shape[-2:] == (1, 1)

    @pytest.mark.parametrize("depth", [0, 1, 3])
    def test_depth_may_be_chosen(self, depth):
        model = unet((8, 8), depth=depth)
        maps, bottleneck = model(torch.rand(2, 3, 8, 8))
        assert model.depth == depth
        assert maps.shape == (2, 2, 8, 8)
        assert bottleneck.shape[-2:] == (8 >> depth, 8 >> depth)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 2)])
    @pytest.mark.parametrize("width", [1, 2, 3, 8])
    def test_narrow_ones_take_a_single_group_of_tiny_images(self, shape, width):
        maps, _ = unet(shape, width=width)(torch.rand(1, 3, *shape))
        assert maps.shape == (1, 2, *shape)

    def test_deepest_of_narrow_ones_takes_a_single_group(self):
        maps, _ = unet((8, 8), width=2, depth=3)(torch.rand(1, 3, 8, 8))
        assert maps.shape == (1, 2, 8, 8)

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"shape": (8,)}, ValueError, r"image_shape: expected \(height, width\); got \(8,\)"),
            ({"shape": (8, 0)}, ValueError, r"image_shape: expected an int ≥ 1; got 0"),
            ({"m": 0}, ValueError, r"in_channels: expected an int ≥ 1; got 0"),
            ({"k": -1}, ValueError, r"out_channels: expected an int ≥ 1; got -1"),
            ({"width": 0}, ValueError, r"width: expected an int ≥ 1; got 0"),
            ({"depth": -1}, ValueError, r"depth: expected an int ≥ 0; got -1"),
            ({"depth": 1.0}, TypeError, r"depth: expected an int ≥ 0; got 1\.0"),
            (
                {"depth": 4},
                ValueError,
                r"depth: expected an int from 0 to 3 for images of 8 × 8, .*; got 4 \(leave .* 1 is",
            ),
            (
                {"shape": (3, 9), "depth": 5},
                ValueError,
                r"depth: expected an int from 0 to 4 for images of 3 × 9, .* 0 is",
            ),
            ({"shape": (1, 1), "depth": 1}, ValueError, r"depth: expected an int from 0 to 0 for images of 1 × 1"),
        ],
    )
    def test_errors_name_the_argument(self, changes, error, message):
        with pytest.raises(error, match=message):
            unet(**{"shape": (8, 8), **changes})


class TestCritic:
    @pytest.mark.parametrize(
        ("shape", "logits"),
        [
            ((8, 8), (4, 4)),
            ((28, 28), (7, 7)),
            ((64, 64), (4, 4)),
            ((5, 7), (5, 7)),
            ((1, 1), (1, 1)),
            ((30, 17), (7, 4)),
        ],
    )
    def test_a_map_of_logits(self, shape, logits):
        critic = Critic(shape, m=3, width=8)
        Y = torch.rand(2, shape[0] * shape[1], 3)
        assert critic(torch.rand_like(Y), Y).shape == (2, 1, *logits)

    def test_sees_the_candidate_then_the_source_as_images(self):
        critic = Critic((5, 7), m=3, width=8)
        assert critic.layers[0].in_channels == 6
        seen = []
        critic.layers.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        candidate, Y = torch.rand(2, 35, 3), torch.rand(2, 35, 3)
        critic(candidate, Y)
        (pair,) = seen
        assert pair.shape == (2, 6, 5, 7)
        for column in range(3):
            assert torch.equal(pair[1, column], candidate[1, :, column].reshape(5, 7))
            assert torch.equal(pair[1, 3 + column], Y[1, :, column].reshape(5, 7))

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (((8, 8), 0, 4), ValueError, "m: expected an int ≥ 1; got 0"),
            (((8, 8), 2.0, 4), TypeError, r"m: expected an int ≥ 1; got 2\.0"),
            (((8, 8), 2, 0), ValueError, "width: expected an int ≥ 1; got 0"),
            ((8, 2, 4), TypeError, r"image_shape: expected \(height, width\); got 8"),
        ],
    )
    def test_errors_name_the_argument(self, arguments, error, message):
        with pytest.raises(error, match=message):
            Critic(*arguments)


class TestNoBatchStatistics:
    """A group is one sample: nothing may leak from the other groups of a batch, nor differ between train and eval."""

    @staticmethod
    def models(shape):
        torch.manual_seed(0)
        network = UNet(3, 2, shape, 16).double()
        critic = Critic(shape, 3, 8).double()
        return [
            (network, lambda Y: network(Y.mT.unflatten(-1, shape))[0]),
            (critic, lambda Y: critic(Y.square(), Y)),
        ]

    @pytest.mark.parametrize("shape", [(8, 8), (30, 17), (1, 1)])
    def test_nothing_is_kept_between_batches(self, shape):
        for model, _ in self.models(shape):
            assert not [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
            assert not list(model.buffers())

    @pytest.mark.parametrize("shape", [(8, 8), (30, 17), (1, 1)])
    def test_a_group_does_not_depend_on_its_neighbours(self, shape):
        Y = torch.rand(3, shape[0] * shape[1], 3, dtype=torch.float64)
        crowded = torch.cat((1000 * torch.rand_like(Y), Y))
        for _, call in self.models(shape):
            alone = torch.cat([call(Y[i : i + 1]) for i in range(3)])
            torch.testing.assert_close(call(crowded)[3:], alone, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("shape", [(8, 8), (1, 1)])
    def test_train_and_eval_agree(self, shape):
        Y = torch.rand(2, shape[0] * shape[1], 3, dtype=torch.float64)
        for model, call in self.models(shape):
            model.train()
            call(100 * Y)  # would move running statistics
            trained = call(Y)
            model.eval()
            assert torch.equal(call(Y), trained)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 4), (7, 7), (9, 16)])
def test_the_pool_of_other_devices_is_that_of_the_cpu(shape):
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = (_averages(length, 4, x.dtype, x.device) for length in shape)
    torch.testing.assert_close(rows @ x @ columns.mT, torch.nn.functional.adaptive_avg_pool2d(x, 4))
