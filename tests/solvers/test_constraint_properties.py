"""Constrained problems of every kind: feasible and optimal by an independent check, or marked; never a hang.

The default suite draws 690 problems, of several columns each; DIFFNMF_EXAMPLES sets another number (20,000, say,
before a release).
"""

import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnls_problems import constrained_kkt

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning

EXAMPLES = int(os.environ.get("DIFFNMF_EXAMPLES", "600"))
CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def drawn(number: int) -> settings:
    return settings(max_examples=max(1, number), deadline=None, suppress_health_check=CHECKS)


pytestmark = pytest.mark.usefixtures("one_thread")


STRUCTURES = (
    "full",
    "positive",
    "sparse",
    "duplicates",
    "scaled duplicates",
    "low rank",
    "nearly equal",
    "wide scales",
)


def basis(random: np.random.Generator, structure: str, n: int, k: int) -> np.ndarray:
    H = random.random((n, k)) if structure == "positive" else random.standard_normal((n, k))
    if structure == "sparse":
        H *= random.random((n, k)) < 0.4  # with zero columns
    elif structure == "duplicates":
        H = H[:, random.integers(0, k, k)]
    elif structure == "scaled duplicates":
        H = H[:, random.integers(0, k, k)] * 10.0 ** random.integers(-3, 4, k)
    elif structure == "low rank":
        H = H[:, : (k + 1) // 2] @ random.standard_normal(((k + 1) // 2, k))
    elif structure == "nearly equal":
        H = H[:, :1] + 10.0 ** -random.integers(1, 7) * H
    elif structure == "wide scales":
        H = H * 10.0 ** random.integers(-6, 7, k)
    return H


def constraints(random: np.random.Generator, kinds: set[str], n: int, k: int, m: int) -> dict[str, object]:
    """Feasible ones, with degenerate vertices: bounds of zero, totals of zero, of all bounds, of whole numbers."""
    asked: dict[str, object] = {}
    rows = random.choice([1, k])  # shared or not
    if "allowed" in kinds:
        asked["allowed"] = random.random((k, m)) < random.choice([0.2, 0.7])
    if "signed" in kinds:
        asked["signed"] = random.random((k, 1)) < 0.4
    if "weights" in kinds:
        whole = random.integers(0, 3, (n, m)).astype(float)
        asked["weights"] = whole if random.random() < 0.5 else random.random((n, m)) * 10.0 ** random.integers(-3, 4)
    if "upper" in kinds:
        upper = random.integers(0, 3, (rows, m)) / 2 if random.random() < 0.5 else random.random((rows, m))
        asked["upper"] = np.where(random.random((rows, m)) < 0.3, np.inf, upper)
    if "total" in kinds:
        high = np.broadcast_to(asked.get("upper", np.inf), (k, m))
        room = np.where(asked.get("allowed", True), high, 0).sum(0)
        share = random.choice([0.0, 0.3, 1.0], m)
        total = np.where(np.isfinite(room), share * np.where(np.isfinite(room), room, 0), random.integers(0, 4, m))
        total = np.where((random.random(m) < 0.3) & asked.get("signed", np.zeros(1, bool)).any(), 0, total)
        asked |= {"total": total[None], "total_kind": random.choice(["equal", "at_most"])}
        if asked["total_kind"] == "at_most":  # as good as none
            asked["total"] = asked["total"] * np.where(random.random((1, m)) < 0.3, 10.0 ** random.integers(3, 25), 1)
    return asked


@st.composite
def problems(draw, columns=6):
    """H (n, k), Y (n, m) and the options of a feasible problem."""
    n, k, m = draw(st.integers(1, 12)), draw(st.integers(1, 10)), draw(st.integers(1, columns))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    H = basis(random, draw(st.sampled_from(STRUCTURES)), n, k)
    Y = random.standard_normal((n, m))
    kinds = draw(st.sets(st.sampled_from(["allowed", "weights", "total", "upper", "signed"]), min_size=1))
    asked = constraints(random, kinds, n, k, m)
    if draw(st.booleans()):
        H, Y = np.round(2 * H), np.round(2 * Y)  # ties
    if draw(st.booleans()):  # planted, and feasible where there is no sum
        Y = H @ np.minimum(np.maximum(random.standard_normal((k, m)), 0), asked.get("upper", np.inf))
    asked["ridge"] = draw(st.sampled_from([0.0, 0.0, 1e-3, 1.0]))
    asked["l1"] = draw(st.sampled_from([0.0, 0.0, 0.3])) * random.random((k, 1))
    if "total" not in kinds and draw(st.booleans()):  # prices that no entry is worth
        asked["l1"] = asked["l1"] * np.where(random.random((k, 1)) < 0.3, 10.0 ** random.integers(3, 25), 1)
    if "signed" in kinds:  # a linear term on entries of any sign has no minimum where H does not see them
        asked["l1"] = np.where(asked["signed"] & (asked["ridge"] == 0), 0, asked["l1"])
    basis_scale = 10.0 ** draw(st.sampled_from([0, 0, 0, -30, -8, 8, 30]))
    target_scale = 10.0 ** draw(st.sampled_from([0, 0, 0, -30, -8, 8, 30]))
    unit = target_scale / basis_scale  # of W
    for name in ("upper", "total"):
        if name in asked:
            asked[name] = asked[name] * unit
    asked["l1"] = asked["l1"] * basis_scale * target_scale
    asked["ridge"] = asked["ridge"] * basis_scale**2
    options = {
        name: torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x if name != "total_kind" else str(x)
        for name, x in asked.items()
    }
    return torch.from_numpy(H * basis_scale), torch.from_numpy(Y * target_scale), options


def check(H, Y, options, **more):
    """Optimal by the independent check, or said not to be; and only signed entries of a dependent H may be that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = nnls(H, Y, **options, **more)
    outside, wrong = constrained_kkt(H, Y, solution.W, **options)
    # No column can be impossible, and a W that is not optimal may still not leave what it has to obey.
    assert solution.W.isfinite().all()
    if solution.converged:
        assert max(outside, wrong) <= 2e-12
    else:
        assert "signed" in options, "only with entries of any sign may dependent columns defeat the solver"
    if "signed" not in options:
        assert outside <= 1e-14
        assert (solution.W >= 0).all()
    if "upper" in options:
        assert (options["upper"] >= solution.W).all()
    if "allowed" in options:
        assert (solution.W[~options["allowed"].expand_as(solution.W)] == 0).all()
    return solution


@given(problem=problems())
@drawn(EXAMPLES)
def test_every_solution_obeys_and_is_optimal(problem):
    check(*problem)


@given(problem=problems(columns=4))
@drawn(EXAMPLES // 20)
def test_in_operations_of_torch_alone(torch_alone, problem):
    check(*problem)


@given(problem=problems(columns=4), seed=st.integers(0, 2**32 - 1), size=st.integers(-10, 10))
@drawn(EXAMPLES // 20)
def test_from_any_start(problem, seed, size):
    H, Y, options = problem
    random = torch.Generator().manual_seed(seed)
    W0 = torch.randn(H.shape[1], Y.shape[1], generator=random, dtype=torch.float64) * 10.0**size
    check(H, Y, options, W0=W0)


@given(problem=problems(columns=4))
@drawn(EXAMPLES // 20)
def test_gradients_are_finite(problem):
    H, Y, options = problem
    leaves = [H.clone().requires_grad_(), Y.clone().requires_grad_()]
    for name in ("weights", "total", "upper", "l1"):
        if name in options:
            options[name] = options[name].clone().requires_grad_()
            leaves.append(options[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W = nnls(leaves[0], leaves[1], **options).W
    W = W / W.detach().abs().amax().clamp(min=1e-300)
    for gradient in torch.autograd.grad(W.square().sum(), leaves):
        assert gradient.isfinite().all()
