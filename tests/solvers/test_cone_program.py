"""What is its own to the solver "cvxpylayer": options, accuracy by setting, failures."""

import gc

import pytest
import torch
from nnls_problems import random_problem

from diffnmf import nnls
from diffnmf.errors import SolverError
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import ConeProgram


@pytest.fixture
def images():
    """A non-negative problem with correlated columns, where tolerances show."""
    generator = torch.Generator().manual_seed(0)
    H = torch.rand(60, 15, generator=generator, dtype=torch.float64)
    return H, H @ torch.rand(15, 4, generator=generator, dtype=torch.float64).square() + 0.1 * torch.rand(
        60, 4, generator=generator, dtype=torch.float64
    )


def errors(solver, H, Y):
    """Of W relative to its maximum, and of the gradient in norm, against the exact solver."""
    results = []
    for name in (solver, "unrolled"):
        leaf = H.clone().requires_grad_()
        W = NNLSLayer(name)(leaf, Y)
        results.append((W.detach(), torch.autograd.grad(W.sin().sum(), leaf)[0]))
    (W, gradient), (exact_W, exact) = results
    return ((W - exact_W).abs().max() / exact_W.max()).item(), ((gradient - exact).norm() / exact.norm()).item()


def test_tight_by_default(images):
    W_error, gradient_error = errors(ConeProgram(), *images)
    assert W_error < 1e-6
    assert gradient_error < 1e-6


def test_the_loose_setting_is_loose(images):
    W_error, gradient_error = errors(ConeProgram.loose(), *images)
    assert 1e-5 < W_error < 5e-2
    assert 1e-5 < gradient_error < 0.5
    assert nnls(*images, solver=ConeProgram.loose()).converged  # to its own tolerance


def test_solver_args_are_passed_on(images):
    tighter, looser = (
        errors(ConeProgram({"solve_method": "SCS", "eps": eps, "mode": "dense"}), *images)[0] for eps in (1e-8, 1e-3)
    )
    assert tighter < 1e-2 * looser
    assert errors(ConeProgram({"solve_method": "Clarabel", "mode": "dense"}), *images)[0] < 1e-3


def test_a_failure_names_the_problem(monkeypatch):
    H, Y = random_problem(3, n=6, k=2, m=2)
    original = ConeProgram._call

    def fails_on_the_second(self, kind, parameters):
        if (parameters[2] > 0).any():  # the l1
            raise ValueError("numerical trouble")
        return original(self, kind, parameters)

    monkeypatch.setattr(ConeProgram, "_call", fails_on_the_second)
    with pytest.raises(SolverError, match=r"problem 1 of the batch \(column 0\) .*numerical trouble"):
        nnls(H, Y, solver="cvxpylayer", l1=torch.tensor([0.0, 0.5, 0.0])[:, None, None])


@pytest.fixture
def unclosed_pools():
    """diffcp leaves its pool of threads open when a solve fails; Python says so when it finds the pool."""
    yield
    gc.collect()


@pytest.mark.usefixtures("unclosed_pools")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_option_that_the_back_end_does_not_know():
    with pytest.raises(SolverError, match=r"could not solve problem 0 .*nonsense"):
        nnls(*random_problem(1), solver=ConeProgram({"solve_method": "SCS", "nonsense": 1}))


def test_a_back_end_that_is_not_there():
    with pytest.raises(SolverError, match=r"backend: cvxpylayers could not set up 'NOPE'.*backend=None"):
        nnls(*random_problem(1), solver=ConeProgram(backend="NOPE"))


def test_other_back_ends_have_no_default_options():
    assert ConeProgram(backend="MPAX").arguments == {}
    assert ConeProgram({"eps": 1}, backend="MPAX").arguments == {"eps": 1}
    assert ConeProgram().arguments["mode"] == "dense"
