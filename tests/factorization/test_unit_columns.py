"""Unit columns with penalties that have a meaning: the closed form, monotone, units, every start, real figures."""

import math

import numpy as np
import pytest
import torch
from helpers import REAL_DATA, needs_data
from nmf_problems import random_matrix

from diffnmf.data import GroupSampler, group_matrix, load_dataset
from diffnmf.factorization import (
    HALS,
    UnitColumns,
    factorize,
    initialize,
    match_slots,
    merge,
    slot_prototypes,
    take_slots,
)
from diffnmf.factorization.unit_columns import turn_columns_
from diffnmf.metrics import hoyer_H, part_overlap, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")
P = random_matrix(15, 4, seed=9)
PENALTIES = [
    {},
    {"sparsity": 0.1},
    {"overlap": 0.1},
    {"closeness": 0.1, "prototypes": P},
    {"sparsity": 0.02, "overlap": 0.05, "closeness": 0.1, "prototypes": P},
]
STARTS = ["auto", "merge", "random", "uniform", "nndsvd", "nndsvda", "spa"]
penalties = pytest.mark.parametrize("options", PENALTIES, ids=lambda options: ",".join(options) or "none")


def objective(Y, H, W, sparsity=0.0, overlap=0.0, closeness=0.0, prototypes=P) -> float:
    """From the formula, in numpy, for one problem."""
    Y, H, W, prototypes = (x.double().numpy() for x in (Y, H, W, prototypes))
    (n, k), U, p = H.shape, H / np.linalg.norm(H, axis=0), prototypes / np.linalg.norm(prototypes, axis=0)
    hoyer = (math.sqrt(n) - np.abs(U).sum(0)) / (math.sqrt(n) - 1)
    cosines = U.T @ U
    pairs = [cosines[i, j] for i in range(k) for j in range(i)]
    return (
        (np.linalg.norm(Y - H @ W) / np.linalg.norm(Y)) ** 2
        + sparsity * (1 - hoyer.mean())
        + overlap * np.mean(pairs)
        + closeness * (1 - (U * p).sum(0).mean())
    )


@penalties
@pytest.mark.parametrize("shape", [(15, 8), (15, 30)])
@pytest.mark.parametrize("init", STARTS)
def test_the_objective_never_increases_without_extrapolation(options, shape, init):
    Y, values = 3 * random_matrix(*shape), []
    method = UnitColumns(extrapolate=False, revive=False, **options)
    H0, W0 = initialize(Y, 4, init)
    values.append(objective(Y, H0, W0, **options) if (H0 > 0).any(0).all() else math.inf)

    def look(iteration, H, W):
        values.append(objective(Y, H, W, **options))
        torch.testing.assert_close(method.objective(Y, H, W), torch.tensor(values[-1]).double(), rtol=1e-9, atol=1e-12)

    factorize(Y, 4, method=method, H0=H0, W0=W0, tol=0.0, max_iter=15, callback=look)
    assert np.diff(values).max() < 1e-10
    assert values[-1] < values[1]


@penalties
def test_extrapolation_makes_ten_rounds_worth_more_than_twenty(options):
    digits = load_dataset("digits").train
    Y = group_matrix(digits, GroupSampler(digits, 40, seed=0).epoch(0)[:10]).double()
    if "prototypes" in options:
        options = {**options, "prototypes": slot_prototypes(merge(Y, 4)[0])}
    ends = {}
    for extrapolate, rounds in ((True, 10), (False, 20)):
        method = UnitColumns(extrapolate=extrapolate, **options)
        result = factorize(Y, 4, method=method, init="merge", tol=0.0, max_iter=rounds)
        ends[extrapolate] = method.objective(Y, result.H, result.W).mean()
    assert ends[True] < ends[False]


