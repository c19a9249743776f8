"""nnls_gram: the same problems from HᵀH and HᵀY."""

import pytest
import torch
from nnls_problems import random_problem
from torch.autograd import gradcheck, gradgradcheck

from diffnmf import NNLSLayer, nnls, nnls_gram
from diffnmf.errors import ConvergenceWarning

generator = torch.Generator().manual_seed(0)
SHAPE = (2, 5, 4)
CASES = {
    "plain": {},
    "penalties": {"l1": 0.2, "ridge": 0.3},
    "ridge per entry": {"ridge": torch.rand(SHAPE, generator=generator, dtype=torch.float64)},
    "allowed": {"allowed": torch.rand(SHAPE, generator=generator) < 0.6},
    "upper": {"upper": 0.1},
    "signed": {"signed": torch.rand(SHAPE, generator=generator) < 0.5},
    "equal": {"total": 0.5},
    "at most": {"total": 0.2, "total_kind": "at_most"},
    "all": {"total": 0.4, "upper": 0.2, "signed": torch.rand(SHAPE, generator=generator) < 0.2, "l1": 0.1},
}


@pytest.fixture(params=["compiled", "torch_alone"])
def kernel(request):
    request.getfixturevalue(request.param)


@pytest.mark.parametrize("case", CASES)
def test_same_as_from_H_and_Y(case, kernel):
    H, Y = random_problem(2, n=20, k=5, m=4)
    expected, found = nnls(H, Y, **CASES[case]), nnls_gram(H.mT @ H, H.mT @ Y, **CASES[case])
    torch.testing.assert_close(found.W, expected.W, rtol=0, atol=1e-13)
    torch.testing.assert_close(found.dual, expected.dual, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.total_dual, expected.total_dual, rtol=0, atol=1e-12)
    assert torch.equal(found.largest_useful_l1.isinf(), expected.largest_useful_l1.isinf())
    assert found.converged.all() and (found.kkt_residual <= 1e-13).all()


@pytest.mark.parametrize("case", CASES)
def test_gradient_towards_both(case):
    H, Y = random_problem(2, n=20, k=5, m=4)
    G, C = (H.mT @ H).requires_grad_(), (H.mT @ Y).requires_grad_()

    def solve(G, C):
        return nnls_gram(G, C, **CASES[case]).W

    assert gradcheck(solve, (G, C))
    assert gradgradcheck(solve, (G, C), fast_mode=True, atol=1e-7)  # in random directions


def test_gradient_through_the_squares_is_that_of_the_problem_itself():
    H, Y = (x.requires_grad_() for x in random_problem(2, n=20, k=5, m=4))
    expected = torch.autograd.grad(nnls(H, Y).W.sin().sum(), (H, Y))
    found = torch.autograd.grad(nnls_gram(H.mT @ H, H.mT @ Y).W.sin().sum(), (H, Y))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_only_the_symmetric_part_counts():
    H, Y = random_problem(n=20, k=5, m=4)
    skew = torch.triu(torch.ones(5, 5, dtype=torch.float64), 1)
    found = nnls_gram(H.T @ H + skew - skew.T, H.T @ Y)
    torch.testing.assert_close(found.W, nnls(H, Y).W, rtol=0, atol=1e-13)


def test_the_entry_of_the_layer_and_its_rows():
    H, Y = random_problem(3, n=20, k=5, m=4)
    G, C = H.mT @ H, H.mT @ Y
    expected = nnls(H, Y, total=0.5, l1=0.1).W
    torch.testing.assert_close(NNLSLayer(total=0.5, l1=0.1).solve_gram(G, C), expected, rtol=0, atol=1e-13)
    rows = NNLSLayer(total=0.5, l1=0.1, rows=True).solve_gram(G, C.mT)
    torch.testing.assert_close(rows.mT, expected, rtol=0, atol=1e-13)
    mapped = torch.func.vmap(NNLSLayer(total=0.5, l1=0.1).solve_gram)(G, C)
    torch.testing.assert_close(mapped, expected, rtol=0, atol=1e-13)


def test_a_form_without_minimum_is_told():
    with pytest.warns(ConvergenceWarning, match="not converged"):
        assert not nnls_gram(torch.tensor([[1.0, -2.0], [-2.0, 1.0]]), torch.ones(2, 1)).converged


def test_what_is_not_finite_spoils_its_own_column():
    H, Y = random_problem(n=20, k=5, m=4)
    C = H.T @ Y
    C[0, 1] = torch.nan
    with pytest.warns(ConvergenceWarning, match="not finite"):
        W = nnls_gram(H.T @ H, C).W
    assert W[:, 1].isnan().all()
    torch.testing.assert_close(W[:, [0, 2, 3]], nnls(H, Y).W[:, [0, 2, 3]], rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_scales(scale):
    H, Y = random_problem(n=20, k=5, m=4)
    found = nnls_gram(H.T @ H * scale, H.T @ Y * scale)
    torch.testing.assert_close(found.W, nnls(H, Y).W, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.ones(3, 2), torch.ones(3, 1)), {}, r"G: expected square matrices"),
        ((torch.eye(3), torch.ones(2, 1)), {}, r"G and C: expected the same number of rows"),
        ((torch.eye(3), torch.ones(3, 1)), {"solver": "ls_hals"}, r"solver: ls_hals"),
        ((torch.eye(3), torch.ones(3, 1)), {"total": -1.0}, r"total: expected a finite number ≥ 0"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        nnls_gram(*arguments, **options)


def test_a_layer_with_row_weights_has_no_gram_entry():
    with pytest.raises(ValueError, match="weights: expected None with a Gram matrix"):
        NNLSLayer(weights=torch.ones(4, 1)).solve_gram(torch.eye(3), torch.ones(3, 1))


def test_arguments_may_be_named():
    H, Y = torch.rand(20, 3).double(), torch.rand(20, 4).double()
    torch.testing.assert_close(nnls_gram(G=H.T @ H, C=H.T @ Y).W, nnls(H=H, Y=Y).W)


@pytest.mark.parametrize("rows", [False, True])
def test_a_call_of_the_layer_replaces_its_own_options(rows):
    H, Y = torch.rand(20, 3).double(), torch.rand(20, 4).double()
    layer, C = NNLSLayer(total=2.0, rows=rows), (H.T @ Y).T if rows else H.T @ Y
    ridge, allowed = torch.rand(3, 1).double(), torch.arange(3)[:, None] > 0
    call = {"total": 1.0, "total_kind": "at_most", "l1": 0.1, "ridge": ridge, "allowed": allowed}
    given = {name: x.T if rows and isinstance(x, torch.Tensor) else x for name, x in call.items()}
    W = layer.solve_gram(H.T @ H, C, **given)
    torch.testing.assert_close(W.T if rows else W, nnls(H, Y, **call).W)
    with pytest.raises(ValueError, match="max_iter"):
        layer.solve_gram(H.T @ H, C, max_iter=-1)
    with pytest.raises(ValueError, match="max_iter"):
        nnls_gram(H.T @ H, H.T @ Y, max_iter=-1)
