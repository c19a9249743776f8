"""Gradients of constrained NNLS: finite differences, transforms, the cone program, and the cases where one is zero."""

from fractions import Fraction

import pytest
import torch
from helpers import rand, randn
from nnls_problems import random_problem, with_condition
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, vmap

from diffnmf import nnls
from diffnmf.layers import NNLSLayer
from diffnmf.solvers.constrained.operator import _constrained_solution
from diffnmf.solvers.constraints import Asked
from diffnmf.solvers.nnls import make_problem

N, K, M = 8, 4, 3


def allowed(seed: int = 0) -> torch.Tensor:
    return randn(K, M, seed=seed) > -0.7


def weights() -> torch.Tensor:
    return randn(N, M, seed=1).abs() + 0.1


def upper() -> torch.Tensor:
    return torch.full((K, M), 0.25, dtype=torch.float64) + 0.02 * randn(K, M, seed=2).abs()


def total() -> torch.Tensor:
    return torch.tensor([[0.5, 0.6, 0.7]], dtype=torch.float64)


def signed() -> torch.Tensor:
    return torch.tensor([[True], [False], [True], [False]])


def l1() -> torch.Tensor:
    return randn(K, M, seed=4).abs()


CASES = {
    "allowed": ({"allowed"}, {}),
    "weights": ({"weights"}, {}),
    "total": ({"total"}, {}),
    "at most": ({"total"}, {"total_kind": "at_most"}),
    "upper": ({"upper"}, {}),
    "signed": ({"signed"}, {}),
    "ridge per entry": ({"ridge"}, {}),
    "allowed, weights": ({"allowed", "weights"}, {}),
    "allowed, total": ({"allowed", "total"}, {}),
    "upper, total": ({"upper", "total"}, {}),
    "upper, at most": ({"upper", "total"}, {"total_kind": "at_most"}),
    "weights, total": ({"weights", "total"}, {}),
    "signed, upper": ({"signed", "upper"}, {}),
    "l1, upper": ({"l1", "upper"}, {}),
    "everything": ({"allowed", "weights", "total", "upper", "signed", "ridge", "l1"}, {}),
}
MAKE = {
    "allowed": allowed,
    "weights": weights,
    "total": total,
    "upper": upper,
    "signed": signed,
    "l1": l1,
    "ridge": lambda: 0.1 * l1() + 0.05,
}


def case_of(name: str, *batch: int):
    """A function of H, Y and the differentiable constraints, and these inputs; H and Y with a batch dimension."""
    kinds, options = CASES[name]
    fixed = {kind: MAKE[kind]() for kind in sorted(kinds) if kind in ("allowed", "signed")} | options
    names = [kind for kind in sorted(kinds) if kind not in ("allowed", "signed")]
    H, Y = random_problem(*batch, n=N, k=K, m=M)

    def solve(H, Y, *values):
        return NNLSLayer(**fixed)(H, Y, **dict(zip(names, values, strict=True)))

    values = {kind: MAKE[kind]() for kind in names}
    if name == "everything":
        values["total"] *= 0.25  # within reach of the few that are allowed
    return solve, (H, Y, *values.values())


def leaves(inputs):
    return tuple(x.clone().requires_grad_() for x in inputs)


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


@pytest.fixture(params=["compiled", "torch_alone"])
def either_kernel(request) -> str:
    request.getfixturevalue(request.param)
    return request.param


def test_the_cases_are_what_they_say():
    """Some entry is at zero, some at its upper bound, some free, and "at most" binds in some column and not in all."""
    for name in CASES:
        solve, inputs = case_of(name)
        W = solve(*inputs)
        assert W.isfinite().all(), name
        kinds, _ = CASES[name]
        bound = inputs[-1] if name in ("upper", "signed, upper", "l1, upper") else None
        assert ((W == 0).any() or "signed" in kinds) and (W != 0).any(), name
        if bound is not None:
            assert (bound == W).any() and (bound > W).any(), name
        if name == "at most":
            assert torch.isclose(W.sum(-2, keepdim=True), total(), atol=1e-12, rtol=0).any()


def test_first_order(name, compiled):
    solve, inputs = case_of(name)
    assert gradcheck(solve, leaves(inputs))


