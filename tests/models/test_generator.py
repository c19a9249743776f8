"""The generator: shapes, non-negativity, every W-solver, dead columns, errors."""

import pytest
import torch
from torch import nn

from diffnmf import nnls
from diffnmf.layers import NNLSLayer
from diffnmf.models import W_SOLVERS, FullyConnectedWeights, Generator, GeneratorConfig, NNLSWeights, make_w_head
from diffnmf.solvers import SOLVERS, ProjectedGradient

SHAPE, N, M, K = (5, 7), 35, 4, 3


pytestmark = pytest.mark.usefixtures("one_thread")


def generator(w_solver="unrolled", *, own=None, shape=SHAPE, m=M, k=K, width=16, **options):
    """With the W-solver of that name, or with one's own solver or layer."""
    torch.manual_seed(0)
    return Generator(GeneratorConfig(shape, m=m, k=k, w_solver=w_solver, width=width, **options), own)


def group(batch=2, n=N, m=M, seed=0):
    return torch.rand(batch, n, m, generator=torch.Generator().manual_seed(seed))


def assert_factorization(result, Y, k=K):
    assert result.H.shape == (*Y.shape[:2], k)
    assert result.W.shape == (len(Y), k, Y.shape[2])
    for part in result:
        assert part.isfinite().all()
        assert (part >= 0).all()
        assert part.dtype == Y.dtype
    assert torch.equal(result.Y_hat, result.H @ result.W)


