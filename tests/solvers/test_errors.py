"""Bad arguments of the NNLS layer: the message names the argument, what was expected and what came."""

import pytest
import torch

from diffnmf import nnls, nnls_gram
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import ConeProgram, CoordinateDescent, ProjectedGradient

H, Y = torch.rand(2, 6, 3), torch.rand(2, 6, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((H[0, 0], Y), {}, ValueError, r"H: expected .*2 dimensions; got \(3,\)"),
        ((H, Y[0, 0]), {}, ValueError, r"Y: expected .*2 dimensions; got \(4,\)"),
        ((H[0], Y[0, :, 0]), {}, ValueError, r"Y: .*got \(6,\) \(Y\.unsqueeze\(-1\) is a matrix of one column\)"),
        ((H, Y[0, 0, 0]), {}, ValueError, r"Y: .*got \(\)$"),
        ((H[0].to_sparse(), Y[0]), {}, TypeError, r"H: expected a dense tensor; .*sparse_coo \(use H\.to_dense\(\)\)"),
        ((H[0], Y[0].to_sparse()), {}, TypeError, r"Y: expected a dense tensor"),
        ((H, Y), {"W0": torch.rand(3, 4).to_sparse()}, TypeError, r"W0: expected a dense tensor"),
        ((H, Y), {"ridge": torch.rand(2).to_sparse()}, TypeError, r"ridge: expected a dense tensor"),
        (
            (torch.nested.nested_tensor([H[0], H[1, :5]], layout=torch.jagged), Y),
            {},
            TypeError,
            r"H: expected a dense tensor; got a nested one",
        ),
        ((H[0].to(torch.float8_e5m2), Y[0]), {}, TypeError, r"H: expected a real .* dtype; got torch.float8_e5m2"),
        ((H, Y), {"l1": H.new_ones(1).to(torch.float8_e5m2)}, TypeError, r"l1: expected a real floating-point dtype"),
        ((H, Y[:, :5]), {}, ValueError, r"H and Y: expected the same number of rows n; got H \(2, 6, 3\).*\(2, 5, 4\)"),
        ((H, torch.rand(3, 6, 4)), {}, ValueError, r"H and Y: expected batch dimensions that broadcast"),
        ((H.long(), Y), {}, TypeError, r"H: expected a real floating-point dtype; got torch.int64"),
        ((H, Y.to(torch.complex64)), {}, TypeError, r"Y: expected a real floating-point dtype; got torch.complex64"),
        ((H.numpy(), Y), {}, TypeError, r"H: expected a torch.Tensor; got ndarray"),
        ((H, Y.to("meta")), {}, ValueError, r"Y: expected the device of H, cpu; got meta"),
        ((H, Y), {"ridge": -1.0}, ValueError, r"ridge: expected a finite number ≥ 0, or a tensor; got -1.0"),
        ((H, Y), {"l1": float("nan")}, ValueError, r"l1: expected a finite number ≥ 0, or a tensor; got nan"),
        ((H, Y), {"l1": "much"}, TypeError, r"l1: expected a finite number ≥ 0, or a tensor; got 'much'"),
        ((H, Y), {"ridge": True}, TypeError, r"ridge: expected a finite number ≥ 0, or a tensor; got True"),
        (
            (H, Y),
            {"ridge": torch.ones(3)},
            ValueError,
            r"ridge: .*broadcasts to the shape of W, .*; got \(3,\) \(one a problem: ridge\[\.\.\., None, None\]\)",
        ),
        ((H, Y), {"l1": torch.ones(2, dtype=torch.int64)}, TypeError, r"l1: expected a real floating-point dtype"),
        ((H, Y), {"l1": torch.ones(2, device="meta")}, ValueError, r"l1: expected the device of H, cpu; got meta"),
        ((H, Y), {"W0": torch.rand(4, 3)}, ValueError, r"W0: .*broadcasts to \(2, 3, 4\); got \(4, 3\)"),
        ((H, Y), {"W0": torch.ones(3, 4, dtype=torch.int64)}, TypeError, r"W0: expected a real floating-point dtype"),
        (
            (H, Y),
            {"solver": "simplex"},
            ValueError,
            r"solver: expected one of bpp, .*unrolled; got 'simplex'",
        ),
        ((H, Y), {"solver": 3}, TypeError, r"solver: expected a name .* or a solver instance; got 3"),
        (
            (H, Y),
            {"backward": "exact"},
            ValueError,
            r"backward: expected one of detached, implicit, unrolled; got 'exact'",
        ),
    ],
)
def test_bad_argument(arguments, options, error, message):
    with pytest.raises(error, match=message):
        nnls(*arguments, **options)


