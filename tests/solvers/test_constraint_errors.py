"""Constraints that make no sense or cannot be obeyed: an error that names the argument, or a marked column."""

import pytest
import torch
from nnls_problems import random_problem

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import LeastSquaresHALS, ProjectedGradient

H, Y = random_problem(2, n=6, k=3, m=4)
YES = torch.ones(3, 1, dtype=torch.bool)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"allowed": torch.ones(3, 4)}, TypeError, r"allowed: .* got dtype torch.float32 \(use allowed.bool\(\)\)"),
        ({"allowed": True}, TypeError, r"allowed: expected a bool tensor; got True \(use torch.as_tensor\)"),
        ({"signed": [[True]]}, TypeError, r"signed: expected a bool tensor; got \[\[True\]\] \(use torch.as_tensor\)"),
        ({"allowed": torch.ones(4, 3) > 0}, ValueError, r"allowed: .*the shape of W.*\(2, 3, 4\); got \(4, 3\)"),
        ({"signed": torch.ones(3, 1)}, TypeError, r"signed: expected a bool tensor; got dtype torch.float32"),
        ({"signed": torch.ones(2) > 0}, ValueError, r"signed: .*the shape of W.*got \(2,\)"),
        ({"weights": 2.0}, TypeError, r"weights: expected a torch.Tensor; got float"),
        ({"weights": torch.ones(6, 1, dtype=torch.int64)}, TypeError, r"weights: expected a real floating-point dtype"),
        ({"weights": torch.ones(5, 1)}, ValueError, r"weights: .*the shape of Y.*\(2, 6, 4\); got \(5, 1\)"),
        ({"weights": torch.ones(6, 1, device="meta")}, ValueError, r"weights: expected the device of H, cpu; got meta"),
        ({"weights": torch.ones(6, 1).to_sparse()}, TypeError, r"weights: expected a dense tensor"),
        ({"total": -1.0}, ValueError, r"total: expected a finite number ≥ 0, or a tensor; got -1.0"),
        ({"total": torch.inf}, ValueError, r"total: expected a finite number ≥ 0, or a tensor; got inf"),
        ({"total": -torch.inf, "signed": YES}, ValueError, r"total: expected a finite number .*or a tensor; got -inf"),
        ({"total": "one"}, TypeError, r"total: expected a finite number ≥ 0, or a tensor; got 'one'"),
        ({"total": True}, TypeError, r"total: expected a finite number ≥ 0, or a tensor; got True"),
        ({"total": torch.ones(3, 4)}, ValueError, r"total: .*\(\*batch, 1, m\), \(2, 1, 4\); got \(3, 4\)"),
        ({"total": torch.ones(5, 1, 1)}, ValueError, r"total: .*\(2, 1, 4\); got \(5, 1, 1\)"),
        ({"total": torch.ones(1, dtype=torch.int64)}, TypeError, r"total: expected a real floating-point dtype"),
        ({"total": 1.0, "total_kind": "most"}, ValueError, r"total_kind: expected one of at_most, equal; got 'most'"),
        ({"total_kind": "most"}, ValueError, r"total_kind: expected one of at_most, equal; got 'most'"),
        ({"total_kind": 3}, TypeError, r"total_kind: expected one of at_most, equal; got 3"),
        ({"upper": -0.5}, ValueError, r"upper: expected a finite number ≥ 0, or infinity or a tensor; got -0.5"),
        ({"upper": torch.nan}, ValueError, r"upper: expected a finite number ≥ 0"),
        ({"upper": "one"}, TypeError, r"upper: expected a finite number ≥ 0"),
        ({"upper": torch.ones(4, 1)}, ValueError, r"upper: .*the shape of W.*got \(4, 1\)"),
        ({"upper": torch.ones(3, 1, dtype=torch.complex64)}, TypeError, r"upper: expected a real floating-point dtype"),
        ({"tol": 1e-3, "solver": "bpp"}, ValueError, r"tol: expected None for bpp, which has no such option"),
        ({"max_iter": 2.5}, TypeError, r"max_iter: expected an int"),
    ],
)
def test_bad_argument(options, error, message):
    with pytest.raises(error, match=message):
        nnls(H, Y, **options)
    solver = options.get("solver", "unrolled")
    with pytest.raises(error, match=message):
        NNLSLayer(solver)(H, Y, **{name: x for name, x in options.items() if name != "solver"})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"allowed": torch.ones(3, 4)}, TypeError, "allowed: expected a bool tensor"),
        ({"signed": 1}, TypeError, "signed: expected a bool tensor; got 1"),
        ({"weights": 2.0}, TypeError, "weights: expected a torch.Tensor"),
        ({"total": -1.0}, ValueError, "total: expected a finite number ≥ 0"),
        ({"total_kind": "most"}, ValueError, "total_kind: expected one of"),
        ({"upper": -1}, ValueError, "upper: expected a finite number ≥ 0"),
        ({"rows": 1}, TypeError, "rows: expected True or False; got 1"),
    ],
)
def test_the_layer_checks_its_constraints_when_it_is_made(options, error, message):
    with pytest.raises(error, match=message):
        NNLSLayer(**options)


