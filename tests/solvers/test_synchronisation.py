"""What makes an accelerator wait for its host, counted on the CPU: operators whose result or shape Python must read."""

from importlib import import_module

import pytest
import torch
from nnls_problems import kkt, random_problem, with_condition
from torch.utils._python_dispatch import TorchDispatchMode

from diffnmf import nnls
from diffnmf.layers import NNLSLayer

READS = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "is_nonzero", "equal"}


class CountReads(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in READS or masks:
            self.names.append(name)
        return operator(*args, **(kwargs or {}))


@pytest.fixture
def as_on_an_accelerator(torch_alone, monkeypatch):
    for module in ("exact.finish", "exact.search", "entry", "gradient"):
        # By import_module, since the attribute "nnls" of the package is the function.
        monkeypatch.setattr(import_module(f"diffnmf.solvers.{module}"), "looking_is_free", lambda device: False)


def test_the_counter_counts():
    x = torch.tensor([1.0, 2.0])
    with CountReads() as reads:
        x[x > 1]
        x[x > 1] = 0.0
        (x > 1).any().item()
        x.nonzero()
    assert len(reads.names) >= 4


@pytest.mark.usefixtures("as_on_an_accelerator")
@pytest.mark.parametrize("solver", ["unrolled", "hals"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_read_a_solve(solver, dtype):
    H, Y = (x.requires_grad_() for x in random_problem(16, n=40, k=10, m=8, dtype=dtype))
    layer = NNLSLayer(solver, ridge=0.01, l1=torch.tensor(0.02))
    with CountReads() as reads:
        W = layer(H, Y)
        W.sum().backward()
    assert len(reads.names) == 1, reads.names


@pytest.mark.usefixtures("as_on_an_accelerator")
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
@pytest.mark.parametrize("solver", ["unrolled", "bpp"])
def test_the_fixed_rounds_change_no_result(condition, solver, monkeypatch):
    """Easy columns, and those that need more than the fixed rounds or the unsquared problem."""
    H, Y = with_condition(60, 20, condition), random_problem(n=60, m=30)[1]
    leaf = H.clone().requires_grad_()
    solution = nnls(leaf, Y, solver=solver)
    gradient = torch.autograd.grad(solution.W.sum(), leaf)[0]
    assert solution.converged
    assert kkt(H, Y, solution.W) <= 1e-12
    monkeypatch.undo()
    expected = nnls(leaf, Y, solver=solver).W
    torch.testing.assert_close(solution.W, expected, rtol=1e-9 * condition, atol=1e-12 * condition)
    wanted = torch.autograd.grad(expected.sum(), leaf)[0]
    assert (gradient - wanted).norm() <= 1e-12 * condition * wanted.norm()
