"""torch.func, forward mode, compile, export and several processes: the same numbers as the plain reverse path."""

import copy

import pytest
import torch
from helpers import TRANSFORMABLE
from nnls_problems import random_problem
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from diffnmf import nnls
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import ProjectedGradient
from diffnmf.solvers.keys import solver_key
from diffnmf.solvers.nnls import make_problem
from diffnmf.solvers.transforms import _solution


@pytest.fixture(params=TRANSFORMABLE)
def layer(request) -> NNLSLayer:
    return NNLSLayer(request.param, ridge=0.1, l1=0.05)


@pytest.fixture
def problem():
    return random_problem(3, n=10, k=4, m=3)


def reverse_gradient(layer, H, Y):
    H = H.clone().requires_grad_()
    return torch.autograd.grad(layer(H, Y).sin().sum(), H)[0]


def test_forward_mode_against_finite_differences(layer):
    H, Y = (x.requires_grad_() for x in random_problem(2, n=6, k=3, m=2))
    ridge = torch.full((2, 1, 1), 0.3, dtype=torch.float64, requires_grad=True)
    l1 = torch.full((2, 1, 1), 0.2, dtype=torch.float64, requires_grad=True)

    def solve(H, Y, ridge, l1):
        return layer(H, Y, ridge=ridge, l1=l1)

    assert gradcheck(
        solve, (H, Y, ridge, l1), check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )


def test_forward_over_reverse_against_finite_differences(layer):
    H, Y = (x.requires_grad_() for x in random_problem(1, n=6, k=3, m=2))
    assert gradgradcheck(layer, (H, Y), check_fwd_over_rev=True, check_rev_over_rev=True)