@pytest.mark.parametrize(
    "options",
    [{"weights": torch.ones(6, 1)}, {"total": 1.0}, {"upper": 1.0}, {"signed": YES}, {"ridge": torch.ones(3, 4)}],
    ids=lambda options: next(iter(options)),
)
def test_who_cannot_take_constraints_says_so(options):
    bounds = "upper" in options or "signed" in options  # which "ls_hals" obeys
    for solver in (ProjectedGradient(finish=False), *(() if bounds else ("ls_hals", LeastSquaresHALS()))):
        for call in (lambda s: nnls(H, Y, solver=s, **options), lambda s: NNLSLayer(s, **options)(H, Y)):
            with pytest.raises(ValueError, match=r"solver: (ls_hals|unrolled) as it is set does not take weights"):
                call(solver)
    for leaf in (H, H.clone().requires_grad_()):
        with pytest.raises(ValueError, match=r'backward: "unrolled" is for the plain problem'):
            NNLSLayer(backward="unrolled", **options)(leaf, Y)


IMPOSSIBLE = {
    "a total above all bounds": {"total": [1.0, 1.0, 5.0, 1.0], "upper": 1.0},
    "a negative total": {"total": [1.0, 1.0, -1.0, 1.0]},
    "a negative limit": {"total": [1.0, 1.0, -1.0, 1.0], "total_kind": "at_most"},
    "a total that is NaN": {"total": [1.0, 1.0, torch.nan, 1.0]},
    "an infinite total": {"total": [1.0, 1.0, torch.inf, 1.0]},
    "nothing allowed": {"total": [1.0] * 4, "allowed": [True, True, False, True]},
    "a negative bound": {"upper": [1.0, 1.0, -0.1, 1.0]},
    "a bound that is NaN": {"upper": [1.0, 1.0, torch.nan, 1.0]},
    "a negative weight": {"weights": [1.0, 1.0, -1.0, 1.0]},
    "a weight that is NaN": {"weights": [1.0, 1.0, torch.nan, 1.0]},
    "an infinite weight": {"weights": [1.0, 1.0, torch.inf, 1.0]},
}


