"""Generators that begin at a classical factorisation."""

from itertools import pairwise

import pytest
import torch
from helpers import REAL_DATA, needs_data

from diffnmf.data import GroupSampler, group_matrix, load_dataset
from diffnmf.factorization import factorize, match_slots, merge, spa
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import relative_error, slot_consistency
from diffnmf.models import GANUNMF, Generator, GeneratorConfig
from diffnmf.models.basis_start import BASIS_INITS, BasisStart
from diffnmf.models.w_heads import W_SOLVERS
from diffnmf.runs import ModelConfig

pytestmark = pytest.mark.usefixtures("one_thread")
M, K = 10, 4


@pytest.fixture(scope="module")
def Y():
    digits = load_dataset("digits").test
    return group_matrix(digits, GroupSampler(digits, M, seed=0).epoch(0)[:6])


@pytest.fixture(scope="module")
def training_groups():
    digits = load_dataset("digits").train
    return group_matrix(digits, GroupSampler(digits, M, seed=0).epoch(0)[:20])


def model(training_groups=None, **options):
    torch.manual_seed(0)
    made = GANUNMF((8, 8), M, K, width=8, **{"basis_init": "merge", **options})
    if training_groups is not None:
        made.generator.set_slots(training_groups)
    return made


class TestBeforeTheFirstStep:
    @pytest.mark.parametrize("w_solver", W_SOLVERS)
    @pytest.mark.parametrize("unit_norm", [False, True])
    @pytest.mark.parametrize("normalize_maps", [False, True])
    def test_the_error_is_that_of_merging(self, Y, training_groups, w_solver, unit_norm, normalize_maps):
        options = {"w_solver": w_solver, "unit_norm": unit_norm, "normalize_maps": normalize_maps}
        result = model(training_groups, **options).factorize(Y)
        H, W = merge(Y, K)
        merged = relative_error(Y, H @ W)
        inexact = 0.01 if w_solver in ("ls_hals", "cvxpylayer_loose") else 1e-5
        assert (relative_error(Y, result.Y_hat) <= merged + inexact).all()
        if w_solver == "fc":  # which takes the weights of merging, too; exact ones are a little better
            torch.testing.assert_close(relative_error(Y, result.Y_hat), merged, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("steps", [1, 5])
    def test_truncated_solvers_begin_at_the_weights_of_the_start(self, Y, steps):
        merged = relative_error(Y, torch.matmul(*merge(Y, K)))
        assert (relative_error(Y, model(w_steps=steps).factorize(Y).Y_hat) <= merged + 1e-5).all()

    @pytest.mark.parametrize("basis_init", BASIS_INITS)
    def test_the_basis_is_that_of_the_method_with_a_maximum_of_one(self, Y, basis_init):
        H = model(basis_init=basis_init).factorize(Y).H
        expected = merge(Y, K)[0] if basis_init == "merge" else spa(Y, K)
        torch.testing.assert_close(H, expected / expected.amax(1, keepdim=True))

    @pytest.mark.parametrize("basis_init", BASIS_INITS)
    def test_more_components_than_the_rank(self, basis_init):
        flat = torch.ones(2, 64, M)
        result = model(basis_init=basis_init).factorize(flat)
        assert result.H.isfinite().all()
        torch.testing.assert_close(result.Y_hat, flat, atol=1e-3, rtol=0)
        assert model(basis_init=basis_init).factorize(0 * flat).Y_hat.abs().max() == 0


class TestSlots:
    def test_components_stand_in_the_order_of_the_prototypes(self, Y, training_groups):
        ordered, plain = model(training_groups), model()
        H = ordered.factorize(Y).H
        assert (match_slots(H, ordered.generator.start.prototypes) == torch.arange(K)).all()
        assert slot_consistency(H).unmatched > slot_consistency(plain.factorize(Y).H).unmatched + 0.02
        torch.testing.assert_close(ordered.factorize(Y).Y_hat, plain.factorize(Y).Y_hat, rtol=0, atol=1e-5)

    def test_the_order_of_the_images_does_not_matter_much(self, Y, training_groups):
        """The same parts in the same slots; the steps after the merging go through them in another order."""
        ordered = model(training_groups)
        torch.testing.assert_close(ordered.factorize(Y).H, ordered.factorize(Y.flip(-1)).H, rtol=0, atol=0.1)

    def test_prototypes_are_saved_with_the_model(self, Y, training_groups, tmp_path):
        saved = model(training_groups)
        saved.save(tmp_path)
        loaded = GANUNMF.load(tmp_path)
        assert loaded.config.basis_init == "merge"
        assert torch.equal(loaded.generator.start.prototypes, saved.generator.start.prototypes)
        assert torch.equal(loaded.factorize(Y).H, saved.factorize(Y).H)

    def test_groups_of_another_size_are_refused(self):
        with pytest.raises(ValueError, match=r"Y: expected \(B, n, m\) = \(B, 64, 10\)"):
            model().generator.set_slots(torch.rand(3, 64, 9))
        model(basis_init=None).generator.set_slots(torch.rand(3, 64, 9))  # has no slots


class TestLearning:
    @pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
    def test_every_parameter_learns_and_the_start_carries_no_gradient(self, Y, training_groups, w_solver):
        generator = model(training_groups, w_solver=w_solver).generator
        before = {name: value.clone() for name, value in generator.state_dict().items()}
        optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
        errors = []
        for _ in range(30):
            Y_hat = generator(Y.clone().requires_grad_()).Y_hat
            errors.append((Y - Y_hat).abs().mean())
            optimizer.zero_grad()
            errors[-1].backward()
            optimizer.step()
        assert errors[-1] < 0.98 * errors[0]
        after = generator.state_dict()
        unmoved = [name for name, value in before.items() if torch.equal(value, after[name])]
        assert unmoved == ["start.prototypes"]
        assert not any(part.requires_grad for part in generator.start(Y.clone().requires_grad_()))

    def test_models_that_were_saved_before_load(self, Y, tmp_path):
        """Their files know nothing of this option."""
        saved = model(basis_init=None)
        saved.save(tmp_path)
        file = tmp_path / "model.yaml"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not line.startswith("basis_init")), encoding="utf-8")
        assert torch.equal(GANUNMF.load(tmp_path).factorize(Y).H, saved.factorize(Y).H)

    def test_without_it_nothing_has_changed(self):
        """The weights have the names that they had."""
        names = list(Generator(GeneratorConfig((8, 8), M, K, width=8)).state_dict())
        assert not [name for name in names if "start" in name or "slot_head" in name]
        assert GeneratorConfig((8, 8), M, K).basis_init is None

    def test_in_bfloat16_the_start_is_exact(self, Y):
        generator = model().generator
        with torch.autocast("cpu", dtype=torch.bfloat16):
            H, W, Y_hat = generator(Y)
        assert H.dtype == W.dtype == Y_hat.dtype == torch.float32
        torch.testing.assert_close(Y_hat, generator(Y).Y_hat, rtol=0, atol=1e-5)