def test_vmap_is_a_loop(layer, problem):
    H, Y = problem
    expected = layer(H, Y)
    torch.testing.assert_close(vmap(layer)(H, Y), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(vmap(layer, in_dims=(0, None))(H, Y[0]), layer(H, Y[0]), rtol=0, atol=1e-14)
    torch.testing.assert_close(
        vmap(layer, in_dims=(None, 2))(H[0], Y.movedim(0, 2)), layer(H[0], Y), rtol=0, atol=1e-14
    )
    torch.testing.assert_close(vmap(vmap(layer))(H[None], Y[None])[0], expected, rtol=0, atol=1e-14)
    started = vmap(lambda h, y, w: layer(h, y, W0=w))(H, Y, torch.rand_like(expected))
    torch.testing.assert_close(started, expected, rtol=0, atol=1e-12)


def test_vmap_over_nothing(layer, problem):
    H, Y = (x[:0] for x in problem)
    assert vmap(layer)(H, Y).shape == (0, 4, 3)
    assert vmap(layer, in_dims=(0, None))(H, problem[1][0]).shape == (0, 4, 3)
    assert vmap(vmap(layer))(H.expand(2, *H.shape), Y.expand(2, *Y.shape)).shape == (2, 0, 4, 3)
    assert vmap(layer)(H[:, None].expand(-1, 5, -1, -1), Y[:, None].expand(-1, 5, -1, -1)).shape == (0, 5, 4, 3)
    assert vmap(grad(lambda h, y: layer(h, y).sin().sum()))(H, Y).shape == H.shape
    shapes = [x.shape for x in vmap(lambda h, y: nnls(h, y)[1:])(H, Y)]
    assert shapes == [(0,)] * 4 + [(0, 4, 3), (0, 1, 3)]


def test_vmap_leaves_a_bad_problem_alone(layer, problem):
    H, Y = problem
    expected = layer(H, Y)
    H[1, 0, 0] = torch.nan
    W = vmap(layer)(H, Y)
    assert W[1].isnan().all()
    torch.testing.assert_close(W[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-14)


def test_per_sample_gradients(layer, problem):
    H, Y = problem
    gradients = vmap(grad(lambda h, y: layer(h, y).sin().sum()))(H, Y)
    torch.testing.assert_close(gradients, reverse_gradient(layer, H, Y), rtol=1e-10, atol=1e-12)


def test_both_gradient_paths_agree(layer, problem):
    H, Y = problem
    gradient = grad(lambda h: layer(h, Y).sin().sum())(H)
    torch.testing.assert_close(gradient, reverse_gradient(layer, H, Y), rtol=1e-10, atol=1e-12)


def test_jvp_is_the_gradient_along_a_direction(layer, problem):
    H, Y = problem
    direction = torch.randn_like(H)

    def loss(h):
        return layer(h, Y).sin().sum()

    value, tangent = jvp(loss, (H,), (direction,))
    expected = (reverse_gradient(layer, H, Y) * direction).sum()
    torch.testing.assert_close(tangent, expected)
    torch.testing.assert_close(value, loss(H))
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.unpack_dual(loss(forward_ad.make_dual(H, direction)))
    torch.testing.assert_close(dual.tangent, expected)


def test_jacobians_and_hessians_in_every_nesting(layer, problem):
    H, Y = (x[0] for x in problem)

    def loss(h):
        return layer(h, Y).sin().sum()

    torch.testing.assert_close(jacfwd(layer, argnums=(0, 1))(H, Y), jacrev(layer, argnums=(0, 1))(H, Y))
    expected = torch.autograd.functional.hessian(loss, H.clone().requires_grad_())
    assert expected.abs().max() > 0
    for second in (hessian(loss), jacfwd(jacfwd(loss)), jacrev(jacrev(loss)), jacrev(jacfwd(loss))):
        torch.testing.assert_close(second(H), expected, rtol=1e-9, atol=1e-11)


def test_diagnostics_under_vmap(problem):
    residual = vmap(lambda h, y: nnls(h, y).kkt_residual)(*problem)
    assert residual.shape == (3,) and (residual <= 1e-12).all()


def test_unrolled_and_detached_under_transforms(problem):
    H, Y = problem
    direction = torch.randn_like(H)
    truncated = NNLSLayer(ProjectedGradient(max_iter=5, finish=False), backward="unrolled")
    _, tangent = jvp(lambda h: truncated(h, Y).sum(), (H,), (direction,))
    h = H.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(truncated(h, Y).sum(), h)
    torch.testing.assert_close(tangent, (gradient * direction).sum())
    detached = grad(lambda h: (h @ NNLSLayer(backward="detached")(h, Y)).sin().sum())(H)
    h = H.clone().requires_grad_()
    (expected,) = torch.autograd.grad((h @ NNLSLayer()(h, Y).detach()).sin().sum(), h)
    torch.testing.assert_close(detached, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_compile_without_graph_breaks(layer, problem):
    H, Y = problem
    compiled = torch.compile(layer, fullgraph=True)
    h = H.clone().requires_grad_()
    W = compiled(h, Y)
    torch.testing.assert_close(W.detach(), layer(H, Y), rtol=0, atol=1e-14)
    (gradient,) = torch.autograd.grad(W.sin().sum(), h)
    torch.testing.assert_close(gradient, reverse_gradient(layer, H, Y), rtol=1e-10, atol=1e-12)
    wide = random_problem(5, n=10, k=4, m=7)
    torch.testing.assert_close(compiled(*wide), layer(*wide), rtol=0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_export(layer, problem):
    program = torch.export.export(layer, problem)
    torch.testing.assert_close(program.module()(*problem), layer(*problem), rtol=0, atol=1e-14)


@pytest.mark.parametrize("contiguous", [True, False])
def test_the_custom_operator_keeps_its_promises(problem, contiguous):
    H, Y = problem
    if not contiguous:
        H, Y = H.mT.contiguous().mT, Y.movedim(0, 2).contiguous().movedim(2, 0)
    p = make_problem(H, Y)
    inputs = (p.H, p.Y, p.ridge, p.l1, None, solver_key(ProjectedGradient()))
    torch.library.opcheck(_solution, inputs)


def test_a_cone_program_says_what_it_cannot(problem):
    H, Y = (x[0] for x in problem)
    cone = NNLSLayer("cvxpylayer")
    for attempt in (
        lambda: vmap(cone)(H[None], Y[None]),
        lambda: grad(lambda h: cone(h, Y).sum())(H),
        lambda: jvp(lambda h: cone(h, Y), (H,), (H,)),
    ):
        with pytest.raises(NotImplementedError, match="cvxpylayer: .*first derivatives in reverse mode only"):
            attempt()
    h = H.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cone(h, Y).square().sum(), h, create_graph=True)
    with pytest.raises(NotImplementedError, match="cvxpylayer: .*second derivatives"):
        torch.autograd.grad(gradient.sum(), h)
    with pytest.raises(NotImplementedError, match="cvxpylayer: .*second derivatives"):
        torch.autograd.grad((gradient * h).sum(), h)  # a part of it is known, and would be wrong alone


def _data_parallel(rank: int, size: int, folder: str) -> None:
    # A thread of gloo that still lets go of a Python object while the interpreter ends aborts the process
    # (pytorch#190489): destroy_process_group waits for the threads, but only if nothing else holds the group. The model
    # does, and so do default arguments in a module that DistributedDataParallel imports, unless that was done before.
    import torch.distributed.nn

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=size)
    try:
        torch.save(_data_parallel_gradients(rank, size), f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def _data_parallel_gradients(rank: int, size: int) -> list[torch.Tensor]:
    model = torch.nn.parallel.DistributedDataParallel(_Model())
    _, Y = random_problem(4, n=10, k=4, m=3)
    (Y[rank::size] - model(Y[rank::size])).abs().mean().backward()
    return [p.grad for p in model.parameters()]


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.H = torch.nn.Parameter(random_problem(n=10, k=4, seed=7)[0].abs())
        self.nnls = NNLSLayer()

    def forward(self, Y):
        return self.H @ self.nnls(self.H, Y)


@pytest.mark.slow
def test_two_processes_give_the_gradient_of_one(tmp_path):
    torch.multiprocessing.spawn(_data_parallel, (2, str(tmp_path)), nprocs=2)
    model, (_, Y) = _Model(), random_problem(4, n=10, k=4, m=3)
    (Y - copy.deepcopy(model)(Y)).abs().mean().backward()
    (Y - model(Y)).abs().mean().backward()
    for rank in range(2):
        (gradient,) = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(gradient, model.H.grad)


def test_a_truncated_solver_is_no_constant_under_transforms(problem):
    """A transform may want a derivative that nobody can see from inside: silence would be a wrong number."""
    truncated = NNLSLayer(ProjectedGradient(max_iter=5, finish=False))
    with pytest.raises(ValueError, match='backward: "implicit" is right only at the exact solution'):
        jvp(lambda h: truncated(h, problem[1]), (problem[0],), (problem[0],))
