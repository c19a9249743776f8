"""The contract of every constraint, alone and with others: what W obeys, that it is optimal, and what comes with it."""

import itertools

import pytest
import torch
from helpers import EXACT_TO_ROUNDING, randn, slow
from nnls_problems import constrained_kkt, random_problem

from diffnmf import nnls, nnls_gram
from diffnmf.errors import ConvergenceWarning
from diffnmf.kernels import kernel
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import largest_useful_l1
from diffnmf.solvers.constrained.ranges import constrained_in_range
from diffnmf.solvers.constraints import Asked
from diffnmf.solvers.optimality import optimality
from diffnmf.solvers.problem import make_problem

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
N, K, M = 10, 5, 6


def options_of(kinds, dtype=torch.float64, n=N, k=K, m=M):
    """Constraints of these kinds that can be obeyed together."""
    column = torch.arange(k)[:, None]
    every = {
        "allowed": {"allowed": (column + torch.arange(m)) % 3 != 0},
        "weights": {"weights": (randn(n, m, seed=3).abs() * (randn(n, m, seed=4) > -1)).to(dtype)},
        "row_weights": {"weights": (randn(n, 1, seed=3).abs() * (randn(n, 1, seed=4) > -1)).to(dtype)},
        "equal": {"total": torch.full((1, m), 0.75, dtype=dtype)},
        "at_most": {"total": torch.where(torch.arange(m) % 2 == 1, 0.0625, 4.0).to(dtype), "total_kind": "at_most"},
        "upper": {"upper": torch.full((k, 1), 0.375, dtype=dtype)},
        "signed": {"signed": column % 2 == 0},
        "l1": {"l1": randn(k, m, seed=5).abs().to(dtype)},
        "ridge": {"ridge": randn(k, m, seed=6).abs().to(dtype)},
    }
    return {name: value for kind in kinds for name, value in every[kind].items()}


KINDS = ("allowed", "weights", "row_weights", "equal", "at_most", "upper", "signed", "l1", "ridge")
ALONE = [(kind,) for kind in KINDS]
PAIRS = [
    pair
    for pair in itertools.combinations(("allowed", "weights", "equal", "at_most", "upper", "signed", "l1", "ridge"), 2)
    if pair != ("equal", "at_most")
]
ALL = [
    ("allowed", "weights", "at_most", "upper", "signed", "l1", "ridge"),
    ("allowed", "weights", "equal", "upper", "signed", "l1", "ridge"),
    ("allowed", "row_weights", "equal", "upper", "signed", "l1"),
]
SETS = ALONE + PAIRS + ALL


def named(kinds):
    if len(kinds) < 4:
        return "+".join(kinds)
    return "all with " + " and ".join(kind for kind in ("equal", "at_most", "row_weights") if kind in kinds)


@pytest.fixture(params=["compiled", "torch_alone"])
def either_kernel(request) -> str:
    request.getfixturevalue(request.param)
    assert kernel().name == {"compiled": "c", "torch_alone": "torch"}[request.param]
    return request.param


@pytest.mark.parametrize("kinds", SETS, ids=named)
def test_optimal_and_obedient(kinds, either_kernel):
    H, Y = random_problem(n=N, k=K, m=M)
    options = options_of(kinds)
    solution = nnls(H, Y, **options)
    assert max(constrained_kkt(H, Y, solution.W, **options)) <= 1e-13
    assert solution.converged and solution.kkt_residual <= 1e-13
    W = solution.W
    if "allowed" in kinds:
        assert (W[~options["allowed"]] == 0).all()
    if "signed" not in kinds:
        assert (W >= 0).all()
    if "upper" in kinds:
        assert (options["upper"] >= W).all() and (options["upper"] == W).any()
    if "equal" in kinds:
        torch.testing.assert_close(W.sum(0, keepdim=True), options["total"], rtol=0, atol=1e-14)
    if "at_most" in kinds:
        assert (W.sum(0) <= options["total"] + 1e-14).all()


def test_the_check_notices_what_is_wrong():
    """Of each kind one solution that is not: the independent check has to tell."""
    H, Y = random_problem(n=N, k=K, m=M)
    for kinds in ALONE + ALL:
        options = options_of(kinds)
        W = nnls(H, Y, **options).W
        assert max(constrained_kkt(H, Y, W + 1e-6, **options)) > 1e-9
    plain = nnls(H, Y).W
    for kinds in ALONE:
        assert max(constrained_kkt(H, Y, plain, **options_of(kinds))) > 1e-6, kinds