@pytest.mark.parametrize("options", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("kernel_fixture", ["compiled", "torch_alone"])
def test_a_column_that_cannot_be_is_marked(options, kernel_fixture, request):
    """The third one of the first problem; nothing else is touched."""
    request.getfixturevalue(kernel_fixture)

    def batched(x):
        row = torch.tensor(x)[None] if isinstance(x, list) else x
        if not isinstance(row, torch.Tensor):
            return row
        row = row if row.dtype == torch.bool else row.double()
        return torch.stack([row, row[:, :1].expand(1, 4)])

    options = {name: batched(x) for name, x in options.items()}
    others = [0, 1, 3]
    leaves = [H.clone().requires_grad_(), Y.clone().requires_grad_()]
    leaves += [x.requires_grad_() for x in options.values() if isinstance(x, torch.Tensor) and x.is_floating_point()]
    with pytest.warns(
        ConvergenceWarning, match="the input of 1 of 2 problems .* cannot obey its constraints, and 1 of 8"
    ):
        solution = nnls(*leaves[:2], **options)
    assert solution.converged.tolist() == [False, True]
    assert solution.kkt_residual.isnan().tolist() == [True, False]
    spoilt = torch.zeros(2, 3, 4, dtype=torch.bool)
    spoilt[0, :, 2] = True
    assert torch.equal(solution.W.isnan(), spoilt)
    assert torch.equal(solution.dual.isnan(), spoilt)
    assert torch.equal(NNLSLayer()(H, Y, **options).isnan(), spoilt)
    fine = {name: x[:1, :, others] if isinstance(x, torch.Tensor) else x for name, x in options.items()}
    alone = nnls(H[:1], Y[:1][..., others], **fine).W
    torch.testing.assert_close(solution.W[:1][..., others], alone, rtol=0, atol=1e-13)
    gradients = torch.autograd.grad(solution.W.nan_to_num().square().sum(), leaves)
    for gradient in gradients:
        assert gradient.isfinite().all()
    for gradient in gradients[1:]:
        assert (gradient[0, :, 2] == 0).all()
    assert gradients[0].abs().max() > 0


def test_bounds_that_just_reach_the_total_are_no_error():
    """Whatever rounding makes of their sum."""
    for dtype in (torch.float64, torch.float32, torch.float16):
        h, y = (x.to(dtype) for x in (H, Y))
        for bound in (0.1, 0.3, 1 / 3):
            upper = torch.full((3, 1), bound, dtype=dtype)
            W = nnls(h, y, total=upper.double().sum().to(dtype), upper=upper).W
            torch.testing.assert_close(W, upper.expand_as(W), rtol=1e-6 if dtype != torch.float16 else 1e-2, atol=0)


def test_no_entries_have_no_sum():
    empty = torch.zeros(2, 6, 0, dtype=torch.float64)
    for options in ({"total": 1.0}, {"total": torch.tensor(-1.0), "total_kind": "at_most"}):
        with pytest.warns(ConvergenceWarning, match="cannot obey"):
            assert not nnls(empty, Y, **options).converged.any()
    for options in ({"total": 0.0}, {"total": 1.0, "total_kind": "at_most"}):
        assert nnls(empty, Y, **options).converged.all()


def test_a_problem_without_a_minimum_is_marked():
    """An l1 on an entry of any sign that H does not see: the objective falls for ever."""
    flat = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    both = torch.ones(2, 1, dtype=torch.bool)
    slope = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="have not converged"):
        assert not nnls(flat, flat, signed=both, l1=slope).converged
    nothing = torch.zeros(0, 2, dtype=torch.float64)
    with pytest.warns(ConvergenceWarning, match="have not converged"):
        assert not nnls(nothing, nothing, signed=both, l1=1.0).converged


@pytest.mark.parametrize(("scale_H", "scale_Y"), [(1.0, 1.0), (2.0**-450, 2.0**250), (2.0**400, 2.0**-400)])
def test_a_price_on_an_entry_of_any_sign_that_h_does_not_see(scale_H, scale_Y):
    """At every scale: nothing holds that entry."""
    H, Y = random_problem(n=6, k=3, m=2)
    H[:, 1] = 0
    price = torch.tensor([[0.0], [0.1], [0.0]], dtype=torch.float64) * scale_H * scale_Y
    options = {"signed": torch.tensor([[False], [True], [False]])}
    assert nnls(H * scale_H, Y * scale_Y, **options).converged
    with pytest.warns(ConvergenceWarning, match="have not converged"):
        assert not nnls(H * scale_H, Y * scale_Y, l1=price, **options).converged


def test_a_problem_without_a_minimum_is_marked_where_rounding_gives_it_one():
    """H has a null space, along which ΣW falls for ever; but H d is not quite zero in floating point."""
    H, Y = random_problem(50, n=4, k=6, m=1)
    with pytest.warns(ConvergenceWarning, match="50 of 50 problems have not converged"):
        solution = nnls(H, Y, signed=torch.ones(6, 1, dtype=torch.bool), l1=1.0)
    assert not solution.converged.any()
    assert (solution.kkt_residual > 1e-6).all()