def test_a_step_is_the_best_column_on_the_sphere():
    """No other unit vector does better, whether near or anywhere."""
    torch.manual_seed(0)
    C, A = torch.randn(1, 3, 12).double(), torch.rand(1, 3, 3).double()
    A = A + A.mT - torch.diag_embed((A + A.mT).diagonal(dim1=1, dim2=2))
    U = torch.nn.functional.normalize(torch.rand(1, 3, 12).double(), dim=-1)
    turn_columns_(A, C, U)
    pull = C[0, 2] - A[0, 2] @ U[0]  # of the last row, which nothing has moved since
    others = torch.nn.functional.normalize(
        torch.relu(U[0, 2] + torch.randn(2000, 12) * torch.logspace(-4, 1, 2000)[:, None])
    )
    assert (others @ pull).max() <= U[0, 2] @ pull


def test_a_column_that_nothing_supports_stays_and_a_zero_one_comes_alive_for_its_prototype():
    Y = random_matrix(15, 8)
    H0, W0 = random_matrix(15, 4, seed=1), random_matrix(4, 8, seed=2)
    H0[:, 3], W0[3] = 0, 0
    dead = factorize(Y, 4, method=UnitColumns(sparsity=0.1), H0=H0, W0=W0, tol=0.0, max_iter=5)
    assert (dead.H[:, 3] == 0).all()
    assert dead.H[:, :3].norm(dim=0).allclose(torch.ones(3).double())
    alive = factorize(Y, 4, method=UnitColumns(closeness=0.5, prototypes=P), H0=H0, W0=W0, tol=0.0, max_iter=5)
    assert alive.H.norm(dim=0).allclose(torch.ones(4).double())
    huge = factorize(Y, 4, method=UnitColumns(sparsity=1e6), H0=random_matrix(15, 4), W0=W0, tol=1e-6, max_iter=50)
    assert huge.H.norm(dim=0).allclose(torch.ones(4).double())
    revived = factorize(Y, 4, method="unit_columns", H0=H0, W0=W0, tol=0.0, max_iter=40)
    assert revived.H.norm(dim=0).allclose(torch.ones(4).double())


@penalties
def test_the_end_is_stationary(options):
    """At convergence each column is at its own optimum, and W is."""
    Y = random_matrix(15, 20)
    method = UnitColumns(**options)
    result = factorize(Y, 4, method=method, init="merge", tol=1e-8, max_iter=20_000)
    assert result.converged
    again = factorize(Y, 4, method=method, H0=result.H, W0=result.W, tol=0.0, max_iter=1)
    torch.testing.assert_close(again.H, result.H, rtol=0, atol=1e-5)
    torch.testing.assert_close(again.W, result.W, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_columns_have_norm_one_whatever_the_units(dtype):
    Y = random_matrix(15, 20, dtype=dtype)
    method = UnitColumns(sparsity=0.1)
    usual = factorize(Y, 4, method=method, max_iter=20, tol=0.0)
    for scale in (1e-9, 7.0):
        result = factorize(Y * scale, 4, method=method, max_iter=20, tol=0.0)
        assert result.H.norm(dim=-2).allclose(torch.ones(4, dtype=dtype))
        torch.testing.assert_close(result.errors[-1], usual.errors[-1], rtol=1e-2, atol=0)
        seen = []
        factorize(Y * scale, 4, method=method, max_iter=1, tol=0.0, callback=lambda i, H, W, seen=seen: seen.append(H))
        assert seen[0].norm(dim=-2).allclose(torch.ones(4, dtype=dtype))


def test_each_penalty_does_what_it_says():
    Y = random_matrix(6, 15, 20)
    free = factorize(Y, 4, method="unit_columns", init="merge", tol=0.0, max_iter=60)
    hals = factorize(Y, 4, method=HALS(), init="merge", tol=0.0, max_iter=60)
    assert (free.errors[-1] / hals.errors[-1] - 1).abs().max() < 0.01

    def run(**options):
        return factorize(Y, 4, method=UnitColumns(**options), init="merge", tol=0.0, max_iter=60)

    assert (hoyer_H(run(sparsity=0.1).H) > hoyer_H(free.H) + 0.02).all()
    assert (part_overlap(run(overlap=0.1).H) < part_overlap(free.H) - 0.02).all()
    closeness = [
        UnitColumns(closeness=1.0, prototypes=P).penalty(x.H) for x in (run(closeness=0.1, prototypes=P), free)
    ]
    assert (closeness[0] < closeness[1] - 0.02).all()


def test_one_row_and_one_component():
    for shape, k in (((1, 6), 1), ((1, 6), 3), ((9, 6), 1)):
        method = UnitColumns(sparsity=0.1, overlap=0.1)
        result = factorize(random_matrix(*shape), k, method=method, max_iter=10)
        assert result.H.isfinite().all()
        assert method.objective(random_matrix(*shape), result.H, result.W).isfinite()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparsity": -1.0}, ValueError, "sparsity: expected a finite number ≥ 0; got -1.0"),
        ({"overlap": "much"}, TypeError, "overlap: expected a finite number"),
        ({"closeness": 1.0}, ValueError, r"prototypes: expected a tensor \(n, k\).*slot_prototypes makes them"),
        ({"prototypes": torch.rand(2, 3, 4)}, ValueError, r"prototypes: expected \(n, k\).*; got \(2, 3, 4\)"),
        ({"prototypes": -torch.rand(3, 4)}, ValueError, "prototypes: expected finite entries ≥ 0"),
        ({"prototypes": [[1.0]]}, TypeError, "prototypes: expected a torch.Tensor"),
    ],
)
def test_options_that_do_not_fit_are_named(options, error, message):
    with pytest.raises(error, match=message):
        UnitColumns(**options)


