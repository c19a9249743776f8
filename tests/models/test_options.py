"""Options of the generator beyond the paper: mixtures of images, and the W-solver's own."""

import pytest
import torch

from diffnmf.layers import NNLSLayer
from diffnmf.models import GANUNMF, Generator, GeneratorConfig
from diffnmf.models.mixture import ImageMixtures
from diffnmf.models.w_heads import nnls_layer
from diffnmf.runs import ModelConfig
from diffnmf.solvers import ConeProgram, CoordinateDescent, LeastSquaresHALS, ProjectedGradient

pytestmark = pytest.mark.usefixtures("one_thread")


class TestMixtures:
    def test_columns_are_mixtures_of_the_images(self):
        torch.manual_seed(0)
        mixtures = ImageMixtures(channels=3, k=4, m=6)
        Y = torch.rand(2, 20, 6)
        bottleneck = torch.randn(2, 3, 5, 5)
        H = mixtures(Y, bottleneck)
        A = torch.linalg.lstsq(Y, H).solution  # (2, 6, 4)
        assert A.min() > -1e-4
        torch.testing.assert_close(A.sum(1), torch.ones(2, 4), atol=1e-3, rtol=0)

    @pytest.mark.parametrize("k", [3, 8])
    def test_every_column_leans_towards_an_image_of_its_own(self, k):
        """From equal mixtures the columns would be one image, and the gradient could not tell them apart."""
        torch.manual_seed(0)
        Y = torch.eye(6)[None]
        A = ImageMixtures(channels=3, k=k, m=6)(Y, torch.randn(1, 3, 5, 5))[0]
        assert A.argmax(0).tolist() == [column % 6 for column in range(k)]
        assert A.max(0).values.min() > 0.5

    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    def test_the_generator_starts_from_them_and_learns_both_parts(self, w_solver):
        torch.manual_seed(0)
        generator = Generator(GeneratorConfig((8, 8), 6, 4, w_solver, width=8, mixture=True))
        Y = torch.rand(2, 64, 6)
        result = generator(Y)
        _, bottleneck = generator.unet(Y.mT.unflatten(-1, (8, 8)))
        start = generator.mixtures(Y, bottleneck)
        assert (result.H - start).abs().mean() < 0.3 * start.mean()
        (Y - result.Y_hat).abs().mean().backward()
        for part in (generator.mixtures, generator.unet):
            assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())

    def test_it_is_saved_with_the_model(self, tmp_path):
        model = GANUNMF((8, 8), 6, 4, width=8, mixture=True)
        model.save(tmp_path)
        Y = torch.rand(64, 6)
        assert torch.equal(GANUNMF.load(tmp_path).factorize(Y).H, model.factorize(Y).H)


class TestUpper:
    @pytest.mark.parametrize("basis_init", [None, "merge"])
    @pytest.mark.parametrize("upper", [0.1, 1.0])
    def test_with_columns_at_unit_norm_it_bounds_w(self, basis_init, upper):
        """Columns are scaled before W is solved for: no length moves into a W that is at its bound."""
        torch.manual_seed(0)
        model = GANUNMF((8, 8), 6, 4, width=8, unit_norm=True, upper=upper, basis_init=basis_init)
        Y = torch.rand(3, 64, 6)
        for refine in (0, 3):
            H, W, Y_hat = model.factorize(Y, refine=refine)
            assert W.max() <= upper
            torch.testing.assert_close(H.norm(dim=1), torch.ones(3, 4))
            torch.testing.assert_close(Y_hat, H @ W)


class TestWOptions:
    @pytest.mark.parametrize(
        ("options", "solver", "backward"),
        [
            ({"w_solver": "unrolled"}, ProjectedGradient(), "implicit"),
            ({"w_solver": "unrolled", "steps": 5}, ProjectedGradient(max_iter=5, finish=False), "unrolled"),
            ({"w_solver": "hals", "steps": 2}, CoordinateDescent(max_iter=2, finish=False), "unrolled"),
            ({"w_solver": "ls_hals", "steps": 7}, LeastSquaresHALS(sweeps=7), "unrolled"),
            ({"w_solver": "unrolled", "backward": "detached"}, ProjectedGradient(), "detached"),
            ({"w_solver": "cvxpylayer_loose"}, ConeProgram.loose(), "implicit"),
        ],
    )
    def test_names_and_options_make_the_layer(self, options, solver, backward):
        layer = nnls_layer(**options)
        assert isinstance(layer, NNLSLayer)
        assert (layer.solver, layer.backward_mode) == (solver, backward)

    def test_the_penalty_reaches_the_layer(self):
        torch.manual_seed(0)
        plain = GANUNMF((8, 8), 6, 4, width=8, unit_norm=True)
        penalised = GANUNMF((8, 8), 6, 4, width=8, unit_norm=True, l1=0.5)
        penalised.load_state_dict(plain.state_dict())
        Y = torch.rand(64, 6)
        assert penalised.factorize(Y).W.sum() < plain.factorize(Y).W.sum()

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"w_solver": "bpp", "w_steps": 5}, ValueError, "w_steps: expected none for w_solver 'bpp'"),
            ({"w_steps": 0}, ValueError, "w_steps: expected an int ≥ 1; got 0"),
            ({"w_steps": 5, "w_backward": "implicit"}, ValueError, 'w_backward: expected "unrolled" or'),
            (
                {"w_solver": "bpp", "w_backward": "unrolled"},
                ValueError,
                "w_backward: expected none for the steps of w_solver 'bpp'",
            ),
            (
                {"w_solver": "cvxpylayer_loose", "w_backward": "unrolled"},
                ValueError,
                "w_backward: expected none for the steps of w_solver 'cvxpylayer_loose'",
            ),
            (
                {"w_backward": "none"},
                ValueError,
                "^w_backward: expected one of detached, implicit, unrolled; got 'none'",
            ),
            ({"w_solver": "fc", "w_steps": 5}, ValueError, "w_steps, w_backward, l1: expected none for w_solver 'fc'"),
            ({"l1": 0.1}, ValueError, "l1: expected unit_norm with it"),
            ({"l1": -0.1, "unit_norm": True}, ValueError, "l1: expected a finite number"),
            ({"w_solver": "x"}, ValueError, "w_solver: expected one of .*cvxpylayer_loose.*; got 'x'"),
        ],
    )
    def test_options_that_do_not_fit_are_named(self, options, error, message):
        with pytest.raises(error, match=message):
            ModelConfig(k=3, **options)
        with pytest.raises(error, match=message):
            GeneratorConfig((8, 8), 6, 3, **options)

    def test_the_gradient_mode_reaches_the_basis(self):
        """Detached and implicit give the same W and, under L1, different gradients for H."""
        torch.manual_seed(0)
        implicit = GANUNMF((8, 8), 6, 3, width=8)
        detached = GANUNMF((8, 8), 6, 3, width=8, w_backward="detached")
        detached.load_state_dict(implicit.state_dict())
        Y = torch.rand(2, 64, 6)
        gradients = []
        for model in (implicit, detached):
            result = model(Y)
            (Y - result.Y_hat).abs().mean().backward()
            gradients.append(model.generator.unet.head.weight.grad)
        assert torch.equal(implicit.factorize(Y).W, detached.factorize(Y).W)
        assert (gradients[0] - gradients[1]).norm() > 1e-3 * gradients[0].norm()