@pytest.mark.parametrize("solver", EXACT_TO_ROUNDING)
def test_every_exact_solver_has_the_same_answer(solver):
    H, Y = random_problem(n=N, k=K, m=M)
    for kinds in ALONE + ALL:
        options = options_of(kinds)
        expected = nnls(H, Y, **options).W
        torch.testing.assert_close(nnls(H, Y, solver=solver, **options).W, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kinds", ALONE + ALL, ids=named)
def test_every_dtype(kinds, dtype, either_kernel):
    H, Y = random_problem(n=N, k=K, m=M, dtype=dtype)
    options = options_of(kinds, dtype)
    solution = nnls(H, Y, **options)
    assert solution.W.dtype == dtype and solution.converged
    assert solution.dual.dtype == solution.total_dual.dtype == torch.float64
    assert max(constrained_kkt(H, Y, solution.W, **options)) <= TOLERANCE[dtype]
    if "upper" in kinds:  # exactly, in every dtype
        assert (options["upper"] >= solution.W).all()


def as_float64(options):
    """Those of a problem besides weights, l1 and ridge."""
    others = {name: x for name, x in options.items() if name not in ("weights", "l1", "ridge")}
    floating = {n: x.double() for n, x in others.items() if isinstance(x, torch.Tensor) and x.is_floating_point()}
    return others | floating


def test_constraints_of_another_dtype():
    """They are of the dtype of W, but for weights, and penalties beside them, which stay as precise as they are."""
    H, Y = random_problem(n=N, k=K, m=M, dtype=torch.float32)
    for kinds in ALONE + ALL:
        given, rounded = options_of(kinds), options_of(kinds, torch.float32)
        W = nnls(H, Y, **given).W
        assert W.dtype == torch.float32
        expected = nnls(H, Y, **rounded).W
        if "weights" in given:
            precise = {name: given[name] for name in ("weights", "l1", "ridge") if name in given}
            expected = nnls(H.double(), Y.double(), **as_float64(rounded), **precise).W.float()
        torch.testing.assert_close(W, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("batch_H", "batch_Y"), [((), ()), ((2,), (2,)), ((), (3,)), ((3,), ()), ((2, 1), (1, 3)), ((2, 3), (2, 3))]
)
@pytest.mark.parametrize("kinds", [("weights",), ("allowed", "equal"), *ALL], ids=named)
def test_a_batch_is_a_loop(batch_H, batch_Y, kinds):
    H, Y = random_problem(*batch_H, n=N, k=K, m=1)[0], random_problem(*batch_Y, n=N, k=1, m=M)[1]
    options = options_of(kinds)
    W = nnls(H, Y, **options).W
    batch = torch.broadcast_shapes(batch_H, batch_Y)
    assert W.shape == (*batch, K, M)
    H, Y, W = (x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (H, Y, W))
    for h, y, w in zip(H, Y, W, strict=True):
        torch.testing.assert_close(w, nnls(h, y, **options).W, rtol=0, atol=1e-13)


def test_constraints_with_a_batch_dimension():
    H, Y = random_problem(3, n=N, k=K, m=M)
    options = options_of(ALL[1])
    factors = torch.tensor([0.9, 1.0, 1.1], dtype=torch.float64)[:, None, None]
    batched = {
        name: torch.stack([x, ~x | (torch.arange(K)[:, None] < 2), x]) if x.dtype == torch.bool else x * factors
        for name, x in options.items()
        if name != "total_kind"
    }
    W = nnls(H, Y, **batched).W
    for i in range(3):
        alone = nnls(H[i], Y[i], **{name: x[i] for name, x in batched.items()}).W
        torch.testing.assert_close(W[i], alone, rtol=0, atol=1e-13)


def test_memory_layout_does_not_matter(either_kernel):
    H, Y = random_problem(2, n=N, k=K, m=M)
    for kinds in ALONE + ALL:
        options = options_of(kinds)
        expected = nnls(H, Y, **options).W
        turned = {
            name: x.mT.contiguous().mT if isinstance(x, torch.Tensor) and x.ndim == 2 else x
            for name, x in options.items()
        }
        W = nnls(H.mT.contiguous().mT, Y.movedim(0, 2).contiguous().movedim(2, 0), **turned).W
        torch.testing.assert_close(W, expected, rtol=0, atol=1e-13)
        one = nnls(H[:1].expand(2, -1, -1), Y[:1].expand(2, -1, -1), **options).W
        torch.testing.assert_close(one, expected[:1].expand(2, -1, -1), rtol=0, atol=1e-13)


@pytest.mark.parametrize("other", ["upper", "signed", "weights"])
def test_the_kind_of_a_total_that_is_not_there_does_not_matter(other):
    """A layer may be made for sums that only some of its calls give."""
    H, Y = random_problem(n=N, k=K, m=M)
    asked = {"upper": 0.3, "signed": torch.eye(K, M) > 0, "weights": Y.abs()}[other]
    expected = nnls(H, Y, **{other: asked}).W
    assert torch.equal(nnls(H, Y, total_kind="at_most", **{other: asked}).W, expected)
    layer = NNLSLayer(total_kind="at_most", **{other: asked})
    assert torch.equal(layer(H, Y), expected)
    assert (layer(H, Y, total=0.5).sum(-2) <= 0.5 + 1e-9).all()


def test_numbers_are_tensors():
    H, Y = random_problem(n=N, k=K, m=M)
    one = torch.ones((), dtype=torch.float64)
    for number, tensor in (
        ({"total": 1}, {"total": one}),
        ({"total": 1.0}, {"total": one.expand(1, M)}),
        ({"upper": 1}, {"upper": one}),
        ({"upper": torch.inf}, {"upper": one * torch.inf}),
    ):
        assert torch.equal(nnls(H, Y, **number).W, nnls(H, Y, **tensor).W)
    torch.testing.assert_close(nnls(H, Y, upper=torch.inf).W, nnls(H, Y).W, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kinds", ALONE + ALL, ids=named)
@pytest.mark.parametrize(
    ("batch", "n", "k", "m"), [((), 0, K, M), ((2,), 0, K, M), ((2,), N, 0, M), ((2,), N, K, 0), ((0,), N, K, M)]
)
def test_empty_problems(kinds, batch, n, k, m):
    if k == 0 and "equal" in kinds:
        pytest.skip("nothing sums to what is asked: see the test of the errors")
    H, Y = torch.rand(*batch, n, k, requires_grad=True), torch.rand(*batch, n, m)
    options = options_of(kinds, torch.float32, n, k, m)
    if n == 0 and "signed" in kinds:
        options.pop("l1", None)  # has no minimum
    solution = nnls(H, Y, **options)
    assert solution.W.shape == solution.dual.shape == (*batch, k, m)
    assert solution.total_dual.shape == (*batch, 1, m)
    assert solution.converged.all()
    if "equal" in kinds and solution.W.numel():
        torch.testing.assert_close(solution.W.sum(-2), torch.full((*batch, m), 0.75))
    solution.W.sum().backward()
    assert H.grad is None or H.grad.shape == H.shape


@pytest.mark.parametrize("kinds", ALONE + ALL, ids=named)
def test_a_warm_start_changes_the_work_and_not_the_result(kinds, either_kernel):
    H, Y = random_problem(2, n=N, k=K, m=M)
    options = options_of(kinds)
    cold = nnls(H, Y, **options)
    for W0 in (
        cold.W,
        torch.rand(2, K, M),
        -torch.rand(2, K, M),
        torch.full((K, M), torch.nan),
        1e9 * torch.rand(K, M),
    ):
        warm = nnls(H, Y, W0=W0, **options)
        assert warm.converged.all()
        torch.testing.assert_close(warm.W, cold.W, rtol=0, atol=1e-12)
    assert (nnls(H, Y, W0=cold.W, **options).iterations <= cold.iterations).all()


def test_a_start_at_the_solution_saves_the_work(compiled):
    H, Y = random_problem(n=60, k=20, m=M)
    cold = nnls(H, Y, total=1.0)
    assert nnls(H, Y, total=1.0, W0=cold.W).iterations < cold.iterations


@pytest.mark.parametrize("kinds", ALONE + ALL, ids=named)
def test_rows(kinds):
    H, Y = random_problem(2, n=N, k=K, m=M)
    options = options_of(kinds)
    expected = NNLSLayer(**options)(H, Y)
    turned = {name: x.mT if isinstance(x, torch.Tensor) and x.ndim == 2 else x for name, x in options.items()}
    if "at_most" in kinds:
        turned["total"] = options["total"][:, None]
    layer = NNLSLayer(rows=True, **turned)
    torch.testing.assert_close(layer(H, Y.mT), expected.mT, rtol=0, atol=1e-14)
    torch.testing.assert_close(layer(H, Y.mT, W0=expected.mT), expected.mT, rtol=0, atol=1e-12)
    called = NNLSLayer(rows=True)(H, Y.mT, **turned)
    torch.testing.assert_close(called, expected.mT, rtol=0, atol=1e-14)


def test_the_layer_keeps_tensors_as_buffers():
    options = options_of(ALL[1])
    layer = NNLSLayer(**options)
    assert set(dict(layer.named_buffers())) == set(options) == set(layer.state_dict())
    other = NNLSLayer(**{name: torch.zeros_like(x) for name, x in options.items()})
    other.load_state_dict(layer.state_dict())
    H, Y = random_problem(n=N, k=K, m=M)
    assert torch.equal(other(H, Y), layer(H, Y))
    assert layer.float().upper.dtype == torch.float32 and layer.allowed.dtype == torch.bool
    assert layer(H.float(), Y.float()).dtype == torch.float32
    bound = torch.nn.Parameter(torch.full((K, 1), 0.1, dtype=torch.float64))
    learned = NNLSLayer(upper=bound)
    assert next(iter(learned.parameters())) is bound
    learned(H, Y).sum().backward()
    assert bound.grad.abs().max() > 0


def test_what_the_layer_shows():
    shown = repr(NNLSLayer(rows=True, total=1.0, upper=torch.ones(5, 1), signed=torch.ones(5, 1) > 0))
    for part in ("rows=True", "total=1.0", "total_kind='equal'", "upper=tensor(5, 1)", "signed=tensor(5, 1)"):
        assert part in shown
    plain = repr(NNLSLayer())
    for name in ("allowed", "weights", "total", "upper", "signed", "rows"):
        assert name not in plain


def test_a_call_replaces_what_the_layer_has():
    H, Y = random_problem(n=N, k=K, m=M)
    layer = NNLSLayer(total=1.0, upper=0.9)
    assert torch.equal(layer(H, Y, total=0.5), NNLSLayer(total=0.5, upper=0.9)(H, Y))
    expected = NNLSLayer(total=0.5, upper=0.2, total_kind="at_most")(H, Y)
    assert torch.equal(layer(H, Y, total=0.5, upper=0.2, total_kind="at_most"), expected)


@pytest.mark.parametrize("kinds", [*ALONE, ("allowed", "equal"), ("upper", "equal"), ("weights", "at_most")], ids=named)
def test_dual_variables_are_derivatives(kinds):
    """``dual`` of the objective by W, ``total_dual`` of the minimum by the total: both by finite differences."""
    H, Y = random_problem(n=N, k=K, m=M)
    options = options_of(kinds)
    solution = nnls(H, Y, **options)

    def objective(W):
        residual = (Y - H @ W).square() * options.get("weights", 1.0)
        return (
            0.5 * residual.sum() + (options.get("l1", 0.0) * W + 0.5 * options.get("ridge", 0.0) * W * W).sum()
        ).item()

    step = 1e-5
    for i, j in itertools.product(range(K), range(M)):
        moved = [solution.W.clone() for _ in range(2)]
        moved[0][i, j] += step
        moved[1][i, j] -= step
        slope = (objective(moved[0]) - objective(moved[1])) / (2 * step)
        assert abs(solution.dual[i, j].item() - slope) <= 1e-7
    for j in range(M):
        if "total" not in options:
            assert (solution.total_dual == 0).all()
            continue
        values = []
        for sign in (1, -1):
            total = options["total"].reshape(1, M).clone()
            total[0, j] += sign * step
            values.append(objective(nnls(H, Y, **options | {"total": total}).W))
        assert abs(solution.total_dual[0, j].item() - (values[0] - values[1]) / (2 * step)) <= 1e-7


@pytest.mark.parametrize("size", [1e-60, 1e-40, 1e40, 1e60])
def test_dual_and_largest_l1_with_weights_of_any_size(size):
    """The objective has no unit of its own: weights, penalties and duals grow together."""
    H, Y = random_problem(n=N, k=K, m=M)
    omega = randn(N, M, seed=3).abs()
    usual = nnls(H, Y, weights=omega, total=0.5)
    scaled = nnls(H, Y, weights=omega * size, total=0.5)
    torch.testing.assert_close(scaled.W, usual.W, rtol=0, atol=1e-13)
    torch.testing.assert_close(scaled.dual / size, usual.dual, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(scaled.total_dual / size, usual.total_dual, rtol=1e-10, atol=1e-12)
    usual, scaled = nnls(H, Y, weights=omega), nnls(H, Y, weights=omega * size)
    torch.testing.assert_close(scaled.largest_useful_l1 / size, usual.largest_useful_l1, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("scale", "size"), [(1e20, 1e-32), (1e-21, 1e34), (1.0, 1e-35)])
def test_weights_and_penalties_of_any_size_in_float32(scale, size):
    """Their quotient may be beyond what float32 holds."""
    H, Y = random_problem(n=N, k=K, m=M)
    omega, ridge, l1 = randn(N, M, seed=3).abs(), randn(K, 1, seed=6).abs(), randn(K, M, seed=5).abs()
    expected = nnls(H, Y, weights=omega, ridge=ridge, l1=l1, upper=2.0).W
    given = {"weights": omega * size, "ridge": ridge * scale**2 * size, "l1": l1 * scale * scale * size}
    leaves = [(H * scale).float().requires_grad_(), (Y * scale).float()]
    solution = nnls(*leaves, upper=2.0, **{name: x.float() for name, x in given.items()})
    assert solution.converged
    torch.testing.assert_close(solution.W.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(solution.W.sum(), leaves[0])[0].isfinite().all()


@pytest.mark.parametrize("size", [1e-300, 1e-50, 1e50, 1e200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_float64_weights_that_the_dtype_of_y_cannot_hold(size, dtype, either_kernel):
    """As nothing but their proportions matters, the answer is that of usual ones, with gradient and diagnostics."""
    H, Y = random_problem(n=N, k=K, m=M, dtype=dtype)
    H.requires_grad_()
    omega, ridge, l1 = randn(N, M, seed=3).abs(), 0.03, 0.04 * randn(K, M, seed=5).abs()
    solutions = [nnls(H, Y, weights=omega * unit, ridge=ridge * unit, l1=l1 * unit, upper=2.0) for unit in (1.0, size)]
    usual, scaled = solutions
    assert scaled.converged and scaled.W.any()
    torch.testing.assert_close(scaled.W, usual.W, rtol=1e-6, atol=0)
    torch.testing.assert_close(scaled.dual / size, usual.dual, rtol=1e-10, atol=1e-7)
    torch.testing.assert_close(scaled.largest_useful_l1 / size, usual.largest_useful_l1, rtol=1e-12, atol=0)
    expected, found = (torch.autograd.grad(solution.W.sum(), H)[0] for solution in solutions)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kinds", [("allowed",), ("weights",), ("upper",), ("at_most",), ("weights", "at_most")], ids=named
)
def test_largest_useful_l1(kinds):
    H, Y = random_problem(2, n=N, k=K, m=M)
    options = options_of(kinds)
    largest = nnls(H, Y, **options).largest_useful_l1
    assert (nnls(H, Y, l1=largest[..., None, None], **options).W == 0).all()
    assert (nnls(H, Y, l1=0.99 * largest[..., None, None], **options).W != 0).flatten(1).any(1).all()


def test_largest_useful_l1_of_what_is_zero_anyway_and_of_what_never_is():
    H, Y = random_problem(2, n=N, k=K, m=M)
    assert (nnls(H, Y, total=1.0).largest_useful_l1 == torch.inf).all()
    assert (nnls(H, Y, signed=torch.ones(K, 1) > 0).largest_useful_l1 == torch.inf).all()
    assert torch.equal(nnls(H, Y, signed=torch.zeros(K, 1) > 0).largest_useful_l1, largest_useful_l1(H, Y))
    for zero in ({"total": 0.0}, {"total": 0.0, "total_kind": "at_most"}, {"upper": 0.0}):
        assert (nnls(H, Y, **zero).largest_useful_l1 == 0).all()
    some = torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]], dtype=torch.float64)
    bounded = nnls(H, Y, upper=some)
    assert torch.equal(bounded.largest_useful_l1, nnls(H, Y, allowed=some > 0).largest_useful_l1)


@pytest.mark.parametrize(
    "kinds", [("signed",), ("upper",), ("equal",), ("at_most",), ("weights", "upper", "equal")], ids=named
)
@pytest.mark.parametrize("price", [1e10, 1e14, 1e20, 1e300])
def test_a_price_that_keeps_an_entry_at_zero_is_felt_by_no_other(kinds, price, either_kernel):
    """As if the entry was not allowed, however large its l1 is."""
    H, Y = random_problem(n=N, k=K, m=M)
    options, dear = options_of(kinds), torch.arange(K)[:, None] == 3
    expected = nnls(H, Y, allowed=~dear, **options)
    l1 = dear.double() * price
    solution = nnls(H, Y, l1=l1, **options)
    assert solution.converged and expected.W[:3].any()
    torch.testing.assert_close(solution.W, expected.W, rtol=0, atol=1e-13)
    warm = nnls(H, Y, l1=l1, W0=torch.ones(K, M), **options)
    assert warm.converged
    torch.testing.assert_close(warm.W, expected.W, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kinds", [(), ("signed",), ("upper",), ("weights", "ridge", "l1")], ids=named)
@pytest.mark.parametrize("limit", [1e3, 1e9, 1e15, 1e100])
def test_a_sum_far_below_what_is_allowed_is_as_free_as_without(kinds, limit, either_kernel):
    H, Y = random_problem(2, n=N, k=K, m=M)
    H[1], Y[1] = H[1].abs(), Y[1].abs()
    Y[0, :, 2] = 0
    options = options_of(kinds)
    expected = nnls(H, Y, **options).W
    total = torch.full((1, M), limit, dtype=torch.float64)
    total[:, 3] = 0.01  # a column that the sum holds beside those that it does not
    held = nnls(H, Y, total=0.01, total_kind="at_most", **options).W
    solution = nnls(H, Y, total=total, total_kind="at_most", **options)
    assert solution.converged.all()
    expected[..., 3] = held[..., 3]
    torch.testing.assert_close(solution.W, expected, rtol=0, atol=1e-13)
    assert (solution.total_dual[..., [0, 1, 2, 4, 5]] == 0).all()


def test_a_sum_that_needs_all_that_is_allowed(either_kernel):
    """Far more than ‖y‖: two columns that nearly cancel each other, with a limit on either side of what they take."""
    H = torch.tensor([[1.0, -1.0], [0.0, 1e-4]], dtype=torch.float64)
    y = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # W = (1e4, 1e4) without a limit
    for limit in (1e3, 1e4, 1.9e4, 2.1e4, 1e12):
        options = {"total": limit, "total_kind": "at_most"}
        solution = nnls(H, y, **options)
        assert solution.converged
        assert max(constrained_kkt(H, y, solution.W, **options)) <= 1e-13
        torch.testing.assert_close(solution.W.sum().item(), min(limit, 2e4), rtol=1e-9, atol=0)


def test_a_w_that_is_wrong_below_a_large_limit_is_told():
    """The limit is no excuse: what W misses is measured by y."""
    H, Y = random_problem(n=N, k=K, m=M)
    problem = constrained_in_range(make_problem(H, Y, asked=Asked(total=1e15, total_kind="at_most")), may_look=True)
    right = nnls(H, Y).W
    assert optimality(problem.problem, right[None]).residual <= 1e-13
    assert optimality(problem.problem, torch.zeros_like(right[None])).residual > 0.1
    assert optimality(problem.problem, right[None] + 1e-6).residual > 1e-8


def test_a_linear_term_that_the_sum_takes_up():
    """The l1 that all entries share only moves the multiplier: nothing of it is left in W, and none in the verdict."""
    H, Y = random_problem(n=N, k=K, m=M)
    expected = nnls(H, Y, total=1.0).W
    for size in (1.0, 1e4, 1e8):
        solution = nnls(H, Y, total=1.0, l1=size)
        assert solution.converged
        torch.testing.assert_close(solution.W, expected, rtol=0, atol=1e-14 * size + 1e-13)
    H = torch.tensor([[-2.1e24], [-1.5e24]], dtype=torch.float64)
    solution = nnls(H, torch.tensor([[-1.7e-6], [-1.2e-6]], dtype=torch.float64), total=3e-30, l1=5.461480e28)
    assert solution.W == 3e-30 and solution.converged


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_plain_problem_stays_what_it_is(dtype, either_kernel):
    """To the bit, where no constraint is asked for, or one that is none."""
    H, Y = random_problem(3, n=N, k=K, m=M, dtype=dtype)
    nothing = dict.fromkeys(("allowed", "weights", "total", "upper", "signed"))
    h, g = H.clone().requires_grad_(), H.clone().requires_grad_()
    plain, same = NNLSLayer()(h, Y), NNLSLayer(**nothing)(g, Y, total_kind="at_most")
    assert torch.equal(plain, same)
    assert plain.grad_fn is not None and "Constrained" not in str(plain.grad_fn.next_functions)
    for one, other in zip(torch.autograd.grad(plain.sum(), h), torch.autograd.grad(same.sum(), g), strict=True):
        assert torch.equal(one, other)
    every = torch.ones(K, 1, dtype=torch.bool)
    assert torch.equal(NNLSLayer(allowed=every)(H, Y), plain.detach())


def test_threads_do_not_change_a_bit(compiled):
    H, Y = random_problem(n=30, k=12, m=600)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append([nnls(H, Y, **o).W for o in ({"total": 1.0}, {"upper": 0.2}, {"total": 1.0, "upper": 0.3})])
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_inputs_are_left_as_they_are():
    H, Y = random_problem(n=N, k=K, m=M)
    options = options_of(("allowed", "weights", "equal", "upper", "l1"))
    copies = [x.clone() for x in (H, Y, *options.values())]
    nnls(H, Y, W0=(start := torch.rand(K, M)), **options)
    first = start.clone()
    nnls(H, Y, W0=start, **options)
    assert torch.equal(start, first)
    for x, copy in zip((H, Y, *options.values()), copies, strict=True):
        assert torch.equal(x, copy)


def test_ls_hals_leaves_out_what_is_not_allowed():
    """It is no exact solver, but what it may not use must not pull at what it may."""
    H, Y = random_problem(n=N, k=K, m=M)
    mask = torch.tensor([[True], [False], [True], [True], [False]])
    with pytest.warns(ConvergenceWarning):
        W = nnls(H, Y, solver="ls_hals", allowed=mask, backward="unrolled").W
    assert (W[~mask.squeeze()] == 0).all()
    assert (W - nnls(H, Y, allowed=mask).W).abs().max() < 0.1


@pytest.mark.parametrize("kernel_", ["compiled", "torch_alone"])
def test_under_a_sum_the_cheaper_entry_is_taken_however_much_both_cost(kernel_, request):
    """An l1 far beyond HᵀY, in units of a tiny total: the differences count, not what is left of them at a limit."""
    request.getfixturevalue(kernel_)
    H = torch.tensor([[3e29, -2e30]], dtype=torch.float64)
    l1 = torch.tensor([[5.6e28], [3.5e28]], dtype=torch.float64)
    solution = nnls(H, torch.ones(1, 1, dtype=torch.float64), weights=torch.zeros(1, 1).double(), total=2e-30, l1=l1)
    assert solution.converged
    torch.testing.assert_close(solution.W, torch.tensor([[0.0], [2e-30]], dtype=torch.float64), rtol=1e-12, atol=0)


def test_columns_of_very_different_length_in_a_sum():
    """Of the free entries one is worth 1e8 times as much of the sum as the other: rounding must not go there."""
    random = torch.Generator().manual_seed(0)

    def near(*numbers):
        values = torch.tensor([numbers], dtype=torch.float64)
        return values * (1 + 1e-3 * torch.randn(values.shape, generator=random, dtype=torch.float64))

    for _ in range(60):
        H, Y = near(3.4558e-04, 8.2162e-03, 3.3044e04, -1.3032e-01), near(-0.537, 0.5811, 0.3646, 0.2941, 0.0284)
        options = {"total": torch.tensor([[0.0, 1, 0, 1, 3]]).double(), "l1": near(0.1456, 0.2942, 0.2885, 0.2174).mT}
        outside, wrong = constrained_kkt(H, Y, nnls(H, Y, **options).W, **options)
        assert max(outside, wrong) <= 1e-14


@pytest.mark.parametrize("kernel_", ["compiled", "torch_alone"])
def test_a_large_price_on_one_entry_leaves_the_others_their_digits(kernel_, request):
    """In units of the free entries the price of the one that has the sum is 1e4: not so much is rounding to them."""
    request.getfixturevalue(kernel_)
    random = torch.Generator().manual_seed(0)
    lengths = torch.tensor([1e-5, 1e4, 1e5, 1e-6, 1e5, 1e3], dtype=torch.float64)
    l1 = torch.tensor([[0.1], [0.0], [0.0], [0.1], [0.2], [0.1]], dtype=torch.float64)
    options = {"total": 3.0, "l1": l1, "signed": l1 == 0}
    for _ in range(20):
        H = torch.randn(8, 6, generator=random, dtype=torch.float64) * lengths
        Y = torch.randn(8, 4, generator=random, dtype=torch.float64)
        assert max(constrained_kkt(H, Y, nnls(H, Y, **options).W, **options)) <= 1e-14


@pytest.mark.parametrize("constraints", [{"total": 1.0}, {"total": 1.1, "total_kind": "at_most"}, {"upper": 2.0}])
@pytest.mark.usefixtures("every_variant")
def test_where_most_entries_are_free_the_search_begins_with_all_of_them(constraints):
    """From a vertex it would take as many steps as there are free entries, 20 here."""
    H = randn(100, 20, seed=0).abs()
    W = 0.02 + randn(20, 50, seed=1).abs()
    solution = nnls(H, H @ (W / W.sum(0)), **constraints)
    assert solution.iterations == 0
    torch.testing.assert_close(solution.W, W / W.sum(0))


@pytest.mark.parametrize("constraints", [{"total": 1.0}, {"total": 1.0, "total_kind": "at_most"}, {"upper": 0.25}])
@pytest.mark.usefixtures("every_variant")
def test_a_search_that_begins_with_all_entries_ends_where_one_from_a_vertex_does(constraints):
    H = randn(100, 20, seed=0).abs()
    Y = H @ randn(20, 50, seed=1).abs() / 8 + 0.3 * randn(100, 50, seed=2).abs()
    many = nnls(H, Y, **constraints)
    single = [nnls(H, y[:, None], **constraints) for y in Y.T]  # for so few columns nothing is inverted
    assert many.iterations < max(x.iterations for x in single)
    torch.testing.assert_close(many.W, torch.cat([x.W for x in single], dim=1))


@pytest.mark.usefixtures("every_variant")
@pytest.mark.parametrize(("n", "k", "step"), [(30, 64, 2), (9, 23, 2), (20, 40, 1)])
def test_signed_entries_of_dependent_columns(n, k, step):
    """No bound stops them: an inverse that had lost its digits gave weights of 1e60, and no way on from there."""
    signed = (torch.arange(k) % step == 0)[:, None]
    for seed in range(5):
        H, Y = randn(n, k, seed=seed).abs(), randn(n, 20, seed=100 + seed)
        solution = nnls(H, Y, signed=signed)
        assert solution.converged
        assert (Y - H @ solution.W).norm() < 1e-10 * Y.norm()
        from_gram = nnls_gram(H.T @ H, H.T @ Y, signed=signed).W
        assert (Y - H @ from_gram).norm() < 1e-5 * Y.norm()


@pytest.mark.usefixtures("every_variant")
def test_a_warm_start_beside_enormous_prices_keeps_the_sum():
    """Beside a price of 1e16 an entry that was 27 below its bound counted as there, but for rounding."""
    for seed in range(30):
        H, Y, W0 = randn(1, 7, seed=seed).abs(), torch.zeros(1, 8).double(), 2 * randn(7, 8, seed=seed).abs()
        W = NNLSLayer(total=1.0, l1=1e16)(H, Y, W0=W0)
        torch.testing.assert_close(W.sum(0), torch.ones(8).double())


@pytest.mark.parametrize("asked", [{"total": 1.0}, {"upper": 5.0}, {"weights": torch.ones(9, 1)}])
def test_a_negative_ridge_makes_its_columns_nan(asked):
    """There may be no minimum, or several."""
    H, Y, ridge = randn(9, 4, seed=0), randn(9, 3, seed=1), torch.zeros(4, 3).double()
    ridge[2, 1] = -3.0
    with pytest.warns(ConvergenceWarning):
        solution = nnls(H, Y, ridge=ridge, **asked)
    assert not solution.converged
    assert solution.W.isnan().any(0).tolist() == [False, True, False]
    torch.testing.assert_close(solution.W[:, [0, 2]], nnls(H, Y[:, [0, 2]], **asked).W)


EXPORTED = [
    {"total": 1.0},
    {"upper": 0.3},
    {"total": 1.0, "upper": 0.5, "l1": 0.1},
    {"weights": torch.linspace(0.5, 2.0, 54).reshape(9, 6)},
    {"weights": torch.linspace(0.5, 2.0, 9)[:, None], "total": 1.0},
]


@pytest.mark.parametrize("asked", [*EXPORTED[2:4], *slow(*EXPORTED[:2], EXPORTED[4])])
def test_export_with_any_batch(asked):
    H, Y, batch = torch.rand(3, 9, 4), torch.rand(3, 9, 6), torch.export.Dim("B")
    layer = NNLSLayer(**asked)
    exported = torch.export.export(layer, (H, Y), dynamic_shapes={"H": {0: batch}, "Y": {0: batch}}).module()
    for count in (3, 5):
        H, Y = torch.rand(count, 9, 4), torch.rand(count, 9, 6)
        torch.testing.assert_close(exported(H, Y), layer(H, Y))


@pytest.mark.slow
def test_export_of_nnls_with_any_batch():
    H, Y, batch = torch.rand(3, 9, 4), torch.rand(3, 9, 6), torch.export.Dim("B")
    weights = torch.linspace(0.5, 2.0, 9)[:, None]

    class Solution(torch.nn.Module):
        def forward(self, H, Y):
            return nnls(H, Y, weights=weights, total=1.0).W

    exported = torch.export.export(Solution(), (H, Y), dynamic_shapes={"H": {0: batch}, "Y": {0: batch}}).module()
    H, Y = torch.rand(5, 9, 4), torch.rand(5, 9, 6)
    torch.testing.assert_close(exported(H, Y), nnls(H, Y, weights=weights, total=1.0).W)


def test_what_no_gram_matrix_can_decide_stays_small_and_is_told():
    """Half of 60 overlapping bumps are signed: the search ended at weights of 1e25."""
    points, centres = torch.linspace(0, 1, 40).double()[:, None], torch.linspace(0, 1, 60).double()
    H = torch.exp(-200 * (points - centres).square())
    Y = randn(40, 20, seed=0).abs()
    with pytest.warns(ConvergenceWarning):
        solution = nnls_gram(H.T @ H, H.T @ Y, signed=(torch.arange(60) % 2 == 0)[:, None], total=1.0)
    assert not solution.converged
    assert solution.W.abs().max() < 1e8
    torch.testing.assert_close(solution.W.sum(0), torch.ones(20).double())