def test_first_order_in_a_batch(name, either_kernel):
    solve, inputs = case_of(name, 2)
    assert gradcheck(solve, leaves(inputs), fast_mode=True)


def test_second_order(name):
    solve, inputs = case_of(name)
    assert gradgradcheck(solve, leaves(inputs), fast_mode=True)


def test_third_order():
    solve, inputs = case_of("upper, total")

    def gradients(*inputs):
        return torch.autograd.grad((solve(*inputs) ** 3).sum(), inputs, create_graph=True)

    assert gradgradcheck(gradients, leaves(inputs), fast_mode=True)


def test_forward_mode(name):
    solve, inputs = case_of(name)
    assert gradcheck(solve, leaves(inputs), fast_mode=True, check_forward_ad=True)


def test_the_lean_backward_is_the_differentiable_one(name, either_kernel):
    solve, inputs = case_of(name, 3)
    inputs = leaves(inputs)
    loss = solve(*inputs).sin().sum()
    lean = torch.autograd.grad(loss, inputs, retain_graph=True)
    full = torch.autograd.grad(loss, inputs, create_graph=True)
    for one, other in zip(lean, full, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_transforms(name):
    solve, inputs = case_of(name)
    numbers = tuple(range(len(inputs)))
    for one, other in zip(jacrev(solve, numbers)(*inputs), jacfwd(solve, numbers)(*inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    expected = torch.autograd.functional.jacobian(solve, inputs)
    for one, other in zip(jacrev(solve, numbers)(*inputs), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_hessians(name):
    solve, inputs = case_of(name)
    H, rest = inputs[0], inputs[1:]

    def loss(h):
        return solve(h, *rest).sin().sum()

    expected = torch.autograd.functional.hessian(loss, H)
    torch.testing.assert_close(hessian(loss)(H), expected, rtol=1e-8, atol=1e-10)


def test_vmap_is_a_loop(name):
    solve, inputs = case_of(name)
    H, Y = random_problem(3, n=N, k=K, m=M, seed=7)
    rest = inputs[2:]
    expected = torch.stack([solve(h, y, *rest) for h, y in zip(H, Y, strict=True)])
    mapped = vmap(solve, in_dims=(0, 0, *[None] * len(rest)))(H, Y, *rest)
    torch.testing.assert_close(mapped, expected, rtol=0, atol=1e-13)
    stacked = tuple(torch.stack([x, 1.1 * x, 1.2 * x], dim=-1) for x in rest)
    expected = torch.stack([solve(H[0], Y[0], *(x[..., i] for x in stacked)) for i in range(3)])
    mapped = vmap(solve, in_dims=(None, None, *[-1] * len(rest)))(H[0], Y[0], *stacked) if rest else expected
    torch.testing.assert_close(mapped, expected, rtol=0, atol=1e-13)


def test_vmap_over_masks():
    H, Y = random_problem(n=N, k=K, m=M)
    masks = torch.stack([allowed(seed) for seed in range(3)])
    expected = torch.stack([nnls(H, Y, allowed=mask, total=1.0).W for mask in masks])
    mapped = vmap(lambda mask: NNLSLayer(total=1.0)(H, Y, allowed=mask))(masks)
    torch.testing.assert_close(mapped, expected, rtol=0, atol=1e-13)
    signs = torch.stack([signed(), ~signed()])
    expected = torch.stack([nnls(H, Y, signed=sign).W for sign in signs])
    torch.testing.assert_close(vmap(lambda sign: NNLSLayer()(H, Y, signed=sign))(signs), expected, rtol=0, atol=1e-13)


def test_per_sample_gradients(name):
    solve, inputs = case_of(name)
    H, Y = random_problem(3, n=N, k=K, m=M, seed=7)
    rest = inputs[2:]
    gradients = vmap(grad(lambda h, y: solve(h, y, *rest).sin().sum()))(H, Y)
    h = H.clone().requires_grad_()
    (expected,) = torch.autograd.grad(solve(h, Y, *rest).sin().sum(), h)
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", [name for name in CASES if name != "ridge per entry"])
def test_agreement_with_the_cone_program(name):
    kinds, options = CASES[name]
    _, inputs = case_of(name)
    names = [kind for kind in sorted(kinds) if kind not in ("allowed", "signed")]
    fixed = {kind: MAKE[kind]() for kind in kinds if kind in ("allowed", "signed")} | options
    direction = randn(K, M, seed=9)
    results = []
    for solver in ("unrolled", "cvxpylayer"):
        H, Y, *values = leaves(inputs)
        W = nnls(H, Y, solver=solver, **fixed, **dict(zip(names, values, strict=True))).W
        results.append((W, *torch.autograd.grad((W * direction).sum(), (H, Y, *values))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile_without_graph_breaks(backend):
    solve, inputs = case_of("everything")
    H, *rest = leaves(inputs)
    W = torch.compile(solve, fullgraph=True, backend=backend)(H, *rest)
    torch.testing.assert_close(W, solve(H, *rest), rtol=0, atol=1e-13)
    found = torch.autograd.grad(W.sin().sum(), (H, *rest))
    expected = torch.autograd.grad(solve(H, *rest).sin().sum(), (H, *rest))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def difference(function, x, index, step):
    """The derivative of a scalar function by one entry of x, from above where ``step`` is positive."""
    moved = x.detach().clone()
    moved[index] += step
    return (function(moved) - function(x.detach())) / step


def test_the_gradient_of_a_weight_of_zero(either_kernel):
    """What an observation that is left out would do, if it came in."""
    H, Y = random_problem(n=N, k=K, m=M)
    omega = weights()
    omega[2] = 0
    omega.requires_grad_()

    def loss(omega):
        return NNLSLayer()(H, Y, weights=omega).sum()

    (gradient,) = torch.autograd.grad(loss(omega), omega)
    for column in range(M):
        expected = difference(loss, omega, (2, column), 1e-7)
        assert expected.abs() > 1e-3
        torch.testing.assert_close(gradient[2, column], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -1e300, 1e200])
def test_an_observation_left_out_may_be_anything(bad, either_kernel):
    H, Y = random_problem(n=N, k=K, m=M)
    omega = weights()
    omega[2, 1] = omega[5, 0] = 0
    results = []
    for y in (Y, Y.clone()):
        if results:
            y[2, 1] = y[5, 0] = bad
        inputs = leaves((H, y, omega))
        W = NNLSLayer()(inputs[0], inputs[1], weights=inputs[2])
        results.append((W, *torch.autograd.grad(W.sin().sum(), inputs)))
    (W, H_grad, Y_grad, omega_grad), (W2, H_grad2, Y_grad2, omega_grad2) = results
    torch.testing.assert_close(W2, W, rtol=0, atol=1e-14)
    torch.testing.assert_close(H_grad2, H_grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(Y_grad2, Y_grad, rtol=1e-12, atol=1e-12)
    assert omega_grad2[2, 1] == omega_grad2[5, 0] == 0  # no such observation has a derivative
    counted = omega > 0
    torch.testing.assert_close(omega_grad2[counted], omega_grad[counted], rtol=1e-12, atol=1e-12)


def test_an_upper_bound_of_zero(either_kernel):
    """Its derivative is that from above: zero for an entry that would not rise."""
    H, Y = random_problem(n=N, k=K, m=M)
    for options in ({}, {"total": 0.3, "total_kind": "at_most"}, {"total": 0.3}):
        bound = torch.tensor([[0.0], [0.0], [0.5], [0.5]], dtype=torch.float64).expand(K, M).clone().requires_grad_()

        def loss(bound, options=options):
            return (NNLSLayer()(H, Y, upper=bound, **options) * torch.arange(1.0, 13.0).reshape(K, M)).sum()

        (gradient,) = torch.autograd.grad(loss(bound), bound, create_graph=True)
        expected = torch.stack([difference(loss, bound, (i, j), 1e-7) for i in (0, 1) for j in range(M)]).reshape(2, M)
        assert (expected == 0).any() and (expected != 0).any()
        torch.testing.assert_close(gradient[:2], expected, rtol=1e-4, atol=1e-5)
        (lean,) = torch.autograd.grad(loss(bound), bound)
        torch.testing.assert_close(lean, gradient, rtol=1e-9, atol=1e-11)


def test_entries_that_are_not_allowed_have_no_gradient(either_kernel):
    H, Y = random_problem(n=N, k=K, m=M)
    mask = torch.tensor([[True], [False], [True], [False]])
    for others in ({}, {"total": 1.0}, {"weights": weights()}, {"upper": torch.full((K, 1), 0.3).double()}):
        h, penalty, ridge = leaves((H, l1(), l1()))
        W = NNLSLayer()(h, Y, allowed=mask, l1=penalty, ridge=ridge, **others)
        assert (W[1] == 0).all() and (W[3] == 0).all()
        for gradient in torch.autograd.grad(W.sin().sum(), (penalty, ridge)):
            assert (gradient[[1, 3]] == 0).all() and gradient.abs().max() > 0
        (gradient,) = torch.autograd.grad(NNLSLayer()(h, Y, allowed=mask, **others).sin().sum(), h)
        assert (gradient[:, [1, 3]] == 0).all() and gradient.abs().max() > 0
        shorter = {name: x[:2] if name == "upper" else x for name, x in others.items()}
        expected = NNLSLayer()(H[:, [0, 2]], Y, **shorter)
        torch.testing.assert_close(NNLSLayer()(H, Y, allowed=mask, **others)[[0, 2]], expected, rtol=0, atol=1e-13)


def test_ties_have_finite_gradients(either_kernel):
    """Equal columns, and entries that rest at a bound without being pressed."""
    H = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    Y = torch.tensor([[1.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    for options in ({"total": 1.0}, {"upper": torch.tensor([[0.5], [0.5], [0.5]]).double()}, {"total": 0.0}):
        inputs = leaves((H, Y))
        W = nnls(*inputs, **options).W
        for gradient in torch.autograd.grad(W.square().sum(), inputs):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["equal", "at_most"])
@pytest.mark.parametrize("m", [1, 12])
def test_the_total_has_no_gradient_where_it_leaves_one_point(m, kind, dtype, either_kernel):
    """However many columns share a matrix, which decides where the search begins."""
    bound = rand(20, K, m, seed=5).to(dtype)
    H, Y = random_problem(20, n=N, k=K, m=m, dtype=dtype)
    for point in (torch.zeros_like(bound), bound)[: 1 if kind == "at_most" else 2]:
        h, limit = leaves((H, point.sum(-2, keepdim=True)))
        W = NNLSLayer(total_kind=kind)(h, Y, total=limit, upper=bound)
        assert torch.equal(W, point)
        for create_graph in (True, False):
            for gradient in torch.autograd.grad(W.sin().sum(), (h, limit), create_graph=create_graph):
                assert (gradient == 0).all()

        def loss(t, h, y, u):
            return NNLSLayer(total_kind=kind)(h, y, total=t, upper=u).sin().sum()

        assert (vmap(grad(loss))(limit.detach(), H, Y, bound) == 0).all()


def test_autocast_does_not_reach_inside():
    solve, inputs = case_of("everything")
    inputs = leaves(x.float() for x in inputs)
    expected = torch.autograd.grad(solve(*inputs).sin().sum(), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(solve(*inputs).sin().sum(), inputs)
        twice = torch.autograd.grad(solve(*inputs).sin().sum(), inputs, create_graph=True)
    for one, two, other in zip(found, twice, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(two, other, rtol=1e-5, atol=1e-5)


def solved(A, b):
    """A⁻¹b for fractions, by elimination."""
    rows = [[*row, value] for row, value in zip(A, b, strict=True)]
    for i in range(len(rows)):
        p = next(p for p in range(i, len(rows)) if rows[p][i] != 0)
        rows[i], rows[p] = rows[p], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for j in range(len(rows)):
            if j != i and rows[j][i] != 0:
                rows[j] = [x - rows[j][i] * y for x, y in zip(rows[j], rows[i], strict=True)]
    return [row[-1] for row in rows]


def exact_gradient(H, direction, free, *, summed):
    """∂/∂Y of ⟨direction, W⟩ for given free sets, one column after the other, in fractions."""
    gradients = torch.zeros(len(H), free.shape[1], dtype=torch.float64)
    for column in range(free.shape[1]):
        members = free[:, column].nonzero().flatten().tolist()
        F = [[Fraction(x) for x in H[:, i].tolist()] for i in members]
        K = [[sum(x * y for x, y in zip(f, g, strict=True)) for g in F] for f in F]
        right = [Fraction(direction[i, column].item()) for i in members]
        if summed:
            K = [[*row, Fraction(1)] for row in K] + [[Fraction(1)] * len(members) + [Fraction(0)]]
            right.append(Fraction(0))
        v = solved(K, right)[: len(members)]
        products = [sum(x * f[i] for x, f in zip(v, F, strict=True)) for i in range(len(H))]
        gradients[:, column] = torch.tensor([float(x) for x in products], dtype=torch.float64)
    return gradients


@pytest.mark.parametrize("options", [{"total": 1.0}, {"upper": 0.25}, {"signed": torch.ones(6, 1, dtype=torch.bool)}])
def test_accuracy_on_an_ill_conditioned_basis(options, either_kernel):
    H = with_condition(20, 6, 1e5)
    Y = H @ (0.3 * rand(6, 12, seed=3)) + 1e-8 * randn(20, 12)
    y = Y.clone().requires_grad_()
    W = nnls(H, y, **options).W
    free = W != 0 if "upper" not in options else (W > 0) & (options["upper"] > W)
    assert free.sum() > 16
    direction = randn(6, 12, seed=5)
    (gradient,) = torch.autograd.grad((W * direction).sum(), y)
    expected = exact_gradient(H, direction, free, summed="total" in options)
    error = (gradient - expected).norm() / expected.norm()
    assert error <= 1e-9, error


def test_the_custom_operator_keeps_its_promises():
    H, Y = random_problem(2, n=N, k=K, m=M)
    constraints = {"weights": weights(), "total": total(), "upper": upper(), "signed": signed()}
    for chosen in (constraints, {"total": total()}, {"weights": weights()}, {"signed": signed()}):
        p = make_problem(H, Y, asked=Asked(**chosen))
        c = p.constraints
        inputs = (p.H, p.Y, p.ridge, p.l1, None, c.weights, c.total, c.upper, c.signed, False, False)
        torch.library.opcheck(_constrained_solution, inputs)


SHARED = [{}, {"total": 1.0}, {"upper": 0.3}, {"total": 1.0, "total_kind": "at_most", "l1": 0.1}, {"ridge": 0.2}]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("asked", SHARED)
def test_weights_that_columns_share_are_those_of_each(asked, dtype):
    """They have one Gram matrix for all columns."""
    generator = torch.Generator().manual_seed(0)
    H, Y = (torch.randn(2, 20, x, generator=generator, dtype=dtype) for x in (6, 5))
    shared = torch.rand(2, 20, 1, generator=generator, dtype=dtype)
    shared[:, 3] = 0.0  # whose gradient is a number, too

    def found(weights):
        inputs = [x.clone().requires_grad_() for x in (H, Y, weights)]
        W = NNLSLayer(**asked)(inputs[0], inputs[1], weights=inputs[2])
        return W, *torch.autograd.grad(W.square().sum(), inputs)

    one, each = found(shared), found(shared.expand(-1, -1, 5).contiguous())
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    for a, b in zip(one[:3], each[:3], strict=True):
        torch.testing.assert_close(a, b, **close)
    torch.testing.assert_close(one[3], each[3].sum(-1, keepdim=True), **close)
    mapped = torch.func.vmap(lambda h, y, w: NNLSLayer(**asked)(h, y, weights=w))(H, Y, shared)
    torch.testing.assert_close(mapped, one[0], **close)


def test_shared_weights_leave_out_what_is_no_number():
    H, Y = torch.rand(20, 4).double(), torch.rand(20, 3).double()
    weights = torch.ones(20, 1).double()
    weights[5] = 0.0
    Y[5, 1] = torch.nan
    torch.testing.assert_close(
        NNLSLayer(weights=weights)(H, Y), NNLSLayer()(H[torch.arange(20) != 5], Y[torch.arange(20) != 5])
    )


def test_second_derivatives_of_shared_weights():
    H, Y = torch.rand(8, 3).double().requires_grad_(), torch.rand(8, 2).double()
    weights = (torch.rand(8, 1).double() + 0.1).requires_grad_()
    layer = NNLSLayer(total=1.0)
    assert torch.autograd.gradgradcheck(lambda h, w: layer(h, Y, weights=w), (H, weights))