class TestForward:
    @pytest.mark.parametrize("shape", [(8, 8), (28, 28), (64, 64), (5, 7), (1, 1), (30, 17)])
    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    def test_any_image_size(self, shape, w_solver):
        Y = group(n=shape[0] * shape[1])
        assert_factorization(generator(w_solver, shape=shape)(Y), Y)

    @pytest.mark.parametrize("w_solver", W_SOLVERS)
    def test_every_w_solver(self, w_solver):
        Y = group()
        model = generator(w_solver)
        result = model(Y)
        assert_factorization(result, Y)
        assert result.W.any()
        result.Y_hat.sub(Y).abs().mean().backward()
        gradients = [parameter.grad for parameter in model.unet.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)

    @pytest.mark.parametrize("w_solver", SOLVERS)
    def test_nnls_weights_are_those_of_the_predicted_basis(self, w_solver):
        Y = group()
        result = generator(w_solver)(Y)
        torch.testing.assert_close(result.W, nnls(result.H, Y).W, rtol=1e-4, atol=1e-5)

    def test_all_nnls_solvers_are_given_the_same_basis(self):
        Y = group()
        bases = [generator(w_solver)(Y).H for w_solver in W_SOLVERS if w_solver != "fc"]
        assert all(torch.equal(H, bases[0]) for H in bases)

    @pytest.mark.parametrize(("m", "k"), [(1, 1), (1, 3), (4, 1), (3, 40)])
    def test_one_image_one_component_and_more_components_than_pixels(self, m, k):
        Y = group(m=m)
        assert_factorization(generator(m=m, k=k)(Y), Y, k)

    def test_a_basis_can_be_reached_by_any_column(self):
        """The start is on the positive side of the ReLU: no column is dead, and they are not copies of one another."""
        H = generator(shape=(8, 8), m=40, k=10, width=96)(group(n=64, m=40)).H
        assert H.any(dim=1).all()
        unit = nn.functional.normalize(H, dim=1)
        cosines = (unit.mT @ unit).tril(-1)
        assert cosines.max() < 0.99

    def test_pixels_keep_their_place(self):
        """Column j of Y enters as channel j, row by row; channel i of the maps becomes column i of H."""

        class Recorder(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(()))  # whose dtype Y has to have

            def forward(self, images):
                self.images = images
                return images - 0.5, images

        model = generator(k=M)
        model.unet = recorder = Recorder()
        Y = group()
        H = model(Y).H
        for column in range(M):
            assert torch.equal(recorder.images[1, column], Y[1, :, column].reshape(SHAPE))
        assert torch.equal(H, (Y - 0.5).relu())

    def test_groups_do_not_see_each_other(self):
        model = generator().double()
        Y = group(3).double()
        crowded = model(torch.cat((1000 * Y, Y)))
        for i in range(3):
            alone = model(Y[i : i + 1])
            for part, expected in zip(crowded, alone, strict=True):
                torch.testing.assert_close(part[3 + i], expected[0], rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    def test_train_and_eval_agree(self, w_solver):
        model, Y = generator(w_solver), group()
        trained = model.train()(Y)
        for part, expected in zip(model.eval()(Y), trained, strict=True):
            assert torch.equal(part, expected)

    def test_unit_norm(self):
        Y = group()
        free, scaled = generator()(Y), generator(unit_norm=True)(Y)
        torch.testing.assert_close(scaled.H.norm(dim=1), torch.ones(2, K))
        torch.testing.assert_close(scaled.H, nn.functional.normalize(free.H, dim=1))
        torch.testing.assert_close(scaled.Y_hat, free.Y_hat, rtol=1e-4, atol=1e-5)  # the norm moves into W


class TestWHead:
    def test_a_solver_instance(self):
        solver = ProjectedGradient(max_iter=3, finish=False)
        model = generator(own=solver)
        assert model.w_head.layer.solver is solver

    def test_a_layer_is_taken_with_its_options(self):
        layer = NNLSLayer(ridge=5.0, backward="detached")
        model, Y = generator(own=layer), group()
        assert model.w_head.layer is layer
        result = model(Y)
        assert_factorization(result, Y)
        assert not result.W.requires_grad
        torch.testing.assert_close(result.W, nnls(result.H, Y, ridge=5.0).W)
        assert (result.W - nnls(result.H, Y).W).abs().max() > 1e-2

    def test_kinds(self):
        assert isinstance(make_w_head("fc", channels=4, k=2, m=3), FullyConnectedWeights)
        assert all(isinstance(make_w_head(name, channels=4, k=2, m=3), NNLSWeights) for name in SOLVERS)
        assert set(W_SOLVERS) == {*SOLVERS, "cvxpylayer_loose", "fc"}

    def test_fc_does_not_look_at_the_basis(self):
        head = make_w_head("fc", channels=4, k=2, m=3)
        bottleneck, Y = torch.rand(2, 4, 6, 6), torch.rand(2, 9, 3)
        W = head(torch.rand(2, 9, 2), Y, bottleneck)
        assert W.shape == (2, 2, 3)
        assert torch.equal(head(torch.rand(2, 9, 2), Y, bottleneck), W)
        assert not torch.equal(head(torch.rand(2, 9, 2), Y, 10 * bottleneck), W)

    @pytest.mark.parametrize("name", ["nope", "", "FC", None, 3, ProjectedGradient()])
    def test_unknown_names_list_the_known_ones(self, name):
        error = ValueError if isinstance(name, str) else TypeError
        with pytest.raises(error, match="w_solver: expected one of") as caught:
            generator(name)
        assert all(known in str(caught.value) for known in W_SOLVERS)
        assert repr(name) in str(caught.value)

    @pytest.mark.parametrize("other", [3, ProjectedGradient])
    def test_other_types_in_the_place_of_a_solver(self, other):
        with pytest.raises(TypeError, match="w_solver: expected a name, a solver or an NNLSLayer; got"):
            generator(own=other)

    def test_a_solver_of_ones_own_decides_whether_maps_are_normalised(self):
        """As what is used needs it, not as the name that it replaces."""
        assert isinstance(generator("fc").unet.map_norm, nn.GroupNorm)
        assert isinstance(generator("fc", own=ProjectedGradient()).unet.map_norm, nn.Identity)


class TestDeadColumns:
    @staticmethod
    def kill(model, columns):
        with torch.no_grad():
            model.unet.head.weight[columns] = 0
            model.unet.head.bias[columns] = -1e6

    @pytest.mark.parametrize("unit_norm", [False, True])
    @pytest.mark.parametrize("w_solver", W_SOLVERS)
    @pytest.mark.parametrize("columns", [[1], [0, 1, 2]], ids=["one", "all"])
    def test_break_nothing(self, w_solver, columns, unit_norm):
        model, Y = generator(w_solver, unit_norm=unit_norm), group()
        self.kill(model, columns)
        result = model(Y)
        assert_factorization(result, Y)
        assert not result.H[..., columns].any()
        result.Y_hat.sub(Y).abs().mean().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        assert not model.unet.head.bias.grad[columns].any()

    def test_the_living_ones_fit_as_without_it(self):
        model, Y = generator(), group()
        self.kill(model, [1])
        result = model(Y)
        living = result.H[..., [0, 2]]
        torch.testing.assert_close(result.Y_hat, living @ nnls(living, Y).W, rtol=1e-4, atol=1e-5)

    def test_black_images(self):
        model, Y = generator(), torch.zeros(2, N, M)
        result = model(Y)
        assert_factorization(result, Y)
        assert not result.Y_hat.any()
        result.Y_hat.sub(Y).abs().mean().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"k": 0}, ValueError, "^k: expected an int ≥ 1; got 0"),
            ({"k": -2}, ValueError, "^k: expected an int ≥ 1; got -2"),
            ({"k": 2.0}, TypeError, r"^k: expected an int ≥ 1; got 2\.0"),
            ({"k": True}, TypeError, "^k: expected an int ≥ 1; got True"),
            ({"m": 0}, ValueError, "^m: expected an int ≥ 1; got 0"),
            ({"m": "4"}, TypeError, "^m: expected an int ≥ 1; got '4'"),
            ({"shape": (8, -1)}, ValueError, "^image_shape: .* got -1"),
            ({"shape": 8}, TypeError, r"^image_shape: expected \(height, width\); got 8"),
            ({"width": 0}, ValueError, "^width: expected an int ≥ 1; got 0"),
            ({"depth": -1}, ValueError, "^depth: expected an int ≥ 0; got -1"),
            ({"depth": 1.0}, TypeError, r"^depth: expected an int ≥ 0; got 1\.0"),
            ({"depth": 100}, ValueError, r"^depth: expected an int from 0 to 3 for images of 5 × 7, .* got 100"),
            ({"unit_norm": "no"}, TypeError, "^unit_norm: expected True or False; got 'no'"),
            ({"normalize_maps": 1}, TypeError, "^normalize_maps: expected True or False; got 1"),
            ({"mixture": None}, TypeError, "^mixture: expected True or False; got None"),
        ],
    )
    def test_arguments(self, changes, error, message):
        with pytest.raises(error, match=message):
            generator(**changes)

    @pytest.mark.parametrize("shape", [(N, M), (2, N, M + 1), (2, N - 1, M), (2, M, N), (1, 2, N, M), (2, *SHAPE, M)])
    def test_wrong_shapes_of_Y(self, shape):
        with pytest.raises(ValueError, match=r"^Y: expected \(B, n, m\) = \(B, 35, 4\)") as caught:
            generator()(torch.rand(shape))
        assert str(tuple(shape)) in str(caught.value)


