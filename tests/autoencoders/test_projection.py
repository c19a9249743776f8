"""Weights that are projected after every step: any optimiser, closures, groups, and digits told apart with them."""

import copy

import pytest
import torch
from helpers import randn
from torch import nn

from diffnmf.autoencoders import keep_non_negative
from diffnmf.data import load_dataset

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.3),
    "SGD, momentum": lambda p: torch.optim.SGD(p, 0.3, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, 0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.05),
    "LBFGS": lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def loss_of(model):
    # Targets that signed weights would fit better.
    X = randn(20, 6)
    return (model(X) + 3 * X[:, :2]).square().mean()


def steps(model, optimizer, count):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(count):
        optimizer.step(closure)
        yield


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_weight_is_negative_after_any_step(name):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    keep_non_negative(optimizer, model)
    before = loss_of(model).item()
    for _ in steps(model, optimizer, 30):
        assert min(model[i].weight.min().item() for i in (0, 2)) >= 0
    assert min(model[i].bias.min().item() for i in (0, 2)) < 0
    # The curvature that L-BFGS remembers is that of weights without the projection.
    assert loss_of(model).item() < before or name == "LBFGS"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_it_weights_become_negative(name):
    model = network()
    list(steps(model, OPTIMIZERS[name](model.parameters()), 30))
    assert min(model[i].weight.min().item() for i in (0, 2)) < 0


def test_a_step_is_projected_as_a_whole():
    w = torch.tensor([1.0, 0.25, 0.0], requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.5)
    keep_non_negative(optimizer, [w])
    (w * torch.tensor([1.0, 1.0, -1.0])).sum().backward()
    optimizer.step()
    assert w.tolist() == [0.5, 0.0, 0.5]


def test_weights_are_projected_at_once_and_only_those_that_are_named():
    model = network()
    keep_non_negative(torch.optim.SGD(model.parameters(), 0.1), [model[0].weight])
    assert model[0].weight.min() == 0
    assert model[2].weight.min() < 0


def test_the_handle_lets_go():
    model = network()
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    keep_non_negative(optimizer, model).remove()
    list(steps(model, optimizer, 10))
    assert model[0].weight.min() < 0


def test_groups_schedules_and_state_are_those_of_the_optimiser():
    def made():
        model = network()
        groups = [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[2].parameters()}]
        optimizer = torch.optim.Adam(groups, 0.1)
        keep_non_negative(optimizer, model)
        return model, optimizer

    model, optimizer = made()
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    list(steps(model, optimizer, 4))
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]
    again, its = made()
    again.load_state_dict(model.state_dict())
    its.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch would share the moments
    for _ in zip(steps(model, optimizer, 4), steps(again, its, 4), strict=True):
        for mine, other in zip(model.parameters(), again.parameters(), strict=True):
            assert torch.equal(mine, other)


def test_digits_are_told_apart_by_a_network_without_negative_weights():
    split = load_dataset("digits")
    X, unseen = (part.pixels(torch.arange(len(part))).flatten(1) for part in (split.train, split.test))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 40), nn.Sigmoid(), nn.Linear(40, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    keep_non_negative(optimizer, model)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), split.train.labels).backward()
        optimizer.step()
    accuracy = (model(unseen).argmax(dim=1) == split.test.labels).double().mean()
    assert accuracy > 0.9
    assert min(model[i].weight.min().item() for i in (0, 2)) == 0


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([], ValueError, "weights: expected at least one tensor"),
        (nn.BatchNorm1d(3), ValueError, "weights: expected at least one tensor of two dimensions"),
        ([torch.ones(2)], ValueError, r"weights\[0\]: expected a parameter that the optimizer steps"),
        ([3.0], TypeError, r"weights\[0\]: expected a torch.Tensor"),
    ],
)
def test_wrong_weights_are_named(weights, error, message):
    with pytest.raises(error, match=message):
        keep_non_negative(torch.optim.SGD(network().parameters(), 0.1), weights)
