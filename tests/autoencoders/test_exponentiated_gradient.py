"""Exponentiated gradients: the rule, its limit, sums that are kept, and other optimisers beside it."""

import math

import pytest
import torch
from helpers import close, matrix, rand, randn
from torch import nn

from diffnmf.autoencoders import ExponentiatedGradient

pytestmark = pytest.mark.usefixtures("one_thread")


def stepped(w, gradient, lr, **options):
    w = w.clone().requires_grad_()
    optimizer = ExponentiatedGradient([w], lr, **options)
    w.grad = gradient
    optimizer.step()
    return w.detach()


def test_the_rule():
    w, gradient = rand(3, 4), randn(3, 4)
    close(stepped(w, gradient, 0.1), w * torch.exp(-0.1 * gradient))


def test_a_step_changes_no_weight_by_more_than_its_limit():
    w = stepped(matrix([1.0, 1.0, 1.0]), matrix([1e300, -1e300, 0.1]), 1.0, max_exponent=0.5)
    close(w, [math.exp(-0.5), math.exp(0.5), math.exp(-0.1)])


@pytest.mark.parametrize("dim", [0, 1])
def test_sums_are_kept(dim):
    w = rand(3, 4)
    after = stepped(w, randn(3, 4), 0.1, keep_sums=dim)
    close(after.sum(dim), w.sum(dim))
    raw = w * torch.exp(-0.1 * randn(3, 4))
    close(after / after.sum(dim, keepdim=True), raw / raw.sum(dim, keepdim=True))


@pytest.mark.parametrize("beside", [torch.optim.SGD, torch.optim.Adam])
def test_no_weight_is_negative_after_any_step(beside):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    weights, biases = [model[0].weight, model[2].weight], [model[0].bias, model[2].bias]
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
    X = randn(20, 6)
    losses, optimizers = [], [ExponentiatedGradient(weights, 0.3), beside(biases, 0.1)]
    for _ in range(60):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = (model(X) + 3 * X[:, :2]).square().mean()  # signed weights would fit better
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        assert min(weight.min().item() for weight in weights) > 0
    assert losses[-1] < losses[0]
    assert min(bias.min().item() for bias in biases) < 0


def test_a_weight_of_zero_can_grow_and_none_gets_lost():
    w = torch.zeros(2, requires_grad=True)
    optimizer = ExponentiatedGradient([w], 1.0)
    for _ in range(200):
        w.grad = torch.tensor([-1.0, 1.0])
        optimizer.step()
    assert w[0] > 1
    assert w[1] == torch.finfo(torch.float32).tiny


def test_groups_have_options_of_their_own():
    a, b = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    optimizer = ExponentiatedGradient([{"params": [a], "lr": 0.2}, {"params": [b], "keep_sums": 1}], 0.1)
    a.grad = b.grad = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    optimizer.step()
    torch.testing.assert_close(a, torch.tensor([[-0.2, -0.4], [0.0, 0.0]]).exp())
    torch.testing.assert_close(b.sum(dim=1), torch.full((2,), 2.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sums_do_not_drift_over_many_steps(dtype):
    w = (rand(5, 300, dtype=torch.float32) / 100).to(dtype).requires_grad_()
    before = w.detach().double().sum(dim=1)
    optimizer = ExponentiatedGradient([w], 0.1, keep_sums=1)
    for step in range(300):
        w.grad = rand(5, 300, seed=step, dtype=torch.float32).to(dtype) - 0.5
        optimizer.step()
    torch.testing.assert_close(w.detach().double().sum(dim=1), before, rtol=2 * torch.finfo(dtype).eps, atol=0)


def test_sums_are_kept_with_the_state():
    w = torch.tensor([1.0, 3.0], requires_grad=True)
    optimizer = ExponentiatedGradient([w], 0.1, keep_sums=0)
    w.grad = torch.tensor([1.0, 0.0])
    optimizer.step()
    again = ExponentiatedGradient([w], 0.1, keep_sums=0)
    again.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        w.mul_(2)
    again.step()
    assert w.sum().item() == pytest.approx(4)
    del again.state[w]
    with torch.no_grad():
        w.mul_(2)
    again.step()
    assert w.sum().item() == pytest.approx(8)


@pytest.mark.parametrize(
    "refused",
    [
        {"params": [-torch.ones(2)]},
        {"params": [torch.ones(2)], "lr": "1"},
        {"params": torch.ones(2), "keep_sums": 1},
    ],
)
def test_a_group_that_is_refused_is_left_out(refused):
    w = torch.ones(2, requires_grad=True)
    optimizer = ExponentiatedGradient([w], 0.1)
    with pytest.raises((TypeError, ValueError), match=r"params|lr|keep_sums"):
        optimizer.add_param_group(refused)
    assert [group["params"] for group in optimizer.param_groups] == [[w]]
    optimizer.add_param_group({"params": [torch.ones(2)], "lr": 0.2})
    assert len(optimizer.param_groups) == 2


def test_closures_schedules_and_state():
    def made():
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        return w, ExponentiatedGradient([w], 0.2)

    def closure_of(w, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = (w - torch.tensor([3.0, 0.5])).square().sum()
            loss.backward()
            return loss

        return closure

    w, optimizer = made()
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    assert optimizer.step(closure_of(w, optimizer)).item() == 6.25
    schedule.step()
    again, its = made()
    its.load_state_dict(optimizer.state_dict())
    assert its.param_groups[0]["lr"] == 0.1
    with torch.no_grad():
        again.copy_(w)
    optimizer.step(closure_of(w, optimizer))
    its.step(closure_of(again, its))
    assert torch.equal(w, again)


def test_a_weight_without_a_gradient_stays():
    w = torch.ones(2, requires_grad=True)
    ExponentiatedGradient([w], 0.1).step()
    assert w.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("w", "options", "message"),
    [
        ([1.0, -0.5], {}, r"params: expected weights ≥ 0; got one of shape \(2,\) with smallest entry -0.5"),
        ([1.0, math.nan], {}, "params: expected weights ≥ 0"),
        ([1.0], {"lr": -1}, "lr: expected a finite number ≥ 0; got -1"),
        ([1.0], {"max_exponent": 0}, "max_exponent: expected a finite number > 0; got 0"),
        ([1.0], {"keep_sums": -1}, "keep_sums: expected an int ≥ 0"),
        ([1.0], {"keep_sums": 1}, r"keep_sums: expected a dimension of every weight; got 1 for one of shape \(1,\)"),
    ],
)
def test_slips_are_named(w, options, message):
    with pytest.raises(ValueError, match=message):
        ExponentiatedGradient([torch.tensor(w, requires_grad=True)], **{"lr": 0.1, **options})
