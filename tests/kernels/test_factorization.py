"""The kernels of HALS, of merging and of Kullback-Leibler updates against the operations of torch."""

import warnings

import pytest
import torch
from nmf_problems import random_matrix

from diffnmf.errors import ConvergenceWarning
from diffnmf.factorization import HALS, MU, factorize, small_runs
from diffnmf.factorization.alternating import CHECK_EVERY
from diffnmf.factorization.gram_merging import merge_gram
from diffnmf.factorization.hals import sweep_
from diffnmf.kernels.calling import call
from diffnmf.kernels.divergence import kl_pull

pytestmark = pytest.mark.usefixtures("every_variant")
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-10}
# p, N, k: fewer and more than whole tiles and strips.
SUMS = [(1, 1, 1), (31, 5, 2), (32, 96, 4), (33, 97, 3), (70, 200, 13), (5, 400, 65)]
# n, m, k: fewer and more than whole vectors, tall and wide, k beyond both.
SHAPES = [(1, 1, 1), (5, 3, 2), (3, 5, 2), (40, 17, 5), (17, 40, 5), (33, 64, 16), (6, 7, 9), (100, 20, 5)]


def data(n, m, batch=3, dtype=torch.float64):
    Y = torch.rand(batch, n, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (Y * (Y > 0.4)).to(dtype)


def both(request, call):
    """What the kernels give, then what torch gives."""
    ours = call()
    request.getfixturevalue("torch_alone")
    return ours, call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 15, 16, 40, 64, 100])
def test_a_sweep(request, width, dtype):
    generator = torch.Generator().manual_seed(1)
    F = torch.rand(2, 7, 30, generator=generator, dtype=torch.float64)
    F[:, 3] = 0  # a row without curvature
    C = torch.randn(2, 7, width, generator=generator, dtype=torch.float64)
    start = torch.rand(2, 7, width, generator=generator, dtype=torch.float64)

    def swept():
        X = start.clone().to(dtype)
        sweep_((F @ F.mT).to(dtype), C.to(dtype), X, 3)
        return X

    torch.testing.assert_close(*both(request, swept), rtol=0, atol=TOLERANCE[dtype] * 100)


