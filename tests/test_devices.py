"""The contracts of the layer, the factorisation and the model on every device that is here: CUDA where there is one.

On the CPU the contract tests of each part say more; these are what has to hold on a GPU as well, against the CPU.
"""

import warnings

import pytest
import torch
from helpers import EVERY, EXACT_TO_ROUNDING, TRANSFORMABLE, layer_of
from nnls_problems import kkt, random_problem, with_condition
from sklearn.base import clone

from diffnmf import NMF, MiniBatchNMF, nnls
from diffnmf.data import GroupSampler, ImageSet
from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import HALS, METHODS, MU, consensus, cross_validate_rank, factorize
from diffnmf.factorization.hals import sweep_
from diffnmf.factorization.initialization import INITS
from diffnmf.factorization.svd import AT_ONCE, singular_triplets
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import summarize
from diffnmf.models import GANUNMF, Generator, GeneratorConfig

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device that torch sees")
)
pytestmark = pytest.mark.usefixtures("one_thread")
DTYPES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
RIVAL = "cvxpylayer"  # on the CPU by its nature


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    return torch.device(request.param)


def assert_near(value, expected, tolerance):
    assert value.isnan().equal(expected.isnan().to(value.device))
    value, expected = value.detach().cpu().double().nan_to_num(), expected.detach().cpu().double().nan_to_num()
    assert (value - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-300)


def solved(layer, H, Y, device, **options):
    """W and the gradients towards H and Y, which are on the device."""
    H, Y = (x.to(device).requires_grad_() for x in (H, Y))
    W = layer(H, Y, **options)
    assert W.device.type == H.device.type
    return W, *torch.autograd.grad(W.nan_to_num().double().square().sum(), (H, Y))


