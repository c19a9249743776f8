"""The gradient of the whole generator against finite differences: the path through W is part of it."""

import copy

import pytest
import torch
from torch.func import functional_call

from diffnmf.layers import NNLSLayer
from diffnmf.models import Critic, Generator, GeneratorConfig
from diffnmf.training.losses import adversarial_loss, reconstruction_loss

SHAPE, M, K = (8, 8), 4, 6
STEP = 1e-7  # small, so that a direction rarely crosses a kink of ReLU, L1 or the active set


pytestmark = pytest.mark.usefixtures("one_thread")


def models(w_solver, seed=0):
    torch.manual_seed(seed)
    generator = Generator(GeneratorConfig(SHAPE, M, K, w_solver, width=4)).double()
    critic = Critic(SHAPE, m=M, width=4).double()
    Y = torch.rand(2, 64, M, dtype=torch.float64) ** 4  # dark with bright spots, so that some weights are zero
    return generator, critic, Y


LOSSES = {
    "reconstruction": lambda result, critic, Y: reconstruction_loss(result.Y_hat, Y),
    "adversarial": lambda result, critic, Y: adversarial_loss(critic(result.Y_hat, Y)),
    "saturating": lambda result, critic, Y: adversarial_loss(critic(result.Y_hat, Y), "saturating"),
}


def gradient(generator, critic, Y, loss):
    """By parameter of the generator, zero where none arrives."""
    generator.zero_grad()
    LOSSES[loss](generator(Y), critic, Y).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in generator.named_parameters()}


@torch.no_grad()
def difference_quotient(generator, critic, Y, loss, direction):
    def value(step):
        moved = {name: p + step * direction[name] for name, p in generator.named_parameters()}
        return LOSSES[loss](functional_call(generator, moved, (Y,)), critic, Y)

    return ((value(STEP) - value(-STEP)) / (2 * STEP)).item()


def directions(generator, count, only="unet."):
    """Random directions over all parameters of the U-Net."""
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield {
            name: torch.randn(p.shape, generator=random, dtype=p.dtype) * name.startswith(only)
            for name, p in generator.named_parameters()
        }


def inner(first, second):
    return sum((first[name] * second[name]).sum().item() for name in first)


def size(vector):
    return inner(vector, vector) ** 0.5


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("w_solver", ["unrolled", "fc"])
def test_directional_derivatives(w_solver, loss, seed):
    generator, critic, Y = models(w_solver, seed)
    slope = gradient(generator, critic, Y, loss)
    assert all(slope[name].any() for name in slope if name.startswith("unet."))
    for direction in directions(generator, 4):
        numerical = difference_quotient(generator, critic, Y, loss, direction)
        # Relative to the size of the gradient as well: a direction may happen to be nearly level.
        assert inner(slope, direction) == pytest.approx(numerical, rel=1e-5, abs=1e-6 * size(slope))


def test_directional_derivatives_of_the_fully_connected_head():
    generator, critic, Y = models("fc")
    slope = gradient(generator, critic, Y, "reconstruction")
    for direction in directions(generator, 2, only="w_head."):
        numerical = difference_quotient(generator, critic, Y, "reconstruction", direction)
        assert inner(slope, direction) == pytest.approx(numerical, rel=1e-5)


def test_the_problems_have_active_constraints():
    """Otherwise the tests above would only have looked at ordinary least squares."""
    for seed in (0, 1):
        generator, _, Y = models("unrolled", seed)
        result = generator(Y)
        for part in (result.H, result.W):
            assert part.eq(0).any()
            assert part.gt(0).any()


def with_constant_weights(generator):
    """The same generator, whose W carries no gradient."""
    detached = copy.deepcopy(generator)
    detached.w_head.layer = NNLSLayer(backward="detached")
    return detached


@pytest.mark.parametrize("loss", LOSSES)
def test_the_path_through_W_is_in_the_gradient(loss):
    generator, critic, Y = models("unrolled")
    detached = with_constant_weights(generator)
    assert torch.equal(detached(Y).Y_hat, generator(Y).Y_hat)
    exact, partial = (gradient(model, critic, Y, loss) for model in (generator, detached))
    missing = {name: exact[name] - partial[name] for name in exact}
    assert size(missing) > 0.05 * size(exact)
    # And the finite differences side with the exact one.
    for direction in directions(generator, 2):
        numerical = difference_quotient(generator, critic, Y, loss, direction)
        error = abs(inner(exact, direction) - numerical)
        assert 100 * error < abs(inner(partial, direction) - numerical)


def test_envelope_identity(monkeypatch):
    """For the loss that W minimises, the path through W adds nothing."""
    monkeypatch.setitem(LOSSES, "least squares", lambda result, critic, Y: 0.5 * (Y - result.Y_hat).square().sum())
    generator, critic, Y = models("unrolled")
    implicit = gradient(generator, critic, Y, "least squares")
    detached = gradient(with_constant_weights(generator), critic, Y, "least squares")
    assert size(implicit) > 1e-3
    for name in implicit:
        torch.testing.assert_close(implicit[name], detached[name], rtol=1e-9, atol=1e-9 * size(implicit))
