"""What holds for every solver, exact or not: shapes, dtypes, options, and never a NaN that spreads.

Each promises what it can: an exact one the solution, one that stops before it a step in its direction.
"""

import copy
import pickle

import pytest
import torch
from helpers import EVERY, layer_of, solve
from nnls_problems import kkt, random_problem

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS, NNLSSolver, ProjectedGradient
from diffnmf.solvers.base import BACKWARDS

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
SHAPES = {  # batch of H, batch of Y, n, k, m
    "no batch": ((), (), 12, 4, 3),
    "one batch dimension": ((2,), (2,), 12, 4, 3),
    "two batch dimensions": ((2, 3), (2, 3), 6, 3, 2),
    "one H for every Y": ((), (3,), 12, 4, 2),
    "one Y for every H": ((3,), (), 12, 4, 2),
    "broadcast ones": ((2, 1), (1, 3), 6, 3, 2),
    "one column": ((2,), (2,), 12, 4, 1),
    "one row": ((2,), (2,), 1, 3, 2),
    "one component": ((2,), (2,), 5, 1, 3),
    "more components than rows": ((2,), (2,), 3, 5, 2),
}


@pytest.fixture(params=EVERY.values(), ids=EVERY)
def solver(request) -> NNLSSolver:
    return request.param


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_result_in_every_shape_and_dtype(solver, shape, dtype):
    batch_H, batch_Y, n, k, m = shape
    H = random_problem(*batch_H, n=n, k=k, m=1, seed=1)[0].to(dtype)
    Y = random_problem(*batch_Y, n=n, k=1, m=m, seed=2)[1].to(dtype)
    solution = solve(solver, H, Y)
    batch = torch.broadcast_shapes(batch_H, batch_Y)
    assert solution.W.shape == (*batch, k, m)
    assert solution.W.dtype == dtype
    assert (solution.W >= 0).all()
    assert solution.kkt_residual.shape == solution.iterations.shape == solution.converged.shape == batch
    W, H, Y = (x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (solution.W, H, Y))
    residuals = [kkt(*problem) for problem in zip(H, Y, W, strict=True)]
    if solver.exact:
        assert solution.converged.all()
        assert max(residuals) <= TOLERANCE[dtype]
    else:
        nothing = [kkt(h, y, torch.zeros_like(w)) for h, y, w in zip(H, Y, W, strict=True)]
        assert (torch.tensor(residuals) <= 0.5 * torch.tensor(nothing) + TOLERANCE[dtype]).all()
    torch.testing.assert_close(solution.kkt_residual.flatten(), torch.tensor(residuals).double(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("batch_H", "batch_Y", "n", "k", "m"),
    [((0,), (0,), 5, 3, 2), ((0,), (), 5, 3, 2), ((2,), (2,), 5, 3, 0), ((2,), (2,), 5, 0, 3), ((2, 0), (1,), 5, 3, 2)],
)
def test_empty_problems(solver, batch_H, batch_Y, n, k, m):
    H = torch.rand(*batch_H, n, k, requires_grad=True)
    solution = solve(solver, H, torch.rand(*batch_Y, n, m))
    assert solution.W.shape == (*torch.broadcast_shapes(batch_H, batch_Y), k, m)
    assert solution.converged.all()
    solution.W.sum().backward()
    assert H.grad.shape == H.shape


def test_no_rows(solver):
    W = solve(solver, torch.rand(2, 0, 3), torch.rand(2, 0, 4)).W
    assert torch.equal(W, torch.zeros(2, 3, 4))


def test_batch_equals_loop(solver):
    H, Y = random_problem(4, n=20, k=6, m=5)
    together = layer_of(solver)(H, Y)
    alone = torch.stack([layer_of(solver)(h, y) for h, y in zip(H, Y, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=max(1e-12, 0.1 * solver.tolerance))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["H", "Y"])
def test_a_problem_that_is_not_finite_spoils_only_itself(solver, bad, where):
    H, Y = random_problem(3, n=20, k=6, m=5)
    clean = layer_of(solver)(H, Y)
    (H if where == "H" else Y)[1, 2, 3] = bad
    with pytest.warns(ConvergenceWarning, match="the input of 1 of 3 problems"):
        solution = nnls(H.requires_grad_(), Y, solver=solver, backward=solver.backwards[0])
    spoilt = torch.zeros_like(clean, dtype=torch.bool)
    spoilt[1, :, slice(None) if where == "H" else 3] = True  # every column of Y is a problem of its own
    assert torch.equal(solution.W.isnan(), spoilt)
    assert torch.equal(solution.W[~spoilt], clean[~spoilt])
    assert not solution.converged[1]
    assert solution.converged[[0, 2]].all() or not solver.exact
    (gradient,) = torch.autograd.grad(solution.W[[0, 2]].sum(), H)
    (expected,) = torch.autograd.grad(layer_of(solver)(H[[0, 2]], Y[[0, 2]]).sum(), H)
    torch.testing.assert_close(gradient[[0, 2]], expected[[0, 2]], rtol=1e-6, atol=1e-8)


def test_zero_targets_and_active_columns(solver):
    H = torch.rand(10, 4, dtype=torch.float64)
    layer = layer_of(solver)
    assert (layer(H, torch.zeros(10, 2, dtype=torch.float64)).abs() <= 1e-8).all()
    if solver.exact:
        assert (layer(H, -torch.rand(10, 2, dtype=torch.float64)).abs() <= 1e-8).all()
    H[:, 2] = 0
    W = layer(H, H @ torch.rand(4, 3, dtype=torch.float64))
    assert (W[2].abs() <= 1e-8).all() and (W[[0, 1, 3]] > 0.0).all()


@pytest.mark.parametrize("penalty", ["ridge", "l1"])
def test_penalties_as_numbers_and_tensors(solver, penalty):
    H, Y = random_problem(2, n=20, k=5, m=4)
    weights = torch.tensor([0.5, 3.0], dtype=torch.float64)
    W = solve(solver, H, Y, **{penalty: weights[:, None, None]}).W
    for i, weight in enumerate(weights.tolist()):
        alone = solve(solver, H[i], Y[i], **{penalty: weight}).W
        torch.testing.assert_close(W[i], alone, rtol=0, atol=1e-7)
        assert kkt(H[i], Y[i], W[i], **{penalty: weight}) <= (1e-6 if solver.exact else 5e-2)
        assert W[i].sum() < solve(solver, H[i], Y[i]).W.sum()


def test_penalties_of_the_layer_and_of_the_call(solver):
    H, Y = random_problem(2)
    layer = layer_of(solver, ridge=0.5, l1=0.1)
    torch.testing.assert_close(layer(H, Y), solve(solver, H, Y, ridge=0.5, l1=0.1).W)
    torch.testing.assert_close(layer(H, Y, ridge=0.0, l1=0.0), solve(solver, H, Y).W)


def test_a_warm_start_changes_no_solution(solver):
    H, Y = random_problem(3, n=20, k=6, m=5)
    cold = layer_of(solver)(H, Y)
    for W0 in (torch.rand_like(cold), cold, torch.full_like(cold, torch.nan), -cold, torch.zeros(6, 1).double()):
        warm = layer_of(solver)(H, Y, W0=W0)
        if solver.exact:
            torch.testing.assert_close(warm, cold, rtol=0, atol=1e-12)
        assert warm.isfinite().all() and (warm >= 0).all()


def test_autocast_changes_nothing(solver):
    H, Y = random_problem(2, dtype=torch.float32)
    expected = layer_of(solver)(H, Y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer_of(solver)(H, Y), expected)
        assert layer_of(solver)(H.bfloat16(), Y).dtype == torch.float32


def test_layer_is_a_module_without_state(solver):
    layer = layer_of(solver, ridge=0.1)
    assert list(layer.parameters()) == [] and layer.state_dict() == {}
    H, Y = random_problem(2)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(H, Y), layer(H, Y))
    assert type(layer.solver).__name__ in repr(layer) and "ridge=0.1" in repr(layer)


@pytest.mark.parametrize("name", SOLVERS)
def test_solver_by_instance(name):
    H, Y = random_problem(2)
    instance = SOLVERS[name]()
    assert isinstance(instance, NNLSSolver)
    layers = (NNLSLayer(solver, backward="detached") for solver in (instance, name))
    assert torch.equal(*(layer(H, Y) for layer in layers))
    assert instance == SOLVERS[name]()  # options are the whole identity


def test_every_kind_of_gradient_is_given_or_refused(solver):
    H, Y = random_problem(2)
    H.requires_grad_()
    assert ("implicit" in solver.backwards) == solver.exact and "detached" in solver.backwards
    for backward in BACKWARDS:
        layer = NNLSLayer(solver, backward=backward)
        if backward in solver.backwards:
            assert layer(H, Y).requires_grad == (backward != "detached")
        else:
            with pytest.raises(ValueError, match="backward: .*use .*detached"):
                layer(H, Y)


def test_the_layer_never_warns_and_nnls_does():
    H, Y = random_problem(3, n=20, k=6, m=5)
    stopped = ProjectedGradient(max_iter=1, finish=False)
    NNLSLayer(stopped)(H, Y)  # warnings are errors here
    with pytest.warns(ConvergenceWarning, match=r"ProjectedGradient: 3 of 3 problems have not converged") as caught:
        solution = nnls(H, Y, solver=stopped)
    assert len(caught) == 1
    assert not solution.converged.any()
    assert solution.iterations.tolist() == [1, 1, 1]


def test_tensor_penalties_move_with_the_layer():
    layer = NNLSLayer(ridge=torch.tensor(0.5), l1=torch.nn.Parameter(torch.tensor(0.1)))
    assert [name for name, _ in layer.named_buffers()] == ["ridge"]
    assert [name for name, _ in layer.named_parameters()] == ["l1"]
    assert layer.double().ridge.dtype == torch.float64
    H, Y = random_problem(2)
    layer(H, Y).sum().backward()
    assert layer.l1.grad.isfinite() and layer.l1.grad != 0


def test_a_penalty_is_shown_in_one_line():
    shown = repr(NNLSLayer(ridge=torch.nn.Parameter(torch.tensor(0.5)), l1=torch.rand(4, 1)))
    assert "ridge=0.5, l1=tensor(4, 1)" in shown.replace("tensor(0.5000)", "0.5") and "\n" not in shown