class TestWhatTheLibraryLeansOn:
    """Of torch on a device; where one of these fails, what to mend is above it."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_powers_of_two_are_exact(self, device, dtype):
        """Units are such powers: ``solvers/ranges.py`` and ``nmf_problem.py``."""
        exponent = torch.arange(*(-1000, 1001) if dtype == torch.float64 else (-120, 121))
        expected = torch.tensor([2.0**e for e in exponent.tolist()], dtype=dtype)
        assert torch.equal(torch.exp2(exponent.to(device, dtype)).cpu(), expected)
        assert torch.equal(
            torch.ldexp(torch.ones(len(exponent), dtype=dtype).to(device), exponent.to(device)).cpu(), expected
        )

    def test_eigenvectors_of_many_matrices(self, device):
        """``svd.AT_ONCE`` of them at a time; of starts and PCA."""
        A = torch.rand(2 * AT_ONCE + 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
            device
        )
        _, _, V = singular_triplets(A, 3)
        assert_near(V.mT @ V, torch.eye(3, dtype=torch.float64).expand(len(V), 3, 3), 1e-10)

    def test_more_columns_than_a_launch_has_blocks(self, device, torch_alone):
        """A batched product or factorisation of more than 65,535 matrices."""
        H, Y = random_problem(n=6, k=3, m=70_000, dtype=torch.float64)
        assert_near(nnls(H.to(device), Y.to(device)).W, nnls(H, Y).W, 1e-9)


class TestLayer:
    @pytest.mark.parametrize("name", [name for name in EVERY if name != RIVAL])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
    def test_as_on_the_cpu(self, device, name, dtype, batch):
        H, Y = random_problem(*batch, n=20, k=6, m=5, dtype=dtype)
        layer = layer_of(EVERY[name])
        for value, expected in zip(solved(layer, H, Y, device), solved(layer, H, Y, "cpu"), strict=True):
            assert value.dtype == dtype
            assert_near(value, expected, DTYPES[dtype])

    @pytest.mark.parametrize("name", EXACT_TO_ROUNDING)
    @pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
    def test_exact_however_conditioned(self, device, name, condition):
        H, Y = with_condition(40, 10, condition), random_problem(n=40, m=8)[1]
        solution = nnls(H.to(device), Y.to(device), solver=name)
        assert solution.converged
        assert kkt(H, Y, solution.W.cpu()) <= 1e-12

    @pytest.mark.parametrize(
        "options",
        [
            {"total": 1.0},
            {"total": 0.5, "total_kind": "at_most", "upper": 0.2},
            {"upper": 0.1},
            {"total": 1.0, "signed": torch.arange(8)[:, None] % 3 == 0},
        ],
        ids=["sum", "at most, upper", "upper", "sum, signed"],
    )
    def test_constraints(self, device, options):
        H, Y = random_problem(3, n=40, k=8, m=6)
        there = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in options.items()}
        found = solved(NNLSLayer(), H, Y, device, **there)
        for value, expected in zip(found, solved(NNLSLayer(), H, Y, "cpu", **options), strict=True):
            assert_near(value, expected, 1e-9)

    @pytest.mark.parametrize("k", [1, 16, 17, 32, 33, 64, 65])
    def test_every_size_of_the_kernels(self, device, k):
        H, Y = random_problem(2, n=80, k=k, m=3, dtype=torch.float32)
        for value, expected in zip(solved(NNLSLayer(), H, Y, device), solved(NNLSLayer(), H, Y, "cpu"), strict=True):
            assert_near(value, expected, 1e-4)

    def test_duplicates_zero_columns_and_what_is_not_finite(self, device):
        H, Y = random_problem(4, n=30, k=8, m=4)
        H[0, :, 3], H[1, :, 0], Y[2, 5, 1], H[3, 0, 0] = H[0, :, 6], 0.0, torch.nan, torch.inf
        for value, expected in zip(
            solved(NNLSLayer(ridge=1e-3), H, Y, device), solved(NNLSLayer(ridge=1e-3), H, Y, "cpu"), strict=True
        ):
            assert_near(value, expected, 1e-8)

    def test_penalties_and_a_warm_start(self, device):
        H, Y = random_problem(2, n=20, k=6, m=5)
        ridge, l1 = torch.tensor([0.1, 0.0])[:, None, None], torch.tensor([0.0, 0.3])[:, None, None]
        start = torch.ones(2, 6, 5)
        options = [{"ridge": ridge.to(d), "l1": l1.to(d), "W0": start.to(d)} for d in (device, "cpu")]
        mine, theirs = (solved(NNLSLayer(), H, Y, d, **o) for d, o in zip((device, "cpu"), options, strict=True))
        for value, expected in zip(mine, theirs, strict=True):
            assert_near(value, expected, 1e-10)

    @pytest.mark.parametrize("name", TRANSFORMABLE)
    def test_second_derivatives_and_transforms(self, device, name):
        H, Y = (x.to(device).requires_grad_() for x in random_problem(n=8, k=3, m=2))
        layer = NNLSLayer(name)
        assert torch.autograd.gradcheck(layer, (H, Y))
        assert torch.autograd.gradgradcheck(layer, (H, Y))
        many = torch.func.vmap(layer)(H.detach().expand(2, 8, 3), Y.detach().expand(2, 8, 2))
        assert_near(many[0], layer(H, Y), 1e-12)


class TestFactorization:
    @pytest.mark.parametrize("method", METHODS)
    def test_methods(self, device, method):
        Y = torch.rand(2, 20, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        mine, theirs = (self._factors(Y.to(d), 3, method=method, max_iter=20) for d in (device, "cpu"))
        assert mine.H.device.type == device.type
        assert_near(mine.errors[-1], theirs.errors[-1], 1e-6)

    @pytest.mark.parametrize("k", [1, 16, 17, 64, 128, 129])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_sweeps(self, device, k, dtype):
        g = torch.Generator().manual_seed(4)
        M, C, start, past = (torch.randn(2, k, 70, generator=g, dtype=dtype) for _ in range(4))
        A, beta = M @ M.mT, torch.tensor([0.4, 0.0], dtype=dtype)[:, None, None]
        found = []
        for d in (device, torch.device("cpu")):
            X, last = (x.clamp(min=0).to(d, copy=True) for x in (start, past))
            sweep_(A.to(d), C.to(d), X, 2, last, beta.to(d))
            found.append((X, last))
        for value, expected in zip(*found, strict=True):
            assert_near(value, expected, 1e-4 if dtype == torch.float32 else 1e-11)

    @pytest.mark.parametrize("init", INITS)
    def test_starts(self, device, init):
        Y = torch.rand(2, 20, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        mine, theirs = (self._factors(Y.to(d), 3, init=init, max_iter=0) for d in (device, "cpu"))
        assert_near(mine.errors[-1], theirs.errors[-1], 1e-6)

    def test_recorded_errors_are_not_rounding_where_they_are_small(self, device):
        g = torch.Generator().manual_seed(2)
        H, W = torch.rand(2, 60, 3, generator=g), torch.rand(2, 3, 30, generator=g)
        Y = (H @ W).to(device)
        factors = self._factors(Y, 3, max_iter=200, tol=0)
        residual = (Y.double() - factors.H.double() @ factors.W.double()).norm(dim=(1, 2)) / Y.double().norm(dim=(1, 2))
        assert residual.max() < 3e-2
        assert_near(factors.errors[-1], residual, 0.05)

    @pytest.mark.parametrize("precision", ["high", "medium"])
    def test_products_are_those_of_float32(self, device, precision):
        Y = torch.rand(2, 40, 20, generator=torch.Generator().manual_seed(3)).to(device)
        expected = self._factors(Y, 4, max_iter=30)
        torch.set_float32_matmul_precision(precision)
        try:
            found = self._factors(Y, 4, max_iter=30)
            assert torch.get_float32_matmul_precision() == precision
        finally:
            torch.set_float32_matmul_precision("highest")
        assert torch.equal(found.H, expected.H)
        assert torch.equal(found.W, expected.W)

    def test_estimator(self, device):
        X = torch.rand(20, 12, generator=torch.Generator().manual_seed(4)).to(device)
        model = NMF(n_components=3, random_state=0, max_iter=200, tol=1e-2)
        assert model.fit_transform(X).device.type == device.type

    @pytest.mark.parametrize("method", ["hals", "anls", "mu"])
    @pytest.mark.parametrize("weights", [False, True])
    def test_entries_that_are_not_known_or_count_less(self, device, method, weights):
        g = torch.Generator().manual_seed(5)
        Y, V = (torch.rand(2, 20, 12, generator=g, dtype=torch.float64) for _ in range(2))
        V = V if weights else V > 0.3
        name = "weights" if weights else "mask"
        mine, theirs = (
            self._factors(Y.to(d), 3, method=method, init="random", max_iter=20, **{name: V.to(d)})
            for d in (device, "cpu")
        )
        assert_near(mine.errors[-1], theirs.errors[-1], 1e-6)
        assert_near(mine.H @ mine.W, theirs.H @ theirs.W, 1e-6)

    @pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_csc], ids=str)
    @pytest.mark.parametrize(
        ("options", "stored"),
        [
            ({}, False),
            ({"method": "anls"}, False),
            ({"method": MU("kullback-leibler")}, False),
            ({"init": "random"}, False),
            ({"init": "random"}, True),
            ({"init": "random", "l1_W": 0.01, "method": "mu"}, True),
        ],
        ids=str,
    )
    def test_sparse(self, device, layout, options, stored):
        Y = torch.rand(30, 20, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        Y = torch.where(Y > 0.6, Y, 0.0).to_sparse(layout=layout)
        options = {"max_iter": 20, **options, **({"mask": "stored"} if stored else {})}
        mine, theirs = (self._factors(Y.to(d), 3, **options) for d in (device, "cpu"))
        assert mine.H.device.type == device.type
        assert_near(mine.errors[-1], theirs.errors[-1], 1e-6)

    def test_rank_and_consensus(self, device):
        g = torch.Generator().manual_seed(7)
        Y = torch.rand(30, 3, generator=g, dtype=torch.float64) @ torch.rand(3, 20, generator=g, dtype=torch.float64)
        scores = cross_validate_rank(Y.to(device), [2, 3], folds=3, rounds=30)
        assert_near(scores.mean, cross_validate_rank(Y, [2, 3], folds=3, rounds=30).mean, 1e-6)
        found = self._with_warnings_off(consensus, Y.to(device), 3, n_init=4, max_iter=30)
        assert found.H.device.type == device.type
        assert found.error < 0.1

    @pytest.mark.parametrize("model", [NMF(3, missing="unstored", tol=0.0), MiniBatchNMF(3, batch_size=10)], ids=str)
    def test_estimators_of_what_is_sparse(self, device, model):
        X = torch.rand(40, 15, generator=torch.Generator().manual_seed(8)).to(device)
        X = torch.where(X > 0.5, X, 0.0).to_sparse_csr()
        W = self._with_warnings_off(clone(model).set_params(random_state=0, max_iter=20).fit_transform, X)
        assert W.device.type == device.type
        assert W.isfinite().all()

    def _factors(self, *args, **options):
        return self._with_warnings_off(factorize, *args, **options)

    def _with_warnings_off(self, compute, *args, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return compute(*args, **options)


class TestModel:
    OPTIONS = ({}, {"w_solver": "fc"}, {"mixture": True}, {"basis_init": "merge"}, {"basis_init": "spa"})

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_generator(self, device, options, monkeypatch):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # ten bits of a number, unless told otherwise
        torch.manual_seed(0)
        generator = Generator(GeneratorConfig((8, 8), 6, 3, width=8, **options))
        Y = torch.rand(2, 64, 6, generator=torch.Generator().manual_seed(0))
        generator.set_slots(Y)
        expected = generator(Y).Y_hat
        result = generator.to(device)(Y.to(device))
        assert_near(result.Y_hat, expected, 1e-3)
        result.Y_hat.square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in generator.parameters())

    def test_trained_model_and_scores(self, device):
        torch.manual_seed(0)
        model = GANUNMF((8, 8), 6, 3, width=8).to(device)
        Y = torch.rand(3, 64, 6, generator=torch.Generator().manual_seed(0))
        H, W, Y_hat = model.factorize(Y, refine=2)
        assert Y_hat.device.type == device.type
        for score, value in summarize(Y.to(device), H, W).items():
            assert value.device.type == device.type, score


class TestDefaultDevice:
    """``torch.set_default_device`` is not for what generators of the CPU draw: "meta" shows what follows it."""

    @pytest.mark.parametrize(
        ("method", "init"), [(HALS(shuffle=True), "random"), ("mu", "nndsvdar"), ("hals", "merge")], ids=str
    )
    def test_factorizations(self, method, init):
        Y = torch.rand(30, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        expected = factorize(Y, 3, method=method, init=init, max_iter=5, tol=0.0)
        with torch.device("meta"):
            found = factorize(Y, 3, method=method, init=init, max_iter=5, tol=0.0)
        assert torch.equal(found.H, expected.H)

    def test_constraints(self):
        H, Y = random_problem(n=20, k=6, m=5)
        signed = torch.arange(6)[:, None] < 2
        expected = NNLSLayer()(H, Y, signed=signed)
        with torch.device("meta"):
            assert torch.equal(NNLSLayer()(H, Y, signed=signed), expected)

    @pytest.mark.parametrize("labels", [True, False])
    def test_groups(self, labels):
        images = ImageSet("noise", torch.rand(40, 4, 4), torch.arange(40) % 2 if labels else None)
        sampler = GroupSampler(images, 10)
        expected = sampler.epoch(1)
        with torch.device("meta"):
            assert torch.equal(GroupSampler(images, 10).epoch(1), expected)
