"""How the systems learn: mini-batches in random order with a step each, or L-BFGS on all samples at once."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from diffnmf.errors import DivergenceError

SEARCH = 30  # evaluations of an iteration of L-BFGS that no line search of torch needs


def train_in_batches(
    loss_of: Callable[[Tensor], Tensor],
    X: Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
    generator: torch.Generator,
    *,
    epochs: int,
    batch_size: int,
) -> list[float]:
    """Reduce a loss over epochs: every sample once in each, in an order that is drawn anew.

    Arguments:
        loss_of: a batch (B, n) to a number, the mean over its samples.
        X: (N, n); or the places of the samples (N,), where more belongs to one than a row.
        optimizers: all of them step once a batch; each has weights of its own.
        generator: of the order, on the CPU.
        epochs: int ≥ 0.
        batch_size: samples a step; the last batch of an epoch may be smaller.

    Returns:
        The mean loss over the samples of each epoch, as it was before each step.

    Raises:
        DivergenceError: the loss became NaN or infinite; the weights are those before that step.
    """
    means = []
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(X), generator=generator, device="cpu").split(batch_size):
            loss = loss_of(X[chosen.to(X.device)])
            total += len(chosen) * finite(loss.item(), f"epoch {epoch}")
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
        means.append(total / len(X))
    return means


def minimize(loss_of: Callable[[], Tensor], weights: Iterable[Tensor], *, max_iter: int) -> list[float]:
    """Reduce a loss by L-BFGS with a line search that ensures the strong Wolfe conditions.

    Arguments:
        loss_of: the loss for the weights as they are.
        weights: changed in place.
        max_iter: iterations, an int ≥ 0.

    Returns:
        The loss at every evaluation, those of the line search included.

    Raises:
        DivergenceError: as ``train_in_batches``.
    """
    losses: list[float] = []
    if max_iter == 0:
        return losses
    optimizer = torch.optim.LBFGS(
        list(weights),
        max_iter=max_iter,
        max_eval=SEARCH * max_iter,  # torch's own, 1.25 max_iter, would end it before
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        losses.append(finite(loss.item(), f"evaluation {len(losses)}"))
        loss.backward()
        return loss

    optimizer.step(closure)
    return losses


def check_learnable(model: nn.Module, *, by_gradient: bool = True, in_half: bool = True) -> None:
    """Raise unless ``fit`` can learn the weights of a model.

    Arguments:
        model: all its weights are meant: ``fit`` begins anew, so that none can stay what it is.
        by_gradient: whether they need a gradient.
        in_half: whether float16 will do. In it the squares of gradients that Adam keeps become zero, and so does the
            1e-8 that it adds: a step is 0/0.

    Raises:
        TypeError: they are of float16, and that will not do.
        ValueError: one has no gradient, or was made inside of ``torch.inference_mode``, where none can be had later.
    """
    for name, weight in model.named_parameters():
        if weight.is_inference() and (by_gradient or not torch.is_inference_mode_enabled()):
            raise ValueError(
                f"{name}: expected a weight that can be changed; got one made inside of torch.inference_mode (make the"
                " model outside of it)"
            )
        if by_gradient and not weight.requires_grad:
            raise ValueError(
                f"{name}: expected a weight with requires_grad=True, since fit learns all of them anew; got a frozen"
                " one (use model.requires_grad_())"
            )
        if weight.dtype == torch.float16 and not in_half:
            raise TypeError(
                f"{name}: expected torch.float32, torch.bfloat16 or torch.float64, to learn by Adam; got {weight.dtype}"
                " (use model.float() or model.bfloat16() to fit, and model.half() afterwards)"
            )


def finite(loss: float, when: str) -> float:
    """The loss itself.

    Raises:
        DivergenceError: it is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise DivergenceError(f"loss: became {loss} in {when} (use a lower learning_rate, or scale X down)")
    return loss
