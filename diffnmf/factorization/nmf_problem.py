"""One checked batch of factorisation problems, in units in which every Y is about 1."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_expands, check_matrix, check_number, check_same_device
from diffnmf.solvers.devices import check_float64
from diffnmf.solvers.problem import one_where_zero

Index = slice | Tensor  # some problems of a batch: neighbours, or any by their numbers (N,)


@dataclass(frozen=True)
class Penalties:
    """½‖Y − HW‖² + l1 ΣX + ½ ridge ‖X‖² for one factor X: l1 and ridge (B, 1, 1), or None where they are zero."""

    l1: Tensor | None
    ridge: Tensor | None

    @property
    def any(self) -> bool:
        return self.l1 is not None or self.ridge is not None

    def __call__(self, X: Tensor) -> Tensor:
        """What X (B, k, N) costs, (B,) float64."""
        cost = torch.zeros(len(X), dtype=torch.float64, device=X.device)
        if self.l1 is not None:
            cost += self.l1[:, 0, 0] * X.sum(-1).sum(-1, dtype=torch.float64)
        if self.ridge is not None:
            cost += 0.5 * self.ridge[:, 0, 0] * X.square().sum(-1).sum(-1, dtype=torch.float64)
        return cost

    def take(self, index: Index) -> "Penalties":
        return Penalties(*(None if x is None else x[index] for x in (self.l1, self.ridge)))


@dataclass(frozen=True)
class NMFProblem:
    """B matrices to factorise, scaled by powers of four, so that H and W are scaled by powers of two: without rounding.

    Attributes:
        Y: (B, n, m), float32 or float64, its largest entry in [1/2, 2) or zero. What is not finite counts as zero.
        square: (B,) float64, ‖Y‖².
        k: components.
        weights_penalties: of W, in the scaled units.
        basis_penalties: of H, likewise.
    """

    Y: Tensor
    square: Tensor
    k: int
    weights_penalties: Penalties
    basis_penalties: Penalties

    @property
    def tall(self) -> bool:
        """Whether W is the smaller of the two factors."""
        return self.Y.shape[1] >= self.Y.shape[2]

    @property
    def penalized(self) -> bool:
        return self.weights_penalties.any or self.basis_penalties.any

    def objective(self, error: Tensor, W: Tensor, Ht: Tensor) -> Tensor:
        """What is reduced, (B,) float64, at a relative error (B,); ½‖Y − HW‖² in units of ½‖Y‖²."""
        if not self.penalized:
            return error.square()
        penalty = self.weights_penalties(W) + self.basis_penalties(Ht)
        return error.square() + 2 * penalty / one_where_zero(self.square)

    def take(self, index: Index) -> "NMFProblem":
        penalties = (x.take(index) for x in (self.weights_penalties, self.basis_penalties))
        return NMFProblem(self.Y[index], self.square[index], self.k, *penalties)


@dataclass(frozen=True)
class Units:
    """How a problem and its factors go back to what the user sees.

    Attributes:
        batch_shape: the shape that B stands for.
        dtype: of the user's Y.
        root: (B, 1, 1), √s: Y = s · (scaled Y), H = √s · (scaled H), W likewise.
        finite: (B,), whether Y (and the given factors) hold neither NaN nor infinity.
        unit: whether every s is 1.
        whole: whether every problem is finite.
    """

    batch_shape: torch.Size
    dtype: torch.dtype
    root: Tensor
    finite: Tensor
    unit: bool
    whole: bool

    def scale(self, X: Tensor) -> Tensor:
        """A factor in the scaled units, finite."""
        X = X if self.unit else X / self.root
        return X if self.whole else torch.where(self.finite[:, None, None], X, 0.0)

    def unscale(self, X: Tensor) -> Tensor:
        """A factor (B, ·, ·) as the user gets it, NaN where the problem is not finite: (*batch, ·, ·)."""
        X = X if self.unit else X * self.root
        X = X if self.whole else torch.where(self.finite[:, None, None], X, torch.nan)
        return X.to(self.dtype).reshape(*self.batch_shape, *X.shape[1:])

    def unscale_factors(self, H: Tensor, W: Tensor, *, unit_basis: bool) -> tuple[Tensor, Tensor]:
        """Both factors; with ``unit_basis`` W takes the scale of both."""
        if unit_basis and not self.unit:
            H, W = H / self.root, W * self.root
        return self.unscale(H), self.unscale(W)


def make_nmf_problem(
    Y: Tensor,
    k: int,
    *,
    H0: Tensor | None = None,
    W0: Tensor | None = None,
    l1_H: float = 0.0,
    l1_W: float = 0.0,
    ridge_H: float = 0.0,
    ridge_W: float = 0.0,
) -> tuple[NMFProblem, Units, Tensor | None, Tensor | None]:
    """Check the arguments of a factorisation and bring them to one batch dimension and to the scaled units.

    Returns:
        The problem, its units, and the given factors (B, n, k) and (B, k, m) in them.

    Raises:
        TypeError, ValueError: as ``factorize``.
    """
    k = check_count("k", k, at_least=1)
    check_float64("Y", check_matrix("Y", Y))
    *batch, n, m = Y.shape
    if n == 0 or m == 0:
        raise ValueError(f"Y: expected at least one row and one column; got {tuple(Y.shape)} (leave empty ones out)")
    dtype = torch.promote_types(Y.dtype, torch.float32)  # half precision is computed in float32
    flat = Y.detach().reshape(-1, n, m).to(dtype)
    given = [_given("H0", H0, Y, (*batch, n, k), dtype), _given("W0", W0, Y, (*batch, k, m), dtype)]
    smallest, largest = _extremes(flat)  # in one pass: Y may be large
    finite = smallest.isfinite() & largest.isfinite()
    for x in given:
        if x is not None:
            finite = finite & x.isfinite().flatten(1).all(1)
    whole = bool(finite.all())
    if not whole:
        flat = torch.where(finite[:, None, None], flat, 0.0)
        smallest, largest = (torch.where(finite, x, 0.0) for x in (smallest, largest))
    if bool((smallest < 0).any()):
        _check_sign("Y", flat)

    exponent = torch.where(largest > 0, torch.frexp(largest)[1].div(2, rounding_mode="floor"), 0)  # of s = 4^exponent
    unit = not bool(exponent.any())
    root = torch.ldexp(torch.ones_like(largest), exponent)[:, None, None]  # (B, 1, 1)
    units = Units(torch.Size(batch), Y.dtype, root, finite, unit, whole)
    scaled = flat if unit else flat / root / root
    square = torch.linalg.vector_norm(scaled, dim=(1, 2), dtype=torch.float64).square()
    penalties = [
        Penalties(_penalty(l1_name, l1, root, -3), _penalty(ridge_name, ridge, root, -2))
        for l1_name, l1, ridge_name, ridge in (("l1_W", l1_W, "ridge_W", ridge_W), ("l1_H", l1_H, "ridge_H", ridge_H))
    ]
    H, W = (None if x is None else units.scale(x) for x in given)
    _check_size(H, W)
    return NMFProblem(scaled, square, k, *penalties), units, H, W


def _extremes(X: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest entry of every matrix, (B,) each; NaN where it holds one."""
    if X.numel() == 0:
        return X.new_zeros(len(X)), X.new_zeros(len(X))
    smallest, largest = torch.aminmax(X.flatten(1), dim=1)
    return smallest, largest


