"""Scales at which squares overflow or vanish: powers of two change no digit of W, and what cannot be had is told."""

import itertools

import pytest
import torch
from nnls_problems import kkt, random_problem, with_condition
from torch.func import grad, vmap

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import nnls_kkt_residual
from diffnmf.solvers import SOLVERS

EXACT = [name for name, solver in SOLVERS.items() if solver().exact]
EXTREME = [2.0**-1000, 2.0**-548, 2.0**-350, 1.0, 2.0**350, 2.0**548, 2.0**950]
# What W is multiplied by has to be a number, too.
PAIRS = [(h, y) for h, y in itertools.product(EXTREME, EXTREME) if 2.0**-900 < y / h < 2.0**900 and (h, y) != (1, 1)]


def precision(solver: str, rtol: float = 1e-12) -> dict[str, float]:
    return {"rtol": 1e-5, "atol": 1e-6} if solver == "cvxpylayer" else {"rtol": rtol, "atol": rtol / 100}


def powers(*exponents):
    return torch.exp2(torch.tensor(exponents, dtype=torch.float64))


@pytest.mark.parametrize("solver", EXACT)
def test_the_example(solver):
    H, Y = torch.rand(20, 5, dtype=torch.float64), torch.rand(20, 3, dtype=torch.float64)
    solution = nnls(H * 1e-165, Y, solver=solver)
    assert solution.converged
    torch.testing.assert_close(solution.W * 1e-165, nnls(H, Y, solver=solver).W, **precision(solver))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("scale_H", "scale_Y"), [(2.0**-548, 1.0), (1.0, 2.0**700), (2.0**-1000, 2.0**-1000)])
def test_powers_of_two_change_no_digit(solver, scale_H, scale_Y):
    layer = NNLSLayer(solver, backward="detached")
    H, Y = random_problem(2)
    W = layer(H * scale_H, Y * scale_Y)
    torch.testing.assert_close(W * (scale_H / scale_Y), layer(H, Y), **precision(solver))


