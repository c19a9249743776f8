"""Programs that record a layer, and tensors without numbers: what Python reads of one problem must not be kept."""

import pytest
import torch
from helpers import rand
from nnls_problems import random_problem
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from diffnmf import NNLSCoder, nnls
from diffnmf.layers import NNLSLayer
from diffnmf.models import GANUNMF

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
CONSTRAINTS = {"plain": {}, "upper": {"upper": 0.3}, "total": {"total": 1.0}, "weights": {"weights": rand(40, 1)}}


@pytest.fixture(params=CONSTRAINTS.values(), ids=CONSTRAINTS)
def layer(request):
    return NNLSLayer(**request.param)


def problems():
    """One of mixed signs, and others that need other numbers of steps."""
    yield random_problem(2, n=40, k=15, m=10)
    yield rand(2, 40, 15, seed=1) + rand(2, 40, 1, seed=2), rand(2, 40, 10, seed=3)
    yield 1e-3 * rand(2, 40, 15, seed=1) + rand(2, 40, 1, seed=2), rand(2, 40, 10, seed=3)
    yield random_problem(2, n=40, k=15, m=10)[0], -rand(2, 40, 10)


def assert_for_all_problems(recorded, layer):
    for H, Y in problems():
        torch.testing.assert_close(recorded(H, Y), layer(H, Y), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torch_jit_trace(layer):
    assert_for_all_problems(torch.jit.trace(layer, next(problems())), layer)


def test_make_fx(layer):
    assert_for_all_problems(make_fx(layer)(*next(problems())), layer)


def test_make_fx_from_shapes_alone():
    assert_for_all_problems(make_fx(NNLSLayer(), tracing_mode="fake")(*next(problems())), NNLSLayer())


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # of a constant, by torch
def test_linearize():
    H, Y = random_problem(2)
    value, slope = torch.func.linearize(lambda h: NNLSLayer()(h, Y), H)
    expected, tangent = torch.func.jvp(lambda h: NNLSLayer()(h, Y), (H,), (Y.mean() * H + 1,))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(slope(Y.mean() * H + 1), tangent)


@pytest.mark.parametrize("options", [{}, {"upper": 0.3}, {"total": 1.0}, {"backward": "unrolled"}], ids=str)
def test_shapes_of_tensors_without_numbers(options):
    layer = NNLSLayer(**options)
    with torch.device("meta"):
        H, Y = torch.rand(2, 12, 4, requires_grad=True), torch.rand(3, 1, 12, 3)
    W = layer(H, Y)
    W.sum().backward()
    assert W.is_meta and W.shape == (3, 2, 4, 3) and H.grad.shape == H.shape
    with FakeTensorMode():
        H, Y = torch.rand(2, 12, 4, requires_grad=True), torch.rand(3, 1, 12, 3)
        W = layer(H, Y)
        W.sum().backward()
        assert W.shape == (3, 2, 4, 3) and W.device.type == "cpu" and H.grad.shape == H.shape


def test_models_and_diagnostics_without_numbers():
    with torch.device("meta"):
        H, Y = torch.rand(2, 12, 4), torch.rand(2, 12, 3)
        assert NNLSCoder(12, 3)(H.mT).shape == (2, 4, 3)
        assert [x.shape for x in GANUNMF((8, 8), 6, 3, width=8, mixture=True)(torch.rand(2, 64, 6))] == [
            (2, 64, 3),
            (2, 3, 6),
            (2, 64, 6),
        ]
    solution = nnls(H, Y)
    assert solution.W.shape == solution.dual.shape == (2, 4, 3) and solution.converged.is_meta