def _penalty(name: str, value: float, root: Tensor, power: int) -> Tensor | None:
    """Of ½‖Y − HW‖² in units of s²: an l1 in units of s²/√s, a ridge in units of s²/s."""
    value = check_number(name, value)
    if value == 0:
        return None
    largest = math.sqrt(torch.finfo(root.dtype).max)  # more penalty than that changes nothing any more
    return (value * root.double() ** power).clamp(max=largest).to(root.dtype)


def _given(name: str, X: Tensor | None, Y: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """A given factor with one batch dimension, in memory of its own."""
    if X is None:
        return None
    check_matrix(name, X)
    check_same_device(name, X, "Y", Y.device)
    expanded = check_expands(name, X.detach(), shape)
    _check_sign(name, X)
    return expanded.to(dtype).reshape(-1, *shape[-2:])


def _check_size(H: Tensor | None, W: Tensor | None) -> None:
    """Raise where HHᵀ, WWᵀ or ⟨HHᵀ, WWᵀ⟩ of a given start would overflow, in the scaled units."""
    sizes = {name: float(X.max()) if X is not None and X.numel() else 0.0 for name, X in (("H0", H), ("W0", W))}
    dtype = next((X.dtype for X in (H, W) if X is not None), torch.float64)
    largest = math.exp2(math.log2(torch.finfo(dtype).max) // 2 - 16)  # room for sums of 2^16 products
    if max(*sizes.values(), sizes["H0"] * sizes["W0"]) > largest:
        name = max(sizes, key=lambda key: sizes[key])
        raise ValueError(
            f"{name}: expected entries whose products can be represented in {dtype}; got one {sizes[name]:.1e} times"
            " what suits Y (scale H0 and W0 so that H0 @ W0 is of the size of Y)"
        )


def _check_sign(name: str, X: Tensor) -> None:
    if bool((X < 0).any()):
        smallest = X.nan_to_num().min().item()
        raise ValueError(f"{name}: expected entries ≥ 0; got {smallest:.3g} (clip with .clamp(min=0))")


def relative(square: Tensor, error: Tensor) -> Tensor:
    """√(error / square), (B,): both squared norms in float64. 0/0 counts as 0."""
    ratio = (error.clamp(min=0) / one_where_zero(square)).sqrt()
    return torch.where((square == 0) & (error > 0), math.inf, ratio)