def test_the_layer_checks_its_arguments_as_nnls_does():
    with pytest.raises(TypeError, match=r"H: expected a dense tensor"):
        NNLSLayer()(H.to_sparse(), Y)
    with pytest.raises(ValueError, match=r"Y\.unsqueeze\(-1\)"):
        NNLSLayer()(H[0], Y[0, :, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": "simplex"}, ValueError, "solver: expected one of"),
        ({"backward": "exact"}, ValueError, "backward: expected one of"),
        ({"ridge": -0.5}, ValueError, "ridge: expected a finite number"),
        ({"l1": None}, TypeError, "l1: expected a finite number ≥ 0, or a tensor; got None"),
    ],
)
def test_the_layer_checks_its_options_when_it_is_made(options, error, message):
    with pytest.raises(error, match=message):
        NNLSLayer(**options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ProjectedGradient(max_iter=-1), ValueError, "max_iter: expected an int ≥ 0; got -1"),
        (lambda: ProjectedGradient(max_iter=2.5), TypeError, "max_iter: expected an int"),
        (lambda: ProjectedGradient(tol=-1e-3), ValueError, "tol: expected a finite number"),
        (lambda: ProjectedGradient(finish=1), TypeError, "finish: expected True or False; got 1"),
        (lambda: CoordinateDescent(finish="no"), TypeError, "finish: expected True or False; got 'no'"),
        (lambda: ProjectedGradient(steps=3), TypeError, "unexpected keyword argument 'steps'"),
        (lambda: ConeProgram(tol="tight"), TypeError, "tol: expected a finite number ≥ 0; got 'tight'"),
        (lambda: ConeProgram(solver_args=["eps"]), TypeError, "solver_args: expected a mapping"),
    ],
)
def test_solver_options_are_checked_when_it_is_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_implicit_gradient_of_an_inexact_solve_is_refused():
    truncated = ProjectedGradient(max_iter=5, finish=False)
    NNLSLayer(truncated)(H, Y)  # no gradient is asked for
    with pytest.raises(ValueError, match='backward: "implicit" is right only at the exact solution'):
        NNLSLayer(truncated)(H.clone().requires_grad_(), Y)


def test_unrolling_a_cone_program_is_refused():
    with pytest.raises(ValueError, match="backward: ConeProgram has no iterations that can be differentiated"):
        NNLSLayer("cvxpylayer", backward="unrolled")(H.clone().requires_grad_(), Y)


@pytest.mark.parametrize(("name", "number"), [("ridge", 1e39), ("l1", 10**400), ("total", 1e39), ("total", -1e39)])
def test_a_number_that_the_dtype_cannot_hold(name, number):
    options = {name: number, "signed": torch.ones(3, 1, dtype=torch.bool)}
    message = rf"{name}: expected a number within the range of torch.float32, which is computed in, ±3.4e\+38; got"
    for dtype in (torch.float32, torch.float16):
        for solve in (lambda *x: nnls(*x, **options), lambda *x: NNLSLayer()(*x, **options)):
            with pytest.raises(ValueError, match=message):
                solve(H.to(dtype), Y.to(dtype))
    if number == 1e39:
        assert nnls(H.double(), Y.double(), **options).converged.all()


def test_a_bound_that_the_dtype_cannot_hold_is_none():
    for bound in (1e39, 10**400):
        assert torch.equal(nnls(H, Y, upper=bound).W, nnls(H, Y, upper=torch.inf).W)


@pytest.mark.parametrize(
    "solve",
    [
        lambda H, Y: nnls(H, Y),
        lambda H, Y: nnls(H, Y, total=1.0),
        lambda H, Y: nnls(H.requires_grad_(), Y),
        lambda H, Y: nnls_gram(H.T @ H, H.T @ Y),
    ],
    ids=["small", "constrained", "with gradient", "nnls_gram"],
)
def test_a_warning_points_at_the_call(solve):
    H, Y = torch.rand(10, 3), torch.rand(10, 2)
    Y[0, 0] = torch.nan
    with pytest.warns(ConvergenceWarning) as warned:
        solve(H, Y)
    assert warned[0].filename == __file__


def test_a_small_problem_is_checked_as_every_other():
    with pytest.raises(ValueError, match="total_kind: expected one of"):
        nnls(torch.rand(10, 3), torch.rand(10, 2), total_kind="most")
    with pytest.raises(TypeError, match="Y: expected a dense tensor; got a nested one"):
        nnls(torch.rand(4, 2), torch.nested.nested_tensor([torch.rand(3), torch.rand(4)], layout=torch.jagged))
