"""``ExponentiatedGradient``: an optimiser whose steps multiply, so that no weight changes its sign."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_number


class ExponentiatedGradient(torch.optim.Optimizer):
    """w ← w · exp(−lr · ∂L/∂w): weights that begin positive stay positive, without a projection.

    A weight shrinks towards zero and can grow again; it never becomes exactly zero (the smallest normal number of its
    dtype is kept, where it would get lost). A step changes a weight by a factor of at most exp(max_exponent): without
    that, one large gradient overflows. Learning rates are not those of SGD, since the step is relative to the weight.
    Parameters that may be negative, such as biases, belong to another optimiser beside this one.

    Sources: Kivinen and Warmuth, "Exponentiated gradient versus gradient descent for linear predictors", Information
    and Computation 132 (1997), where it comes from, with and without sums that are kept; El Khatib, Huang, Ghodsi,
    Karray, "Nonnegative matrix factorization using autoencoders and exponentiated gradient descent", IJCNN 2018, who
    train the weights of autoencoders with it. Ours: the limit of the exponent, and that sums are kept along one
    dimension.

    Arguments:
        params: tensors ≥ 0, or parameter groups of them; each group may have its own options.
        lr: ≥ 0.
        max_exponent: a step multiplies by at most exp(max_exponent) and at least exp(−max_exponent); > 0.
        keep_sums: None, or the dimension along which the weights of a tensor keep their sums, an int ≥ 0: the
            normalised variant, for rows that are mixtures. The sums are those before the first step, and stand in
            ``state``: ``del optimizer.state[w]`` after you have set the weights w to others.

    Raises:
        TypeError, ValueError: an option is not as above, or a weight is negative or NaN.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import ExponentiatedGradient
        >>> w = torch.ones(3, requires_grad=True)
        >>> optimizer = ExponentiatedGradient([w], lr=0.2)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     (w - torch.tensor([2.0, 0.5, -1.0])).square().sum().backward()
        ...     optimizer.step()
        >>> [round(x, 3) for x in w.tolist()]
        [2.0, 0.5, 0.0]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        max_exponent: float = 1.0,
        keep_sums: int | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "max_exponent": max_exponent, "keep_sums": keep_sums})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with options of its own; checked as in the constructor, and left out where it is refused."""
        super().add_param_group(param_group)  # which gives it the options that it lacks
        try:
            self._check(self.param_groups[-1])
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def _check(self, group: dict[str, Any]) -> None:
        check_number("lr", group["lr"])
        check_number("max_exponent", group["max_exponent"], "(0, inf)")
        if group["keep_sums"] is not None:
            check_count("keep_sums", group["keep_sums"], alternative="None")
        for parameter in group["params"]:
            if not bool((parameter >= 0).all()):
                raise ValueError(
                    f"params: expected weights ≥ 0; got one of shape {tuple(parameter.shape)} with smallest entry "
                    f"{parameter.min().item():.3g} (begin with weights.abs(), and give biases to another optimizer)"
                )
            if group["keep_sums"] is not None and group["keep_sums"] >= parameter.ndim:
                raise ValueError(
                    f"keep_sums: expected a dimension of every weight; got {group['keep_sums']} for one of shape "
                    f"{tuple(parameter.shape)} (make a group of those that have it)"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; with a closure, which computes the loss and its gradients, that loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _multiply(parameter, group, self._sums(parameter, group["keep_sums"]))
        return loss

    def _sums(self, weight: Tensor, dim: int | None) -> Tensor | None:
        """What the sums along ``dim`` were before the first step: from step to step their rounding would add up."""
        if dim is None:
            return None
        state = self.state[weight]
        if "sums" not in state:
            state["sums"] = _sum(weight, dim)
        return state["sums"]


def _multiply(weight: Tensor, group: dict[str, Any], sums: Tensor | None) -> None:
    limit = group["max_exponent"]
    weight.mul_((-group["lr"] * weight.grad).clamp(-limit, limit).exp())
    weight.clamp_(min=torch.finfo(weight.dtype).tiny)
    if sums is not None:
        weight.copy_(weight * (sums / _sum(weight, group["keep_sums"])))


def _sum(weight: Tensor, dim: int) -> Tensor:
    """In float32 at least: 16 bits cannot count some hundred weights."""
    return weight.sum(dim, keepdim=True, dtype=torch.promote_types(weight.dtype, torch.float32))