@pytest.mark.parametrize(("scale_H", "scale_Y"), PAIRS)
def test_extreme_scales_with_diagnostics_and_gradients(scale_H, scale_Y):
    H, Y = random_problem(2, seed=3)
    weights = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def solved(scale_H, scale_Y):
        inputs = [(x * s).requires_grad_() for x, s in ((H, scale_H), (Y, scale_Y))]
        solution = nnls(*inputs)
        assert solution.converged.all()
        W = solution.W * (scale_H / scale_Y)
        return W.detach(), solution.kkt_residual, torch.autograd.grad((W * weights).sum(), inputs)

    W, residual, gradients = solved(scale_H, scale_Y)
    expected, wanted_residual, wanted = solved(1.0, 1.0)
    torch.testing.assert_close(W, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(residual, wanted_residual, rtol=0, atol=1e-15)
    for gradient, usual, scale in zip(gradients, wanted, (scale_H, scale_Y), strict=True):
        # The gradient goes like 1 / scale: where that cannot be represented there is nothing to compare.
        if (usual / scale).isfinite().all():
            torch.testing.assert_close(gradient, usual / scale, rtol=1e-11, atol=1e-12 / scale)


@pytest.mark.parametrize("solver", EXACT)
def test_every_column_has_its_own_scale(solver):
    H, Y = random_problem(n=20, k=4, m=3)
    a, b = powers(-700, 0, 300, -20), powers(-450, 0, 300)
    expected = nnls(H, Y, solver=solver).W
    solution = nnls(H * a, Y * b, solver=solver)
    assert solution.converged
    torch.testing.assert_close(solution.W * a[:, None] / b, expected, **precision(solver))


@pytest.mark.parametrize("condition", [1e4, 1e6])
@pytest.mark.parametrize(("scale_H", "scale_Y"), [(1e-200, 1e-200), (1e200, 1e250), (1e-165, 1.0)])
def test_ill_conditioned_problems(condition, scale_H, scale_Y):
    """Refinement and the unsquared problem work at every scale."""
    H, Y = with_condition(60, 20, condition), random_problem(n=60, m=10)[1]
    solution = nnls(H * scale_H, Y * scale_Y)
    assert solution.converged
    assert kkt(H, Y, solution.W * (scale_H / scale_Y)) <= 1e-12


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize(("scale_H", "scale_Y"), [(1e-120, 1.0), (1e-140, 1e-140), (1e140, 1e120), (1.0, 1e-200)])
def test_penalties_in_their_own_units(solver, scale_H, scale_Y):
    H, Y = random_problem(2)
    ridge, l1 = (torch.tensor(x).double()[:, None, None] for x in ([0.5, 3.0], [0.3, 0.1]))

    def solved(scale_H, scale_Y):
        inputs = [x.requires_grad_() for x in (ridge * scale_H * scale_H, l1 * scale_H * scale_Y)]
        solution = nnls(H * scale_H, Y * scale_Y, ridge=inputs[0], l1=inputs[1], solver=solver)
        assert solution.converged.all()
        W = solution.W * (scale_H / scale_Y)
        return W.detach(), torch.autograd.grad(W.sum(), inputs)

    W, gradients = solved(scale_H, scale_Y)
    expected, wanted = solved(1.0, 1.0)
    torch.testing.assert_close(W, expected, **precision(solver, 1e-10))
    for gradient, usual, scale in zip(gradients, wanted, (scale_H**2, scale_H * scale_Y), strict=True):
        if (usual / scale).isfinite().all():
            torch.testing.assert_close(gradient * scale, usual, **precision(solver, 1e-10))


@pytest.mark.parametrize("l1", [1.0, 1e300])
def test_an_l1_far_above_the_problem(l1):
    H, Y = random_problem(2)
    for scale in (1.0, 1e-200, 1e-320):
        H_, Y_ = (H * scale).requires_grad_(), Y * scale
        W = nnls(H_, Y_, l1=l1 * 100).W
        assert W.eq(0).all()
        assert torch.autograd.grad(W.sum(), H_)[0].eq(0).all()


@pytest.mark.parametrize("kernel_fixture", ["compiled", "torch_alone"])
@pytest.mark.parametrize(
    "options", [{"l1": 0.5}, {"ridge": 0.5}, {"l1": 0.5, "allowed": torch.tensor([[True]])}, {"l1": 0.5, "upper": 0.3}]
)
@pytest.mark.parametrize("solver", EXACT)
def test_penalties_below_float32_beside_a_problem_as_small(solver, options, kernel_fixture, request):
    """As numbers: 2⁻¹⁶⁷ is zero in float32, whose columns here are of 2⁻⁸³."""
    request.getfixturevalue(kernel_fixture)
    H, Y = (x.float() for x in random_problem(2))
    scale, found = 2.0**-83, []
    for by in (1.0, scale):
        asked = {name: x * by**2 if name in ("l1", "ridge") else x for name, x in options.items()}
        H_ = (H * by).requires_grad_()
        W = nnls(H_, Y * by, solver=solver, **asked).W
        found.append((W.detach(), torch.autograd.grad(W.sum(), H_)[0] * by))
    torch.testing.assert_close(found[1], found[0], **precision(solver, 1e-6))
    assert found[1][0].dtype == torch.float32


def test_a_ridge_far_above_the_problem():
    """W = Hᵀy / ridge, which is a number even where HᵀH is none."""
    H, Y = random_problem(2)
    H, Y = H.abs() * 1e-150, Y.abs() * 1e150
    torch.testing.assert_close(nnls(H, Y, ridge=1e-260).W / 1e260, H.mT @ Y, rtol=1e-12, atol=0)


# 1e30 against 1e-30 would need weights that float32 does not have.
@pytest.mark.parametrize(
    ("scale_H", "scale_Y"), [(1e-30, 1e-30), (1e-30, 1.0), (1.0, 1e-30), (1.0, 1e30), (1e30, 1e30)]
)
def test_extreme_scales_in_float32(scale_H, scale_Y):
    H, Y = (x * s for x, s in zip(random_problem(2), (scale_H, scale_Y), strict=True))
    H, Y = H.float().requires_grad_(), Y.float()
    solution = nnls(H, Y)
    assert solution.converged.all()
    expected = nnls(H.detach().double(), Y.double()).W
    torch.testing.assert_close(solution.W.double(), expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad((solution.W * (scale_H / scale_Y)).sum(), H)
    assert gradient.isfinite().all()
    assert gradient.ne(0).any()


def test_what_cannot_be_represented_is_told():
    H, Y = random_problem(2)
    with pytest.warns(ConvergenceWarning, match="2 of 2 problems have not converged"):
        solution = nnls(H * 1e-200, Y * 1e200)
    assert not solution.W.isnan().any()
    assert not solution.converged.any()


@pytest.mark.parametrize("solver", ["unrolled", "bpp", "hals"])
def test_transforms(solver):
    H, Y = random_problem(2)
    layer = NNLSLayer(solver)
    scale_H, scale_Y = 2.0**-500, 2.0**-400

    def loss(h, y, scale=scale_H / scale_Y):
        return (layer(h, y) * scale).sin().sum()

    scaled = H * scale_H, Y * scale_Y
    torch.testing.assert_close(vmap(layer)(*scaled) * (scale_H / scale_Y), layer(H, Y), rtol=1e-12, atol=1e-14)
    for argument, scale in ((0, scale_H), (1, scale_Y)):
        gradient = grad(loss, argnums=argument)(*scaled) * scale
        torch.testing.assert_close(gradient, grad(loss, argnums=argument)(H, Y, 1.0), rtol=1e-10, atol=1e-12)


def test_a_compiled_graph():
    H, Y = random_problem(2)
    compiled = torch.compile(NNLSLayer(), fullgraph=True, backend="aot_eager")
    for scale in (1.0, 2.0**-600, 2.0**600):
        torch.testing.assert_close(compiled(H * scale, Y * scale), NNLSLayer()(H, Y), rtol=1e-12, atol=1e-14)


def test_second_order_at_an_extreme_scale():
    H, Y = random_problem(n=6, k=2, m=2)
    scale = 2.0**-400

    def hessian(scale):
        h = (H * scale).requires_grad_()
        (first,) = torch.autograd.grad(NNLSLayer()(h, Y * scale).square().sum(), h, create_graph=True)
        return torch.autograd.grad((first * scale).sum(), h)[0] * scale

    torch.testing.assert_close(hessian(scale), hessian(1.0), rtol=1e-10, atol=1e-12)


def test_zero_columns_among_extreme_ones():
    H, Y = random_problem()
    H[:, 2] = 0
    Y[:, 1] = 0
    expected = nnls(H, Y).W
    solution = nnls(H * 1e-200, Y * 1e-200)
    assert solution.converged
    torch.testing.assert_close(solution.W, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scale_H", [1e-200, 1.0, 1e200])
def test_the_kkt_residual_of_any_W(scale_H):
    H, Y = random_problem(2)
    W = torch.rand(2, 4, 3, dtype=torch.float64)
    expected = nnls_kkt_residual(H, Y, W)
    torch.testing.assert_close(nnls_kkt_residual(H * scale_H, Y * scale_H, W), expected)
    assert (nnls_kkt_residual(H * scale_H, Y * scale_H, torch.zeros_like(W)) > 0.1).all()
    Y[1, 0, 0] = torch.nan
    residual = nnls_kkt_residual(H * scale_H, Y * scale_H, W)
    assert residual.isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    "options", [{}, {"l1": 0.1}, {"ridge": 0.1}, {"allowed": torch.arange(4)[:, None] != 1}], ids=str
)
def test_weights_whose_square_is_no_number(options):
    H, Y = random_problem(2)
    H[..., 2] = H[..., 0]  # dependent columns take the way through QR factors, too
    expected = nnls(H, Y, **options)
    scale_H, scale_Y = 2.0**-330, 2.0**330
    units = {"l1": scale_H * scale_Y, "ridge": scale_H**2, "allowed": True}
    solution = nnls(H * scale_H, Y * scale_Y, **{name: x * units[name] for name, x in options.items()})
    assert solution.W.max() > 1e154
    assert expected.converged.all() and solution.converged.all()
    fit, wanted = H @ (solution.W * (scale_H / scale_Y)), H @ expected.W
    torch.testing.assert_close(fit, wanted, rtol=1e-12, atol=1e-14)


def test_a_huge_solution_whose_square_is_no_number():
    """Two columns that differ by 2⁻⁴³: W is 9e12 in units of ‖y‖, and right."""
    H = torch.tensor([[1.0, -1.0], [0.0, 2.0**-43], [0.0, 0.0]], dtype=torch.float64)
    Y = torch.tensor([[0.0], [1.0], [1.0]], dtype=torch.float64)
    for scale_H, scale_Y in ((1.0, 1.0), (2.0**-250, 2.0**250)):
        solution = nnls(H * scale_H, Y * scale_Y)
        assert solution.converged
        torch.testing.assert_close(solution.W * (scale_H / scale_Y), torch.full_like(solution.W, 2.0**43))


@pytest.mark.parametrize("kernel_fixture", ["compiled", "torch_alone"])
@pytest.mark.parametrize(("scale_H", "scale_Y"), [(2.0**-330, 2.0**-330), (2.0**-100, 2.0**-200), (1.0, 2.0**-330)])
def test_entries_that_are_not_allowed_among_dependent_columns(scale_H, scale_Y, kernel_fixture, request):
    request.getfixturevalue(kernel_fixture)
    H, Y = random_problem(2)
    H[..., 2] = H[..., 0]
    allowed = torch.arange(4)[:, None] != 1
    solution = nnls(H * scale_H, Y * scale_Y, allowed=allowed)
    assert solution.converged.all()
    fit, expected = H @ (solution.W * (scale_H / scale_Y)), H @ nnls(H, Y, allowed=allowed).W
    torch.testing.assert_close(fit, expected, rtol=1e-12, atol=1e-14)