def test_prototypes_and_penalties_that_do_not_fit_the_problem():
    Y = random_matrix(15, 8)
    with pytest.raises(ValueError, match=r"prototypes: expected \(n, k\) = \(15, 3\).*; got \(15, 4\)"):
        factorize(Y, 3, method=UnitColumns(closeness=0.1, prototypes=P))
    with pytest.raises(ValueError, match='l1_H, l1_W, ridge_H, ridge_W: expected 0 for method "unit_columns"'):
        factorize(Y, 3, method="unit_columns", l1_W=0.1)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "expected"),
    [(10, (0.627, 0.644, 0.672, 0.692, 0.726)), (30, (0.625, 0.629, 0.633, 0.638, 0.644))],
)
def test_sparsity_at_equal_error_on_mnist(k, expected):
    """Hoyer sparsity at 0.5, 1, 2, 3 and 5 % more error than HALS, from merging."""
    split = load_dataset("mnist", data_dir=REAL_DATA)
    Y = group_matrix(split.test, GroupSampler(split.test, 40, order="random", seed=0).epoch(0)[:32])
    H0, W0 = merge(Y, k)
    limit = factorize(Y, k, H0=H0, W0=W0, tol=0.0, max_iter=200).errors[-1].mean().item()
    points = []
    for sparsity in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4):
        H, W, *_ = factorize(Y, k, method=UnitColumns(sparsity=sparsity), H0=H0, W0=W0, tol=0.0, max_iter=40)
        points.append((relative_error(Y, H @ W).mean().item(), hoyer_H(H).mean().item()))
    found = np.interp([limit * (1 + more) for more in (0.005, 0.01, 0.02, 0.03, 0.05)], *zip(*points, strict=True))
    assert (found > np.array(expected) - 0.008).all()  # 32 groups
    assert (found < np.array(expected) + 0.01).all()


def test_from_prototypes_slots_stay_in_order():
    """With closeness, started at the prototypes, no matching is needed."""
    parts = torch.block_diag(*[torch.ones(4, 1)] * 4).double()[:15]  # (15, 4)
    Y = parts @ random_matrix(6, 4, 20) + 0.2 * random_matrix(6, 15, 20, seed=3)
    result = factorize(Y, 4, method=UnitColumns(closeness=0.2, prototypes=parts), H0=parts, max_iter=30, tol=0.0)
    assert (match_slots(result.H, parts) == torch.arange(4)).all()
    H, W = take_slots(result.H, result.W, torch.tensor([3, 2, 1, 0]).expand(6, 4))
    torch.testing.assert_close(H @ W, result.H @ result.W)
