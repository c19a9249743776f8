"""The kernel that judges W against the operations of torch."""

import pytest
import torch

from diffnmf import nnls
from diffnmf.solvers import optimality as judging
from diffnmf.solvers.certificate import is_best
from diffnmf.solvers.problem import make_problem

pytestmark = pytest.mark.usefixtures("every_variant")
# B, n, k, m: fewer and more than whole vectors, rows and columns that are multiplied at once.
SHAPES = [(1, 1, 1, 1), (2, 31, 4, 5), (3, 70, 5, 97), (1, 5, 9, 300), (2, 100, 33, 64)]


def problem_of(shape, dtype, kind, *, ridge=0.0, l1=0.0):
    batch, n, k, m = shape
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand if kind == "positive" else torch.randn
    H, Y = (draw(batch, n, x, generator=generator, dtype=dtype) for x in (k, m))
    H[:, :, -1] = 0.0 if k > 1 else H[:, :, -1]
    Y[:, :, -1] = 0.0 if m > 1 else Y[:, :, -1]
    return make_problem(H.mT.contiguous().mT, Y, ridge, l1)


def both(monkeypatch, problem, W):
    """The judgement of the kernel and of torch."""
    by_kernel = judging.optimality(problem, W)
    with monkeypatch.context() as patched:
        patched.setattr(judging, "multiplies", lambda *_: False)
        return by_kernel, judging.optimality(problem, W)


@pytest.mark.filterwarnings("ignore:.*have not converged")
@pytest.mark.parametrize(("ridge", "l1"), [(0.0, 0.0), (0.3, 0.2)])
@pytest.mark.parametrize("kind", ["positive", "signed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_judges_as_torch_does(monkeypatch, shape, dtype, kind, ridge, l1):
    problem = problem_of(shape, dtype, kind, ridge=ridge, l1=l1)
    W = nnls(problem.H, problem.Y, ridge=ridge, l1=l1).W
    for some in (W, W + 1e-3, torch.zeros_like(W)):
        mine, expected = both(monkeypatch, problem, some)
        assert mine.gains is not None and mine.certain is not None and expected.gains is None
        for name in ("residual", "size", "gradient", "squares", "total_dual"):
            values = getattr(mine, name), getattr(expected, name)
            torch.testing.assert_close(*values, rtol=1e-9, atol=1e-12, msg=name)
        gains = (problem.H.double().mT @ problem.Y.double()).flatten(1).amax(1)
        torch.testing.assert_close(mine.gains, gains)
        assert not (mine.certain & ~is_best(problem, some, expected)).any()


def test_what_is_certain_of_non_negative_bases_needs_no_second_look():
    problem = problem_of((3, 40, 6, 20), torch.float64, "positive")
    W = nnls(problem.H, problem.Y).W
    assert judging.optimality(problem, W).certain.all()
    moved = W.clone()
    moved[1, 0, 0] += 1e-3
    assert judging.optimality(problem, moved).certain.tolist() == [True, False, True]


def test_nan_stays_in_its_problem():
    problem = problem_of((2, 20, 4, 70), torch.float64, "positive")
    W = nnls(problem.H, problem.Y).W
    W[1, 2, 69] = torch.nan
    judgement = judging.optimality(problem, W)
    assert judgement.residual.isnan().tolist() == [False, True]
    assert judgement.size.isnan().tolist() == [False, True]
    assert judgement.certain.tolist() == [True, False]
