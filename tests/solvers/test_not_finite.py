"""What is not finite spoils its own column or problem only, forward and backward, under every solver and transform."""

import pytest
import torch
from nnls_problems import random_problem
from torch.func import grad, vmap

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS

BAD = [torch.nan, torch.inf, -torch.inf]
INEXACT = [name for name, solver in SOLVERS.items() if not solver().exact]
FAST = [name for name in SOLVERS if name != "cvxpylayer"]


def layer_of(name: str) -> NNLSLayer:
    return NNLSLayer(name, backward="unrolled" if name in INEXACT else "implicit")


def with_a_bad_column(bad: float, dtype=torch.float64):
    """H (2, 12, 4) and Y (2, 12, 3); column 1 of Y[0] is bad, and ``others`` says which columns are not, (2, 1, 3)."""
    H, Y = random_problem(2, dtype=dtype)
    spoilt = Y.clone()
    spoilt[0, 5, 1] = bad
    others = torch.ones(2, 1, 3, dtype=torch.bool)
    others[0, :, 1] = False
    return H, Y, spoilt, others


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_column_of_Y_spoils_its_own_column_of_W(solver, bad):
    H, Y, spoilt, others = with_a_bad_column(bad)
    clean, W = (layer_of(solver)(H, y) for y in (Y, spoilt))
    assert W[0, :, 1].isnan().all()
    kept = others.expand_as(W)
    assert torch.equal(W[kept], clean[kept])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("loss", ["masked", "sum"])
def test_a_bad_column_of_Y_adds_nothing_to_any_gradient(solver, loss):
    """Whether the loss leaves the column out, so that nothing comes in, or not, so that NaN does."""
    H, Y, spoilt, others = with_a_bad_column(torch.nan)

    def gradients(y, loss):
        inputs = [
            x.clone().requires_grad_()
            for x in (H, y, torch.tensor([0.3, 0.2]).double()[:, None, None], torch.tensor(0.1).double())
        ]
        W = layer_of(solver)(*inputs[:2], ridge=inputs[2], l1=inputs[3]).square()
        total = torch.where(others, W, 0.0).sum() if loss == "masked" else W.sum()
        return torch.autograd.grad(total, inputs)

    expected = gradients(Y, "masked")
    for found, wanted in zip(gradients(spoilt, loss), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12 if solver != "cvxpylayer" else 1e-6, atol=1e-12)
    assert expected[1][0, :, 1].eq(0).all()


@pytest.mark.parametrize("solver", FAST)
def test_a_bad_column_under_transforms(solver):
    H, Y, spoilt, others = with_a_bad_column(torch.inf)
    layer = layer_of(solver)
    clean, W = layer(H, Y), vmap(layer)(H, spoilt)
    assert W[0, :, 1].isnan().all()
    torch.testing.assert_close(W[others.expand_as(W)], clean[others.expand_as(W)], rtol=0, atol=1e-14)

    def loss(h, y):
        return torch.where(others, layer(h, y), 0.0).square().sum()

    torch.testing.assert_close(grad(loss)(H, spoilt), grad(loss)(H, Y), rtol=1e-12, atol=1e-14)
    tangents = torch.randn_like(H), torch.full_like(Y, torch.nan)
    _, tangent = torch.func.jvp(lambda h: layer(h, spoilt), (H,), tangents[:1])
    _, expected = torch.func.jvp(lambda h: layer(h, Y), (H,), tangents[:1])
    torch.testing.assert_close(tangent[others.expand_as(W)], expected[others.expand_as(W)], rtol=1e-12, atol=1e-13)


def test_a_bad_column_in_a_compiled_graph():
    H, Y, spoilt, others = with_a_bad_column(torch.nan)
    layer = NNLSLayer()
    H.requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    W, clean = compiled(H, spoilt), layer(H, Y)
    assert W[0, :, 1].isnan().all()
    kept = others.expand_as(W)
    torch.testing.assert_close(W[kept], clean[kept], rtol=0, atol=1e-14)
    found, wanted = (torch.autograd.grad(w[kept].sin().sum(), H)[0] for w in (W, clean))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["H", "ridge", "l1"])
def test_what_a_problem_shares_spoils_the_problem(solver, name):
    H, Y = random_problem(3)
    inputs = {"H": H, "ridge": torch.full((3, 1, 1), 0.2).double(), "l1": torch.full((3, 1, 1), 0.1).double()}
    clean = layer_of(solver)(inputs["H"], Y, ridge=inputs["ridge"], l1=inputs["l1"])
    inputs[name].view(3, -1)[1, 0] = torch.nan
    inputs = {key: x.clone().requires_grad_() for key, x in inputs.items()}
    W = layer_of(solver)(inputs["H"], Y, ridge=inputs["ridge"], l1=inputs["l1"])
    assert W[1].isnan().all()
    assert torch.equal(W[[0, 2]], clean[[0, 2]])
    W.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in inputs.values())
    assert inputs["H"].grad[1].eq(0).all()
    assert inputs["H"].grad[[0, 2]].ne(0).any()


def test_the_example_of_a_thousand_columns():
    H, Y = random_problem(n=20, k=5, m=1000)
    Y[3, 17] = torch.nan
    with pytest.warns(ConvergenceWarning) as caught:
        solution = nnls(H, Y)
    assert solution.W.isnan().sum() == 5
    assert solution.W[:, 17].isnan().all()
    (warning,) = caught
    assert "the input of 1 of 1 problems is not finite" in str(warning.message)
    assert "1 of 1000 columns of W" in str(warning.message)
    assert "not converged" not in str(warning.message)
    assert solution.kkt_residual.isnan()
    assert not solution.converged


def test_the_warning_tells_not_finite_from_not_converged():
    H, Y = random_problem(2, n=20, k=6, m=5)
    stopped = SOLVERS["unrolled"](max_iter=1, finish=False)
    H[0, 0, 0] = torch.inf
    with pytest.warns(ConvergenceWarning, match=r"1 of 2 problems have not converged .*; the input of 1 of 2 problems"):
        solution = nnls(H, Y, solver=stopped)
    assert solution.converged.tolist() == [False, False]
    assert solution.kkt_residual.isnan().tolist() == [True, False]


def test_nothing_is_said_of_finite_input():
    H, Y = random_problem(2)
    assert nnls(H, Y).converged.all()  # warnings are errors here


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_low_precision(dtype):
    H, _, spoilt, others = with_a_bad_column(torch.nan, dtype)
    with pytest.warns(ConvergenceWarning, match="not finite"):
        solution = nnls(H.requires_grad_(), spoilt)
    assert (solution.W.isnan() == ~others).all()
    solution.W.sum().backward()
    assert H.grad.isfinite().all()