class TestRefine:
    @pytest.mark.parametrize("options", [{}, {"unit_norm": True}, {"basis_init": None}, {"w_solver": "fc"}])
    def test_rounds_of_hals_lower_the_error(self, Y, options):
        made = model(**options)
        errors = [relative_error(Y, made.factorize(Y, refine=rounds).Y_hat).mean() for rounds in (0, 1, 5, 20)]
        assert errors[0] > errors[1] > errors[2] > errors[3]
        H, W, Y_hat = made.factorize(Y[0], refine=3)
        torch.testing.assert_close(Y_hat, H @ W)
        if options.get("unit_norm"):
            torch.testing.assert_close(H.norm(dim=0), torch.ones(K))

    def test_they_obey_the_bound_of_the_model(self, Y):
        made, errors = model(upper=0.4), []
        for rounds in (0, 1, 5):
            H, W, Y_hat = made.factorize(Y, refine=rounds)
            assert H.max() <= 0.4 and W.max() <= 0.4 and min(H.min(), W.min()) >= 0
            torch.testing.assert_close(Y_hat, H @ W)
            errors.append(relative_error(Y, Y_hat).mean())
        assert errors[0] > errors[1] > errors[2]

    @pytest.mark.parametrize("upper", [0.3, 1.0])
    def test_no_group_is_worse_for_them(self, Y, upper):
        """Under a bound of W unit columns of H cannot be what the weights before were solved for."""
        made = model(upper=upper, unit_norm=True)
        errors = [relative_error(Y, made.factorize(Y, refine=rounds).Y_hat) for rounds in (0, 1, 2, 10)]
        assert all((after <= before + 1e-6).all() for before, after in pairwise(errors))

    def test_they_are_those_of_factorize(self, Y):
        made = model()
        start = made.factorize(Y)
        expected = factorize(Y, K, H0=start.H, W0=start.W, max_iter=4, tol=0.0)
        assert torch.equal(made.factorize(Y, refine=4).H, expected.H)

    def test_a_number_of_rounds_is_expected(self, Y):
        with pytest.raises(ValueError, match="refine: expected an int ≥ 0; got -1"):
            model().factorize(Y, refine=-1)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"basis_init": "random"}, "basis_init: expected one of merge, spa; got 'random'"),
            ({"mixture": True, "basis_init": "spa"}, "basis_init: expected none with mixture"),
        ],
    )
    def test_options_that_do_not_fit_are_named(self, options, message):
        for make in (ModelConfig, lambda **given: GeneratorConfig((8, 8), M, 3, **given)):
            with pytest.raises(ValueError, match=message):
                make(**options)

    def test_more_components_than_there_are_to_begin_with(self):
        with pytest.raises(ValueError, match="basis_init: expected at most k = m = 10 for 'spa'.*got k = 11"):
            GeneratorConfig((8, 8), M, 11, basis_init="spa")
        with pytest.raises(
            ValueError, match=r"basis_init: expected at most k = max\(n, m\) = 64 for 'merge'.*got k = 65"
        ):
            GeneratorConfig((8, 8), M, 65, basis_init="merge")
        GANUNMF((8, 8), M, 12, width=8, basis_init="merge").factorize(torch.rand(64, M))  # pixels are merged


