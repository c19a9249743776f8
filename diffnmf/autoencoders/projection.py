"""Weights that are set to max(0, w) after every step, of any optimiser of torch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from diffnmf.checks import check_tensor


def keep_non_negative(optimizer: torch.optim.Optimizer, weights: nn.Module | Iterable[Tensor]) -> RemovableHandle:
    """Project weights to max(0, w): now, and after every step that the optimiser makes.

    The optimiser stays what it is: parameter groups, closures, schedules of its learning rate, ``state_dict``. The
    projection is no part of that state; call this once more for an optimiser that is made anew. An optimiser with a
    line search, such as L-BFGS, sees weights without the constraint inside of a step, and need not descend.

    Source: Chorowski and Zurada, "Learning understandable neural networks with nonnegative weight constraints", IEEE
    Transactions on Neural Networks and Learning Systems 26 (2015), who project the weights of a classifier of digits.

    Arguments:
        optimizer: of torch, or with its hooks.
        weights: tensors that it steps; or a module, which stands for its parameters of two dimensions and more: the
            weights of linear and convolutional layers. Biases are free.

    Returns:
        A handle: ``handle.remove()`` lets the weights go where they like again.

    Raises:
        TypeError: a weight is no tensor.
        ValueError: there is no weight, or one that the optimiser does not step.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import keep_non_negative
        >>> network = torch.nn.Sequential(torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))
        >>> optimizer = torch.optim.Adam(network.parameters(), 0.01)
        >>> handle = keep_non_negative(optimizer, network)
        >>> network(torch.rand(8, 64)).square().mean().backward()
        >>> optimizer.step()
        >>> bool(network[0].weight.min() >= 0), bool(network[0].bias.min() >= 0)
        (True, False)
    """
    chosen = list(weight_matrices(weights) if isinstance(weights, nn.Module) else weights)
    if not chosen:
        raise ValueError(
            "weights: expected at least one tensor of two dimensions or more; got none (name the weights themselves)"
        )
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for position, weight in enumerate(chosen):
        if id(check_tensor(f"weights[{position}]", weight)) not in stepped:
            raise ValueError(
                f"weights[{position}]: expected a parameter that the optimizer steps; got another tensor of shape "
                f"{tuple(weight.shape)} (give the optimizer the parameters of the same module)"
            )

    @torch.no_grad()
    def project(*_: Any) -> None:
        for weight in chosen:
            weight.clamp_(min=0)

    project()
    return optimizer.register_step_post_hook(project)


def weight_matrices(module: nn.Module) -> list[Tensor]:
    """The parameters of a module that have two dimensions or more, each once."""
    return [parameter for parameter in module.parameters() if parameter.ndim >= 2]
