"""What a column may be asked to obey besides W ≥ 0, and what its rows count."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_expands, check_floating, check_in_dtype, check_name, check_number, check_same_device

TOTAL_KINDS = ("equal", "at_most")
OF_W = "the shape of W, (*batch, k, m),"


@dataclass(frozen=True)
class Constraints:
    """B problems, with one batch dimension; None is what was not asked for.

    Attributes:
        weights: (B, n, m), or (B, n, 1) where all columns share them, ≥ 0, of the squared residuals; 0 leaves an
            observation out. In the dtype of the problem or a wider one: they have no unit, and 1e-50 is as good a
            weight as 1.
        total: (B, 1, m), what the entries of a column sum to, or what they may sum to at the most.
        at_most: which of the two.
        upper: (B, k, m) ≥ 0 or infinite.
        signed: (B, k, m) bool, the entries without a lower bound.
    """

    weights: Tensor | None = None
    total: Tensor | None = None
    at_most: bool = False
    upper: Tensor | None = None
    signed: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those that W depends on differentiably."""
        return tuple(x for x in (self.weights, self.total, self.upper) if x is not None)

    @property
    def only_bounds(self) -> bool:
        """Whether nothing but ``upper`` and ``signed`` was asked for, if that."""
        return self.weights is None and self.total is None

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Constraints":
        """The same, with others in the place of ``tensors``."""
        given = iter(tensors)
        weights, total, upper = (None if x is None else next(given) for x in (self.weights, self.total, self.upper))
        return Constraints(weights, total, self.at_most, upper, self.signed)

    def part(self, problems: slice, columns: slice | Tensor) -> "Constraints":
        """Some columns of some problems."""

        def some(x: Tensor | None) -> Tensor | None:
            return None if x is None else some_columns(x, problems, columns)

        return Constraints(some(self.weights), some(self.total), self.at_most, some(self.upper), some(self.signed))

    def detach(self) -> "Constraints":
        """Without gradient."""
        return self.with_tensors([x.detach() for x in self.tensors])


def some_columns(x: Tensor, problems: slice, columns: slice | Tensor) -> Tensor:
    """Some columns of some problems of x (B, ·, m), or of x (B, ·, 1) what all columns share."""
    return x[problems, :, columns] if x.shape[-1] > 1 else x[problems]


def check_bound(name: str, value: object) -> float | Tensor:
    """What ``upper`` may be: a number ≥ 0, infinity too, or a floating-point tensor (which is not read)."""
    if isinstance(value, Tensor):
        return check_floating(name, value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == math.inf:
        return math.inf
    return check_number(name, value, alternative="infinity or a tensor")


def check_total(value: object, *, signed: bool) -> float | Tensor:
    """What ``total`` may be: a finite number, ≥ 0 unless entries may be negative, or a tensor (which is not read)."""
    if isinstance(value, Tensor):
        return check_floating("total", value)
    return check_number("total", value, "(-inf, inf)" if signed else "[0, inf)", alternative="a tensor")


def check_flags(name: str, value: object) -> Tensor:
    """A bool tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a bool tensor; got {value!r} (use torch.as_tensor)")
    if value.dtype != torch.bool:
        raise TypeError(f"{name}: expected a bool tensor; got dtype {value.dtype} (use {name}.bool())")
    return value


def against(
    name: str, value: float | Tensor, shape: torch.Size, device: torch.device, dtype: torch.dtype, meaning: str
) -> Tensor:
    """A number or tensor as (B, p, q), expanded against ``shape`` (*batch, p, q) by the rule of torch."""
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=dtype, device=device)
    check_same_device(name, value, "H", device)
    value = value if value.dtype == torch.bool else value.to(dtype)
    return check_expands(name, value, tuple(shape), meaning).reshape(math.prod(shape[:-2]), *shape[-2:])


@dataclass(frozen=True)
class Asked:
    """The constraints of a call as the user gave them; the arguments are those of ``diffnmf.nnls``."""

    allowed: Tensor | None = None
    weights: Tensor | None = None
    total: float | Tensor | None = None
    total_kind: str = "equal"
    upper: float | Tensor | None = None
    signed: Tensor | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return any(x is not None for x in (self.allowed, self.weights, self.total, self.upper, self.signed))

    def cpu(self) -> "Asked":
        """The same on the CPU."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors: dict[str, Any] = {name: x.cpu() for name, x in values.items() if isinstance(x, Tensor)}
        return replace(self, **tensors)

    def of_problem(
        self, batch: torch.Size, sizes: tuple[int, int, int], device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor | None, Constraints | None]:
        """``allowed`` and the rest, for a batch shape and sizes (n, k, m)."""
        n, k, m = sizes

        def expanded(name: str, value: float | Tensor | None, rows: int, meaning: str) -> Tensor | None:
            shape = torch.Size((*batch, rows, m))
            return None if value is None else against(name, value, shape, device, dtype, meaning)

        def of_rows(weights: Tensor) -> Tensor:
            wider = torch.promote_types(weights.dtype, dtype)
            shape = torch.Size((*batch, n, m))
            shared = weights.ndim == 0 or weights.shape[-1] == 1
            weights = against("weights", weights, shape, device, wider, "the shape of Y, (*batch, n, m),")
            return weights[..., :1] if shared and m > 0 else weights

        signed = None if self.signed is None else check_flags("signed", self.signed)
        allowed = None if self.allowed is None else check_flags("allowed", self.allowed)
        allowed = expanded("allowed", allowed, k, OF_W)
        check_name("total_kind", self.total_kind, TOTAL_KINDS)
        weights = None if self.weights is None else check_floating("weights", self.weights)
        total = None if self.total is None else check_total(self.total, signed=signed is not None)
        upper = None if self.upper is None else check_bound("upper", self.upper)
        if total is not None and not isinstance(total, Tensor):
            total = check_in_dtype("total", total, dtype)
        if upper is not None and not isinstance(upper, Tensor) and upper > torch.finfo(dtype).max:
            upper = math.inf  # W is as large at the most
        if all(x is None for x in (weights, total, upper, signed)):
            return allowed, None
        return allowed, Constraints(
            weights=None if weights is None else of_rows(weights),
            total=expanded("total", total, 1, "(*batch, 1, m),"),
            at_most=total is not None and self.total_kind == "at_most",
            upper=expanded("upper", upper, k, OF_W),
            signed=expanded("signed", signed, k, OF_W),
        )