@needs_data
def test_on_mnist():
    """The error of merging, k = 30, and slots that keep their part."""
    split = load_dataset("mnist", data_dir=REAL_DATA)
    train, Y = (
        group_matrix(images, GroupSampler(images, 40, seed=0).epoch(0)[:32]) for images in (split.train, split.test)
    )
    made = GANUNMF((28, 28), 40, 30, basis_init="merge")
    made.generator.set_slots(train)
    result = made.factorize(Y)
    merged = relative_error(Y, torch.matmul(*merge(Y, 30))).mean()
    assert relative_error(Y, result.Y_hat).mean() == pytest.approx(merged.item(), rel=2e-3)
    assert slot_consistency(result.H).unmatched > 0.55
    exact = NNLSLayer(backward="detached")(result.H, Y)
    torch.testing.assert_close(result.W, exact, rtol=1e-3, atol=1e-4)


def test_the_start_is_a_module_by_itself():
    start = BasisStart("merge", 6, 2)
    Y = torch.rand(3, 6, 5)
    H, W, lacks = start(Y)
    assert (H.shape, W.shape, lacks.shape) == ((3, 6, 2), (3, 2, 5), (3, 6, 2))
    torch.testing.assert_close(H.amax(1), torch.ones(3, 2))
    better = H.clone()  # what a column lacks leads to its best fit, the others held
    better[:, :, 1] += lacks[:, :, 1]
    residual = Y - better @ W
    torch.testing.assert_close(residual @ W[:, 1].unsqueeze(-1), torch.zeros(3, 6, 1), atol=1e-5, rtol=0)
