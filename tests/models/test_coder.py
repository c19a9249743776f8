"""NNLSCoder: exact codes in a dictionary that is learned."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize, prune

from diffnmf import NNLSCoder, nnls


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(50, 3, generator=generator) @ torch.rand(3, 16, generator=generator)


def test_codes_are_the_exact_weights_of_its_dictionary(samples):
    coder = NNLSCoder(16, 5, l1=0.1, ridge=0.2, seed=0)
    expected = nnls(coder.dictionary, samples.T, l1=0.1, ridge=0.2).W.T
    torch.testing.assert_close(coder(samples), expected)
    torch.testing.assert_close(coder.reconstruct(samples), coder(samples) @ coder.dictionary.T)


@pytest.mark.parametrize(
    ("of_coder", "of_samples"),
    [(torch.float32, torch.float64), (torch.float64, torch.float32), (torch.float16, torch.bfloat16)],
)
def test_samples_in_another_precision_come_back_in_the_wider_one(samples, of_coder, of_samples):
    coder, X = NNLSCoder(16, 5, seed=0).to(of_coder), samples.to(of_samples)
    again, codes = coder.reconstruct(X), coder(X)
    assert again.dtype == codes.dtype == torch.promote_types(of_coder, of_samples)
    torch.testing.assert_close(again, codes @ coder.dictionary.to(codes).T)


@pytest.mark.parametrize("batch", [(), (0,), (7,), (2, 1, 3)])
def test_any_batch(batch):
    coder = NNLSCoder(16, 5)
    codes = coder(torch.rand(*batch, 16))
    assert codes.shape == (*batch, 5) and coder.decode(codes).shape == (*batch, 16)


def test_columns_have_unit_norm_whatever_is_learned(samples):
    coder = NNLSCoder(16, 4, seed=0)
    optimizer = torch.optim.SGD(coder.parameters(), lr=10.0)
    for _ in range(5):
        optimizer.zero_grad()
        (samples - coder.reconstruct(samples)).square().mean().backward()
        optimizer.step()
        H = coder.dictionary
        assert (H >= 0).all()
        torch.testing.assert_close(torch.linalg.vector_norm(H, dim=0), torch.ones(4))


def test_training_finds_a_planted_dictionary(samples):
    coder = NNLSCoder(16, 3, seed=1)
    before = (samples - coder.reconstruct(samples)).norm() / samples.norm()
    optimizer = torch.optim.Adam(coder.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (samples - coder.reconstruct(samples)).square().sum().backward()
        optimizer.step()
    after = (samples - coder.reconstruct(samples)).norm() / samples.norm()
    assert after < 0.2 * before


def test_a_zero_of_the_dictionary_comes_back_where_the_loss_wants_it():
    coder = NNLSCoder(2, 1)
    with torch.no_grad():
        coder.weight.copy_(torch.tensor([[1.0], [0.0]]))
    Y = torch.tensor([[1.0, 1.0]])
    (Y - coder.reconstruct(Y)).square().sum().backward()
    assert coder.weight.grad[1] < 0
    coder.weight.grad = None
    (Y[:, 1] + coder.dictionary[1]).sum().backward()  # this one wants it below zero
    assert coder.weight.grad[1] == 0


@pytest.mark.parametrize("value", [0.0, -0.3])
def test_a_whole_column_below_zero_learns_again_from_positive_numbers(samples, value):
    coder = NNLSCoder(16, 3, seed=0)
    coder.weight.data[:, 1] = value

    def gradient():
        coder.zero_grad()
        (samples - coder.reconstruct(samples)).square().sum().backward()
        return coder.weight.grad[:, 1]

    assert not gradient().any()  # no direction, no codes
    coder.weight.data[:, 1].uniform_(generator=torch.Generator().manual_seed(0))
    assert gradient().any()


@pytest.mark.parametrize("method", ["nmf", "spa", "kmeans"])
def test_a_start_from_data_is_better_than_random(samples, method):
    coder = NNLSCoder(16, 3, seed=0)
    random = (samples - coder.reconstruct(samples)).norm()
    assert coder.initialize(samples, method) is coder
    assert (samples - coder.reconstruct(samples)).norm() < random


def test_components_that_the_data_has_no_use_for_stay_random():
    coder = NNLSCoder(6, 4, seed=0).initialize(torch.eye(6)[:1].expand(5, 6), "nmf")
    torch.testing.assert_close(torch.linalg.vector_norm(coder.dictionary, dim=0), torch.ones(4))


def test_a_weight_that_is_no_number_is_not_taken_for_zero():
    coder = NNLSCoder(5, 3, seed=0)
    with torch.no_grad():
        coder.weight[2, 1] = torch.nan
    assert coder.dictionary[:, 1].isnan().any()


def test_constraints_against_rows(samples):
    simplex = NNLSCoder(16, 4, total=1.0)(samples)
    torch.testing.assert_close(simplex.sum(-1), torch.ones(50))
    allowed = torch.tensor([True, True, False, True])
    assert NNLSCoder(16, 4, allowed=allowed)(samples)[:, 2].eq(0).all()
    assert NNLSCoder(16, 4, upper=torch.tensor([0.1, 1.0, 1.0, 1.0]))(samples)[:, 0].max() <= 0.1
    each = NNLSCoder(16, 4, l1=torch.tensor([0.0, 1e3, 0.0, 0.0]), seed=0)(samples)
    assert each[:, 1].eq(0).all() and each[:, 0].any()


@pytest.mark.parametrize("name", ["ridge", "l1", "upper", "total"])
def test_a_learned_constraint_is_a_parameter_of_the_coder(samples, name):
    """As it was given: (k,) for one a component, a number for all."""
    learned = torch.nn.Parameter(torch.full((1 if name == "total" else 4,), 0.1))
    coder = NNLSCoder(16, 4, **{name: learned}, seed=0)
    assert [id(p) for p in coder.parameters()] == [id(coder.weight), id(learned)]
    coder.reconstruct(samples).square().sum().backward()
    assert learned.grad.any()
    again = copy.deepcopy(coder)
    assert torch.equal(again(samples), coder(samples))


def test_in_a_stack_the_gradient_reaches_the_first_layer(samples):
    deep = nn.Sequential(NNLSCoder(16, 6, seed=0), NNLSCoder(6, 2, seed=1))
    codes = deep(samples)
    assert codes.shape == (50, 2)
    deep[0].decode(deep[1].decode(codes)).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in deep.parameters())


def test_gradient_against_finite_differences():
    coder = NNLSCoder(6, 2, seed=0).double()
    X = torch.rand(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def codes(weight, X):
        return torch.func.functional_call(coder, {"weight": weight}, (X,))

    assert torch.autograd.gradcheck(codes, (coder.weight, X))
    assert torch.autograd.gradgradcheck(codes, (coder.weight, X))


def test_forward_mode_towards_the_dictionary():
    """Against reverse mode, of the first and second order; entries below zero have no derivative."""
    coder = NNLSCoder(6, 2, seed=0).double()
    X = torch.rand(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = coder.weight.detach()
    tangent = torch.rand(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(weight):
        codes = torch.func.functional_call(coder, {"weight": weight}, (X,))
        return (codes * torch.tensor([1.0, 3.0])).square().sum()

    value, along = torch.func.jvp(loss, (weight,), (tangent,))
    torch.testing.assert_close(value, loss(weight))
    torch.testing.assert_close(along, (torch.func.grad(loss)(weight) * tangent).sum())
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(loss(forward_ad.make_dual(weight, tangent))).tangent
    torch.testing.assert_close(found, along)
    hessians = [
        outer(inner(loss))(weight)
        for outer in (torch.func.jacfwd, torch.func.jacrev)
        for inner in (torch.func.jacfwd, torch.func.jacrev)
    ]
    for hessian in hessians[1:]:
        torch.testing.assert_close(hessian, hessians[0])
    assert hessians[0].any()
    below = torch.zeros_like(weight, dtype=torch.bool)
    below[2, 1] = below[3, 0] = True
    derivative = torch.func.jacfwd(loss)(torch.where(below, -weight, weight))
    assert torch.equal(derivative == 0, below)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_coder_is_one_graph(samples):
    coder = NNLSCoder(16, 4, seed=0)
    with torch.no_grad():
        coder.weight[:3] *= -1
    compiled = torch.compile(coder.reconstruct, backend="aot_eager", fullgraph=True)
    gradients = [torch.autograd.grad(f(samples).square().sum(), coder.weight)[0] for f in (compiled, coder.reconstruct)]
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch.jit
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of the checks of shapes
def test_a_traced_coder_goes_into_a_file(samples):
    coder = NNLSCoder(16, 4, l1=0.1, seed=0)
    with torch.no_grad():
        coder.weight[:3] *= -1
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(coder, (samples,), check_trace=False), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(samples.flip(0)), coder(samples.flip(0)))


def test_state_and_seed(samples):
    first, second = NNLSCoder(16, 3, seed=0), NNLSCoder(16, 3, seed=0)
    assert torch.equal(first.weight, second.weight)
    other = NNLSCoder(16, 3, seed=1)
    other.load_state_dict(first.state_dict())
    torch.testing.assert_close(other(samples), first(samples))
    assert "in_features=16, k=3" in repr(first)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NNLSCoder(0, 3), ValueError, "in_features: expected an int ≥ 1"),
        (lambda: NNLSCoder(4, 2.0), TypeError, "k: expected an int"),
        (lambda: NNLSCoder(4, 2, l1=-1.0), ValueError, "l1: expected"),
        (lambda: NNLSCoder(4, 2)(torch.rand(3, 5)), ValueError, r"X: expected samples as rows, \(\*batch, 4\)"),
        (lambda: NNLSCoder(4, 2)([[1.0]]), TypeError, "X: expected a torch.Tensor"),
        (
            lambda: NNLSCoder(4, 2)(torch.ones(3, 4) * 1j),
            TypeError,
            r"X: expected a real .*\(use X.abs\(\) or X.real\)",
        ),
        (lambda: NNLSCoder(4, 2).decode(np.ones((3, 2))), TypeError, "codes: expected a torch.Tensor; got ndarray"),
        (lambda: NNLSCoder(4, 2).decode(torch.ones(3, 4)), ValueError, r"codes: .* \(\*batch, 2\); got \(3, 4\)"),
        (lambda: NNLSCoder(4, 2).decode(torch.tensor(1.0)), ValueError, r"codes: expected codes as rows.*got \(\)"),
        (lambda: NNLSCoder(4, 2).decode(torch.ones(3, 2).long()), TypeError, "codes: expected a real floating-point"),
        (lambda: NNLSCoder(4, 2).initialize(torch.rand(1, 4)), ValueError, "X: expected at least 2 samples"),
        (lambda: NNLSCoder(4, 2).initialize(torch.rand(5, 4), "pca"), ValueError, "method: expected one of"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_column_of_zeros_stays_one_in_every_precision(samples, dtype):
    coder = NNLSCoder(16, 3, seed=0).to(dtype)
    with torch.no_grad():
        coder.weight[:, 1] = 0
    assert coder.dictionary[:, 1].eq(0).all()
    coder.reconstruct(samples.to(dtype)).sum().backward()
    assert coder(samples.to(dtype)).isfinite().all() and coder.weight.grad.isfinite().all()


def test_a_weight_that_is_computed_cannot_begin_with_data(samples):
    parametrized, pruned = NNLSCoder(16, 3), NNLSCoder(16, 3)
    parametrize.register_parametrization(parametrized, "weight", nn.Softplus())
    prune.l1_unstructured(pruned, "weight", amount=0.5)
    for coder in (parametrized, pruned):
        with pytest.raises(ValueError, match="weight: expected a parameter of its own; .*call initialize before"):
            coder.initialize(samples)


def test_a_solver_that_is_not_exact_is_differentiated_in_its_own_way(samples):
    coder = NNLSCoder(16, 5, solver="ls_hals", seed=0)
    (samples - coder.reconstruct(samples)).square().mean().backward()
    assert coder.weight.grad.isfinite().all() and coder.weight.grad.any()