class TestFullyConnected:
    """It does not look at H, so nothing but these normalisations keeps the L1 loss from driving HW to black."""

    def test_starts_in_the_range_of_pixels(self):
        torch.manual_seed(0)
        Y_hat = Generator(GeneratorConfig((28, 28), m=40, k=30, w_solver="fc"))(torch.rand(2, 784, 40) ** 8).Y_hat
        assert 0.05 < Y_hat.mean() < 0.6

    @pytest.mark.parametrize("layer", ["unet.head", "w_head.layers.4"])
    def test_darkening_everything_at_once_changes_nothing(self, layer):
        model, Y = generator("fc"), group()
        before = model(Y)
        with torch.no_grad():
            model.get_submodule(layer).bias -= 10.0
        after = model(Y)
        for old, new in zip(before, after, strict=True):
            torch.testing.assert_close(old, new, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("sizes", [{"shape": (1, 1)}, {"k": 1, "m": 1}])
    def test_where_there_is_nothing_to_normalise_with(self, sizes):
        model = generator("fc", **sizes)
        n = model.image_shape[0] * model.image_shape[1]
        assert model(torch.rand(1, n, model.m)).Y_hat.isfinite().all()

    def test_learns_dark_images(self):
        """Thin strokes on black: the same start without normalisation is black after 40 steps."""
        torch.manual_seed(0)
        images = (torch.rand(64, 1, 5, 5) > 0.9).float()
        groups = torch.nn.functional.interpolate(images, (12, 12)).flatten(1).reshape(16, 4, 144).mT  # (16, n, m)
        model = Generator(GeneratorConfig((12, 12), m=4, k=3, w_solver="fc", width=16))
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(60):
            loss = (model(groups).Y_hat - groups).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        result = model(groups)
        assert (result.Y_hat - groups).abs().mean() < 0.8 * groups.mean()  # black scores groups.mean()
        assert (result.H.amax(dim=(0, 1)) > 0).all()


def test_a_dead_column_of_unit_norm_stays_zero_in_half_precision():
    generator = Generator(GeneratorConfig((8, 8), m=6, k=3, width=8, unit_norm=True))
    with torch.no_grad():
        generator.unet.head.weight[1], generator.unet.head.bias[1] = 0, -1
    result = generator.half()(torch.rand(2, 64, 6).half())
    assert result.H[..., 1].eq(0).all() and result.Y_hat.isfinite().all()