@pytest.mark.parametrize("extrapolate", [True, False])
@pytest.mark.parametrize("small", [True, False], ids=["whole iterations", "half iterations"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m", "k"), SHAPES)
def test_some_iterations(request, monkeypatch, n, m, k, dtype, small, extrapolate):
    if not small:
        monkeypatch.setattr(small_runs, "SMALL", 0)
    Y = data(n, m, dtype=dtype)
    method = HALS(extrapolate=extrapolate)
    ours, theirs = both(request, lambda: factorize(Y, k, method=method, init="random", max_iter=7, tol=0.0))
    # More components than needed may fit in many ways: then only the errors are the same.
    torch.testing.assert_close(ours.errors, theirs.errors, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])
    if k < min(n, m):
        torch.testing.assert_close(ours.H @ ours.W, theirs.H @ theirs.W, rtol=0, atol=20 * TOLERANCE[dtype])


LIVING = (torch.arange(5) != 2).double()
RUNS = {
    "to the tolerance": {"tol": 1e-3, "max_iter": 60},
    "no time": {"tol": 1e-3, "max_iter": 0},
    "to the end": {"tol": 0.0, "max_iter": 23},
    "a start too large": {
        "tol": 1e-2,
        "max_iter": 60,
        "H0": 30 * random_matrix(40, 5),
        "W0": 30 * random_matrix(5, 17),
    },
    "a dead component": {
        "tol": 1e-3,
        "H0": random_matrix(40, 5) * LIVING,
        "W0": random_matrix(5, 17) * LIVING[:, None],
    },
    "no extrapolation": {"tol": 1e-2, "max_iter": 45, "method": HALS(extrapolate=False)},
    "watched": {"tol": 1e-2, "max_iter": 33, "callback": lambda i, H, W: None},
    "stopped": {"tol": 1e-2, "max_iter": 33, "callback": lambda i, H, W: i == 13},
    "stopped at a check": {"tol": 1e-2, "max_iter": 33, "callback": lambda i, H, W: i == 10},
}


def run(Y, k, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return factorize(Y, k, **{"init": "random", **options})


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
def test_whole_runs(request, options, turned):
    """Some problems end before others; what is dead comes back."""
    Y = data(40, 17, batch=4)
    Y[1] = Y[1, :, :1]  # of rank one
    Y[3] = 0
    if turned:
        Y, swapped = Y.mT, {"H0": "W0", "W0": "H0"}
        options = {swapped.get(name, name): x.mT if name in swapped else x for name, x in options.items()}
    ours, theirs = both(request, lambda: run(Y, 5, **options))
    assert torch.equal(ours.iterations, theirs.iterations)
    assert torch.equal(ours.converged, theirs.converged)
    torch.testing.assert_close(ours.errors, theirs.errors, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ours.H @ ours.W, theirs.H @ theirs.W, rtol=0, atol=1e-7)


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize(("call", "history"), [(1, 2**22), (2**15, 7)], ids=["one by one", "few errors"])
def test_how_much_goes_into_a_call_changes_nothing(monkeypatch, options, call, history):
    Y = data(40, 17, batch=4)
    Y[1] = Y[1, :, :1]
    expected = run(Y, 5, **options)
    monkeypatch.setattr(small_runs, "A_CALL", call)
    monkeypatch.setattr(small_runs, "HISTORY", history)
    for a, b in zip(run(Y, 5, **options), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("one_thread")
def test_calls_end_with_the_last_problem_that_has_not_finished(monkeypatch):
    Y = torch.zeros(40, 60, 40)
    Y[7] = random_matrix(60, 40)
    monkeypatch.setattr(small_runs, "A_CALL", 10 * (60 * 40 + 10 * 100) * CHECK_EVERY)  # ten iterations of a problem
    until = []
    advance = small_runs._Part.advance

    def noted(self, last, **options):
        until.append(last)
        advance(self, last, **options)

    monkeypatch.setattr(small_runs._Part, "advance", noted)
    factors = factorize(Y, 10, init="random", max_iter=300, tol=1e-12)
    made = int(factors.iterations[7])
    assert factors.iterations.sum() == made > CHECK_EVERY
    assert until == [10] * 7 + list(range(10, made + 1, 10)) + [10] * 32


def test_no_call_takes_long(monkeypatch):
    """So that Ctrl-C is heard."""
    costs = []

    def noted(name, types, count, cost, *arguments):
        costs.append(count * cost)
        return call(name, types, count, cost, *arguments)

    monkeypatch.setattr("diffnmf.kernels.hals.call", noted)
    monkeypatch.setattr(small_runs, "A_CALL", 2**18)
    factorize(data(40, 17, batch=30), 5, init="random", tol=0.0, max_iter=200)
    assert max(costs) <= 2**18 * torch.get_num_threads()
    assert len(costs) >= 30 * 200 * 5 * (40 * 17 + 5 * 57) / 2**18 / torch.get_num_threads()


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m", "k"), [shape for shape in SHAPES if shape[2] <= min(shape[:2])] + [(40, 400, 30)])
def test_some_iterations_with_weights(request, n, m, k, dtype, missing, penalised):
    Y = data(n, m, dtype=dtype) + 0.01
    V = 3 * torch.rand(3, m, n, generator=torch.Generator().manual_seed(3), dtype=dtype).mT  # columns lie together
    V = torch.where(3 * missing > V, 0.0, V)
    options = {"init": "random", "max_iter": 4, "tol": 0.0, "weights": V}
    if penalised:
        options |= {"l1_W": 0.05, "ridge_W": 0.1, "l1_H": 0.02, "ridge_H": 0.3}
    ours, theirs = both(request, lambda: factorize(Y, k, method=HALS(extrapolate=False), **options))
    torch.testing.assert_close(ours.errors, theirs.errors, rtol=TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])
    if not missing:
        torch.testing.assert_close(ours.H @ ours.W, theirs.H @ theirs.W, rtol=0, atol=20 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(60, 50), (50, 61), (7, 9), (33, 10), (20, 73)])
def test_the_error_of_a_close_fit_is_that_of_the_residual(n, m, dtype):
    Y = torch.rand(1, n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    Y = (Y @ torch.rand(1, 3, m, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).to(dtype)
    factors = factorize(Y, 3, init="random", max_iter=400 if dtype == torch.float32 else 4000, tol=0.0)
    Y, H, W = (x.double() for x in (Y, factors.H, factors.W))  # in float32 the residual would be its own rounding
    error = (Y - H @ W).norm() / Y.norm()
    assert error < (3e-3 if dtype == torch.float32 else 1e-4)  # near enough for the residual to be formed
    assert factors.errors[-1, 0] == pytest.approx(error.item(), rel=1e-6)


def test_zero_and_transposed_matrices():
    Y = data(30, 20)
    Y[1] = 0
    factors = factorize(Y, 4, init="random", max_iter=5, tol=0.0)
    assert (factors.H[1] @ factors.W[1] == 0).all()
    again = factorize(Y.mT.contiguous().mT, 4, init="random", max_iter=5, tol=0.0)
    assert torch.equal(again.H, factors.H) and torch.equal(again.W, factors.W)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "k"), [(1, 1), (2, 1), (20, 7), (20, 20), (41, 3)])
def test_merging(request, m, k, dtype):
    Y = data(60, m)
    if m > 5:
        Y[0, :, 3] = 0
        Y[1, :, 5] = Y[1, :, 4]
        Y[2] = 0
    G = (Y.mT @ Y).to(dtype)
    ours, theirs = both(request, lambda: merge_gram(G, k))
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize(
    ("p", "N", "k"), [(1, 1, 1), (31, 5, 2), (32, 96, 4), (33, 97, 3), (70, 200, 13), (5, 400, 65)]
)
@pytest.mark.parametrize("layout", ["rows", "columns", "neither"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sum_of_kullback_leibler_updates(p, N, k, layout, dtype):
    generator = torch.Generator().manual_seed(2)
    F, X, T = (torch.rand(2, *shape, generator=generator, dtype=torch.float64) for shape in ((k, p), (k, N), (p, N)))
    F[0, :, 0] = 0  # a row of P is zero
    F, X, T = F.to(dtype), X.to(dtype), T.to(dtype)
    T = {"rows": T, "columns": T.mT.contiguous().mT, "neither": T.repeat_interleave(2, dim=-1)[..., ::2]}[layout]
    expected = F.double() @ (T / (F.double().mT @ X.double()).clamp(min=1e-3))
    rounding = {torch.float32: 1e-5, torch.float64: 1e-13}[dtype]
    torch.testing.assert_close(kl_pull(F, T, X, 1e-3).double(), expected, rtol=rounding, atol=0)


@pytest.mark.parametrize("extrapolate", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("turned", [True, False])
def test_some_kullback_leibler_iterations(request, dtype, extrapolate, turned):
    Y = data(60, 45, dtype=dtype)
    Y = Y.mT.contiguous().mT if turned else Y
    method = MU("kullback-leibler", extrapolate=extrapolate)
    ours, theirs = both(request, lambda: factorize(Y, 4, method=method, init="random", max_iter=12, tol=0.0))
    torch.testing.assert_close(ours.H @ ours.W, theirs.H @ theirs.W, rtol=0, atol=20 * TOLERANCE[dtype])


def test_what_is_not_a_number_stays_so():
    F, T, X = torch.rand(1, 3, 8), torch.rand(1, 8, 5), torch.rand(1, 3, 5)
    X[0, 1, 2] = torch.nan
    assert kl_pull(F, T, X, 1e-7).isnan().any(1).tolist() == [[False, False, True, False, False]]
