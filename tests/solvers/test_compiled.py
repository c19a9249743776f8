"""torch.compile with penalties that are numbers: one graph for all values, as without penalties."""

import pytest
import torch
from helpers import slow
from nnls_problems import random_problem
from torch._dynamo.testing import CompileCounterWithBackend

from diffnmf.layers import NNLSLayer

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
PENALTIES = ["ridge", "l1"]


def compiled(function, dynamic=None, backend="eager"):
    """The function without graph breaks, and the counter of its compilations."""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, fullgraph=True, dynamic=dynamic, backend=counter), counter


# "aot_eager" goes as far as torch.compile does before it writes code: numbers that the graph cannot hold show here.
@pytest.mark.parametrize(
    ("penalty", "dynamic", "backend"),
    [
        ("ridge", None, "aot_eager"),
        ("l1", True, "eager"),
        *slow(("l1", None, "aot_eager"), ("ridge", True, "eager")),
        *slow(*((penalty, True, "aot_eager") for penalty in PENALTIES)),
    ],
)
def test_a_penalty_that_changes_from_call_to_call(penalty, dynamic, backend):
    problem, layer = random_problem(2), NNLSLayer()
    solve, counter = compiled(lambda value: layer(*problem, **{penalty: value}), dynamic, backend)
    counts = []
    for value in (0.3, 0.4, 0.5, 1e-3):
        expected = layer(*problem, **{penalty: value})
        torch.testing.assert_close(solve(value), expected, rtol=0, atol=1e-13)
        counts.append(counter.frame_count)
    # Unless told dynamic=True, torch takes the first number that it sees for a constant, whatever it is for.
    assert counts[-1] == counts[0 if dynamic else 1]


@pytest.mark.parametrize(("penalty", "dynamic"), [("ridge", None), ("l1", True), *slow(("l1", None), ("ridge", True))])
def test_layers_of_different_penalties(penalty, dynamic):
    problem = random_problem(2)
    solve, counter = compiled(lambda layer: layer(*problem), dynamic)
    for value in (0.3, 0.4, 0.5, 0.6):
        layer = NNLSLayer(**{penalty: value})
        torch.testing.assert_close(solve(layer), layer(*problem), rtol=0, atol=1e-13)
    assert counter.frame_count == (1 if dynamic else 2)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
def test_no_more_graphs_than_without_penalties(dynamic):
    """A model of several layers, over batches of several sizes."""
    counts = []
    for penalties in ({}, {"ridge": 0.3, "l1": 0.2}):
        layers = [NNLSLayer(**{name: (i + 1) * value for name, value in penalties.items()}) for i in range(2)]
        torch._dynamo.reset()
        solve, counter = compiled(lambda H, Y, layers=layers: sum(layer(H, Y) for layer in layers), dynamic)
        for batch in (2, 3, 4):
            problem = random_problem(batch)
            expected = sum(layer(*problem) for layer in layers)
            torch.testing.assert_close(solve(*problem), expected, rtol=0, atol=1e-13)
        counts.append(counter.frame_count)
    assert counts[1] == counts[0]


@pytest.mark.slow
def test_gradients_with_symbolic_penalties():
    H, Y = random_problem(2)
    H.requires_grad_()
    layer = NNLSLayer()
    solve, _ = compiled(lambda value: layer(H, Y, ridge=value, l1=value).sin().sum(), True, "aot_eager")
    for value in (0.3, 0.4):
        expected = torch.autograd.grad(layer(H, Y, ridge=value, l1=value).sin().sum(), H)[0]
        torch.testing.assert_close(torch.autograd.grad(solve(value), H)[0], expected, rtol=1e-10, atol=1e-12)


def test_a_bad_number_is_refused_after_good_ones():
    problem, layer = random_problem(2), NNLSLayer()
    solve, _ = compiled(lambda value: layer(*problem, ridge=value), True)
    for value in (0.3, 0.4):
        solve(value)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(Exception, match="ridge: expected a finite number ≥ 0"):
            solve(bad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inductor_with_symbolic_penalties():
    problem, layer = random_problem(2), NNLSLayer()
    solve = torch.compile(lambda value: layer(*problem, ridge=value, l1=value), fullgraph=True, dynamic=True)
    for value in (0.3, 0.4):
        torch.testing.assert_close(solve(value), layer(*problem, ridge=value, l1=value), rtol=0, atol=1e-13)
