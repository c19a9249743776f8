"""Where columns of H are nearly dependent: the right W, never worse than W = 0, and `converged` only where it is so."""

import importlib.util
import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from nnls_problems import kkt, residual_norms, scipy_nnls

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.solvers.certificate import ALLOWED_EXCESS, is_best
from diffnmf.solvers.exact.accurate_residual import accurate_residual
from diffnmf.solvers.exact.active_set import active_set
from diffnmf.solvers.exact.columns import GramColumns
from diffnmf.solvers.optimality import optimality
from diffnmf.solvers.problem import make_problem

EXACT = ["unrolled", "bpp", "hals"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "stress_nnls.py"


def load_example():
    spec = importlib.util.spec_from_file_location("example_stress_nnls", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def kahan(k: int, angle: float = 1.4) -> torch.Tensor:
    R = np.eye(k) - np.cos(angle) * np.triu(np.ones((k, k)), 1)
    return torch.from_numpy(np.sin(angle) ** np.arange(k)[:, None] * R)


def is_certified(problem, W):
    return bool(is_best(problem, W, optimality(problem, W)))


def hilbert(n: int, k: int) -> torch.Tensor:
    return 1.0 / (torch.arange(n, dtype=torch.float64)[:, None] + torch.arange(k) + 1.0)


def whole_numbers(X):
    """X as lists of integers, and the power of two by which they are larger."""
    ratios = [[x.as_integer_ratio() for x in row] for row in X.tolist()]
    shared = max(below for row in ratios for _, below in row)  # all are powers of two
    return [[above * (shared // below) for above, below in row] for row in ratios], shared


def exact_residual_norms(H, Y, W):
    """‖y − Hw‖ / ‖y‖ of every column, in integers: at W of 1e10 the rounding of HW is more than is allowed."""
    (H, of_H), (Y, of_Y), (W, of_W) = map(whole_numbers, (H, Y, W))
    norms = []
    for y, w in zip(zip(*Y, strict=True), zip(*W, strict=True), strict=True):
        left = [
            of_H * of_W * of_y - of_Y * sum(a * b for a, b in zip(row, w, strict=True))
            for row, of_y in zip(H, y, strict=True)
        ]
        square, whole = sum(x * x for x in left), sum(x * x for x in y)
        norms.append(math.sqrt(square / ((of_H * of_W) ** 2 * (whole or of_Y**2))))
    return np.array(norms)


def excess(H, Y, W):
    """The residual norms above those of scipy or of W = 0, in units of ‖y‖."""
    return exact_residual_norms(H, Y, W) - np.minimum(exact_residual_norms(H, Y, scipy_nnls(H, Y)), 1.0)


def solve(H, Y, solver):
    """``nnls``, with or without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return nnls(H, Y, solver=solver)


@pytest.mark.parametrize("solver", EXACT)
def test_two_columns_that_differ_by_1e_8(solver):
    H = torch.tensor([[3, 1, 3 - 2e-8], [2, 1, 2], [-1, 2, -1 + 2e-8]], dtype=torch.float64)
    Y = torch.tensor([[4.0], [2.0], [0.0]], dtype=torch.float64)
    solution = nnls(H, Y, solver=solver)
    assert solution.converged
    assert kkt(H, Y, solution.W) <= 1e-12
    torch.testing.assert_close(solution.W, scipy_nnls(H, Y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", EXACT)
def test_the_rounding_of_a_w_six_million_times_as_large_as_y_is_no_fault(solver):
    """Condition 4e5. What is left of y, 5.7e-10 of it, is the rounding of W; scipy leaves 7.1e-10."""
    H = torch.tensor(
        [
            [0.2022989670607715, -0.2014069352902692, -0.02102241872046946, 0.10182092305841044],
            [0.021850988764494747, -0.021996179749477547, -0.0027566343713444005, 0.011867387687144319],
            [0.633390473268121, -0.6310649265422517, -0.06676565133182191, 0.32048106806692145],
        ],
        dtype=torch.float64,
    )
    y = torch.tensor([[-0.8994440226251236], [-1.4799743528724996], [-1.631399865181549]], dtype=torch.float64)
    solution = nnls(H, y, solver=solver)
    assert (torch.linalg.vector_norm(H, dim=0) @ solution.W / torch.linalg.vector_norm(y)).item() > 5e6
    assert excess(H, y, solution.W).item() <= 1e-11
    assert solution.converged


@pytest.mark.parametrize("solver", EXACT)
def test_small_problems_with_a_pair_of_nearly_equal_columns(solver):
    random = np.random.default_rng(0)
    H = random.integers(-3, 4, (124, 3, 3)).astype(float)
    H[:, :, 2] = H[:, :, 0] + 10.0 ** random.uniform(-11, -8, (124, 1)) * random.integers(-2, 3, (124, 3))
    H, Y = torch.from_numpy(H), torch.from_numpy(random.integers(-4, 5, (124, 3, 1)).astype(float))
    solution = nnls(H, Y, solver=solver)
    assert solution.converged.all()
    for problem in zip(H, Y, solution.W, strict=True):
        size = float(
            problem[0].norm(dim=0) @ problem[2] / problem[1].norm()
        )  # some have opposite columns, and 1e10 here
        assert kkt(*problem) <= 1e-12 + 1e-15 * size
        assert (excess(*problem) <= 1e-9).all()


@pytest.mark.parametrize("distance", [1e-8, 1e-9, 1e-10, 1e-12])
def test_many_columns_with_one_pair(distance):
    random = np.random.default_rng(1)
    H = random.standard_normal((30, 8))
    H[:, 7] = H[:, 2] + distance * random.standard_normal(30)
    H, Y = torch.from_numpy(H), torch.from_numpy(random.standard_normal((30, 200)))
    solutions = [nnls(H, Y, solver=solver) for solver in EXACT]
    for solution in solutions:
        assert solution.converged
        assert kkt(H, Y, solution.W) <= 1e-12
        assert (excess(H, Y, solution.W) <= 1e-12).all()
        # The pair decides about digits of W that are not in the data: what is certain is its sum.
        together = torch.stack([W[2] + W[7] for W in (solution.W, solutions[0].W)])
        torch.testing.assert_close(together[0], together[1], rtol=0, atol=1e-12 + 1e-15 / distance)


def gram_columns(H, y):
    H, y = H / H.norm(dim=0), y / y.norm()
    return GramColumns((H.T @ H).fill_diagonal_(1.0).unsqueeze(0), (H.T @ y).T)


def test_an_entry_replaces_the_one_that_it_depends_on():
    H = torch.tensor([[3, 1, 3 - 2e-8], [2, 1, 2], [-1, 2, -1 + 2e-8]], dtype=torch.float64)
    y = torch.tensor([[4.0], [2.0], [0.0]], dtype=torch.float64)
    found = active_set(gram_columns(H, y), torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))
    assert found.solved
    assert found.factor.free.tolist() == [[True, True, False]]


def test_an_entry_that_would_lower_f_and_cannot_enter_leaves_a_column_unsolved():
    """Opposite columns: in HᵀH they are dependent, and together they grow without end."""
    H = torch.tensor([[1.0, -1.0], [0.0, 1e-9], [0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.float64)
    start = torch.zeros(1, 2, dtype=torch.float64)
    assert not active_set(gram_columns(H, y), start).solved
    assert active_set(gram_columns(H[:, :1], y), start[:, :1]).solved


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("l1", [0.01, 0.1, 0.2])
def test_l1_chooses_among_dependent_columns(solver, l1):
    """More columns than rows: any minimiser of ‖y − Hw‖ would do without l1, with it only one."""
    random = np.random.default_rng(5)
    H, Y = (torch.from_numpy(random.standard_normal((10, size))) for size in (30, 6))
    solution = nnls(H, Y, solver=solver, l1=l1)
    assert solution.converged
    assert kkt(H, Y, solution.W, l1=l1) <= 1e-12


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("k", [100, 120])
@pytest.mark.parametrize("target", ["cone", "normal", "uniform"])
def test_kahan(solver, k, target):
    H, random = kahan(k), np.random.default_rng(2)
    Y = {
        "cone": H @ torch.from_numpy(random.random((k, 1))),
        "normal": torch.from_numpy(random.standard_normal((k, 1))),
        "uniform": torch.from_numpy(random.random((k, 1))),
    }[target]
    solution = solve(H, Y, solver)
    above = excess(H, Y, solution.W).item()
    assert above <= (1e-9 if solution.converged else 1e-7)
    assert residual_norms(H, Y, solution.W) <= 1.0
    if target == "cone":
        assert solution.converged
        assert residual_norms(H, Y, solution.W) <= 1e-12


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("name", ["hilbert", "collinear"])
def test_nothing_is_left_of_a_target_in_the_cone(solver, name):
    random = np.random.default_rng(3)
    H = hilbert(20, 12)
    if name == "collinear":
        H = torch.from_numpy(random.random((30, 8)))
        H[:, 4:] = H[:, :4] + torch.logspace(-6, -12, 4, dtype=torch.float64) * torch.from_numpy(random.random((30, 4)))
    Y = H @ torch.from_numpy(np.maximum(random.standard_normal((H.shape[1], 40)), 0))
    solution = nnls(H, Y, solver=solver)
    assert solution.converged
    assert residual_norms(H, Y, solution.W).max() <= 1e-13


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("solver", EXACT)
def test_never_worse_than_zero_where_nothing_can_be_right(solver, dtype):
    """Condition 1e20: the best W is of size 1e17 and has no right digit."""
    H = kahan(60, 0.9).to(dtype)
    Y = torch.from_numpy(np.random.default_rng(4).standard_normal((60, 30))).to(dtype)
    solution = solve(H, Y, solver)
    assert solution.W.isfinite().all() and (solution.W >= 0).all()
    assert (residual_norms(H, Y, solution.W) <= 1 + 1e-12).all()
    assert not solution.converged
    H.requires_grad_()
    NNLSLayer(solver)(H, Y).double().square().sum().sqrt().backward()


def test_a_small_kkt_residual_far_from_the_best_is_not_converged():
    """Opposite columns: what they differ by is in the cone, at a price of 1e12 in W."""
    H = torch.tensor([[1.0, -1.0], [0.0, 1e-12], [0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.float64)
    problem = make_problem(H, y)
    near = torch.tensor([[[1.0], [0.0]]], dtype=torch.float64)
    best = torch.tensor([[[1.0 + 1e12], [1e12]]], dtype=torch.float64)
    assert kkt(H, y, near[0]) <= 1e-12
    assert residual_norms(H, y, near[0]) > residual_norms(H, y, best[0]) + 0.2
    assert not is_certified(problem, near)
    assert is_certified(problem, best)


@pytest.mark.parametrize(("ridge", "l1"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
@pytest.mark.parametrize("shape", [(30, 10), (10, 30), (20, 20)])
def test_the_certificate_tells_the_solution_from_what_is_near_it(shape, ridge, l1):
    """Entries of any sign, so that the bound on the solution says nothing about the wide ones."""
    random = np.random.default_rng(5)
    H, Y = torch.from_numpy(random.standard_normal(shape)), torch.from_numpy(random.standard_normal((shape[0], 6)))
    problem = make_problem(H, Y, ridge, l1)
    W = nnls(H, Y, ridge=ridge, l1=l1).W.unsqueeze(0)
    assert is_certified(problem, W)
    if l1 or ridge or shape[0] > shape[1]:
        moved = W.clone()
        moved[0, W[0, :, 0].argmax(), 0] *= 1 + 1e-3
        assert not is_certified(problem, moved)
        assert not is_certified(problem, torch.zeros_like(W))
    assert not is_certified(problem, torch.full_like(W, torch.nan))
    assert ALLOWED_EXCESS < 1e-9


def test_the_accurate_residual_has_the_digits_that_cancel():
    random = np.random.default_rng(6)
    H, W = random.standard_normal((7, 5)), 1e12 * random.standard_normal((5, 3))
    exact = [[sum(Fraction(h) * Fraction(w) for h, w in zip(row, column, strict=True)) for column in W.T] for row in H]
    Y = H @ W  # what is left is its rounding
    expected = np.array(
        [[float(Fraction(y) - e) for y, e in zip(*rows, strict=True)] for rows in zip(Y, exact, strict=True)]
    )
    found = accurate_residual(*(torch.from_numpy(x).unsqueeze(0) for x in (H, Y, W)))[0]
    assert np.abs(expected).max() > 1e-5
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-10, atol=0)


def test_random_problems_of_every_kind():
    stress = load_example()
    rows = stress.stress(270, 7, stress.SOLVERS, list(stress.KINDS))
    assert stress.violations(rows) == []
    assert {row.kind for row in rows} == {*stress.KINDS, "all"}
    assert all(row.problems == 270 for row in rows if row.kind == "all")


@pytest.mark.slow
def test_ten_thousand_random_problems():
    stress = load_example()
    assert stress.violations(stress.stress(10_000, 0, stress.SOLVERS, list(stress.KINDS))) == []


def test_the_example_sees_what_must_not_be():
    stress = load_example()
    batch = stress.Batch(np.eye(2)[None], np.ones((1, 2)))
    row = stress.Row("all", "bpp")
    row.add(batch, theirs=np.array([-1e-6]))  # better than anything can be
    assert row.false == 1 and row.bad == 0
    assert stress.violations([row]) == ["all, bpp: 1 say `converged` and are worse than scipy"]
    assert len(stress.violations([stress.Row("all", "bpp", problems=100, unconverged=1, bad=1)])) == 2
