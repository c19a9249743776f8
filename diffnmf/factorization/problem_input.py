"""The arguments of a factorisation, checked, and brought to one batch dimension and to units in which Y is about 1."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import (
    check_count,
    check_expands,
    check_matrix,
    check_name,
    check_number,
    check_same_device,
)
from diffnmf.factorization.entry_weights import entry_weights_of
from diffnmf.factorization.nmf_problem import NMFProblem, Penalties, Units, largest_penalty
from diffnmf.factorization.sparse_matrix import Matrix, ObservedMatrix, SparseMatrix, in_units
from diffnmf.solvers.devices import check_float64
from diffnmf.solvers.ranges import times_power


@dataclass(frozen=True)
class Given:
    """What is given of the factors, in the scaled units, or None: H0 (B, n, k), W0 (B, k, m), fixed (B, n, f)."""

    H: Tensor | None = None
    W: Tensor | None = None
    fixed: Tensor | None = None


def make_nmf_problem(
    Y: Tensor,
    k: int,
    *,
    H0: Tensor | None = None,
    W0: Tensor | None = None,
    fixed: Tensor | None = None,
    mask: Tensor | str | None = None,
    weights: Tensor | None = None,
    l1_H: float = 0.0,
    l1_W: float = 0.0,
    ridge_H: float = 0.0,
    ridge_W: float = 0.0,
    beta: float = 2.0,
) -> tuple[NMFProblem, Units, Given]:
    """Check the arguments of a factorisation and bring them to one batch dimension and to the scaled units.

    Returns:
        The problem, its units, and the given factors in them.

    Raises:
        TypeError, ValueError: as ``factorize``.
    """
    k = check_count("k", k, at_least=1)
    sparse = isinstance(Y, Tensor) and Y.layout != torch.strided
    observed = isinstance(mask, str) and check_name("mask", mask, ("stored",)) == "stored"
    if observed and not sparse:
        raise ValueError("mask: expected 'stored' for a sparse Y only; got it for a dense one (use a tensor of bool)")
    if observed and weights is not None:
        raise ValueError("weights: expected None with mask='stored'; got weights (use a dense Y, and a mask of bool)")
    flat, batch = (checked_sparse(Y, observed=observed), []) if sparse else _dense(Y)
    _, n, m = flat.shape
    dtype, shape = flat.dtype, (*batch, n, m)
    V, V_exponent = entry_weights_of(None if isinstance(mask, str) else mask, weights, Y, shape, sparse)
    if V is not None:
        assert isinstance(flat, Tensor)
        flat = torch.where(V > 0, flat, 0.0)  # whatever stands where nothing is known
    fixed = _fixed(fixed, Y, batch, n, k, dtype)
    given = [_given("H0", H0, Y, (*batch, n, k), dtype), _given("W0", W0, Y, (*batch, k, m), dtype), fixed]
    smallest, largest = _extremes(flat)  # in one pass: Y may be large
    finite = smallest.isfinite() & largest.isfinite()
    for x in given:
        if x is not None:
            finite = finite & x.isfinite().flatten(1).all(1)
    whole = bool(finite.all())
    if not whole:
        flat = _without_broken(flat, finite)
        smallest, largest = (torch.where(finite, x, 0.0) for x in (smallest, largest))
    if bool((smallest < 0).any()):
        _check_sign("Y", flat.values if isinstance(flat, SparseMatrix) else flat)

    exponent = scale_exponent(largest)
    unit = not bool(exponent.any())
    root = torch.ldexp(torch.ones_like(largest), exponent)[:, None, None]  # (B, 1, 1)
    count = 0 if fixed is None else fixed.shape[2]
    units = Units(torch.Size(batch), Y.dtype, root, finite, unit, whole, V_exponent, count)
    scaled = flat if unit else in_units(flat, root)
    penalties = {"l1_H": l1_H, "l1_W": l1_W, "ridge_H": ridge_H, "ridge_W": ridge_W}
    of_W, of_H = make_penalties(root, beta, V_exponent, **penalties)
    H, W, fixed = (None if x is None else units.scale(x) for x in given)
    check_start_size(H, W)
    _check_fixed_size(fixed)
    problem = NMFProblem(scaled, _square(scaled, V), k, of_W, of_H, V, count)
    return problem, units, Given(H, W, fixed)


def scale_exponent(largest: Tensor) -> Tensor:
    """Of s = 4^exponent, by which a matrix is divided whose largest entry is this."""
    return torch.where(largest > 0, torch.frexp(largest)[1].div(2, rounding_mode="floor"), 0)


def make_penalties(
    root: Tensor, beta: float, V_exponent: Tensor | None, **values: float
) -> tuple[Penalties, Penalties]:
    """Of W and of H, in the scaled units, from l1_W, ridge_W, l1_H and ridge_H.

    The weights of entries, if any, have been divided by 2^V_exponent (B, 1, 1), and so the whole objective.
    """
    powers = (1 - 2 * beta, 2 - 2 * beta)  # in units of s^β: an l1 of s^β/√s, a ridge of s^β/s

    def of(factor: str) -> Penalties:
        names = (f"l1_{factor}", f"ridge_{factor}")
        pairs = zip(names, powers, strict=True)
        return Penalties(*(_penalty(x, values[x], root, power, V_exponent) for x, power in pairs))

    return of("W"), of("H")


def _dense(Y: Tensor) -> tuple[Tensor, list[int]]:
    """Y (B, n, m) in the dtype that is worked in, and the batch dimensions that B stands for."""
    check_float64("Y", check_matrix("Y", Y))
    *batch, n, m = Y.shape
    _check_not_empty(Y)
    dtype = torch.promote_types(Y.dtype, torch.float32)  # half precision is computed in float32
    return Y.detach().reshape(-1, n, m).to(dtype), batch


def checked_sparse(Y: Tensor, *, observed: bool) -> SparseMatrix:
    """A sparse Y (n, m) in the dtype that is worked in; if ``observed``, what it does not store is not known.

    Raises:
        TypeError, ValueError: layout, dtype or shape do not fit.
    """
    if Y.layout not in (torch.sparse_csr, torch.sparse_csc):
        raise TypeError(
            f"Y: expected a dense tensor, or a matrix of layout torch.sparse_csr; got layout {Y.layout}"
            " (use Y.to_sparse_csr() or Y.to_dense())"
        )
    if not Y.is_floating_point():
        raise TypeError(f"Y: expected a real floating-point dtype; got {Y.dtype} (use Y.to(torch.float32))")
    if Y.ndim != 2:
        raise ValueError(f"Y: expected a single matrix (n, m) where it is sparse; got {tuple(Y.shape)}")
    _check_not_empty(Y)
    Y = Y.detach().to(torch.promote_types(Y.dtype, torch.float32))
    return (ObservedMatrix if observed else SparseMatrix).of(Y)


def _check_not_empty(Y: Tensor) -> None:
    if 0 in Y.shape[-2:]:
        raise ValueError(f"Y: expected at least one row and one column; got {tuple(Y.shape)} (leave empty ones out)")


def _fixed(fixed: Tensor | None, Y: Tensor, batch: list[int], n: int, k: int, dtype: torch.dtype) -> Tensor | None:
    if fixed is None:
        return None
    count = check_matrix("fixed", fixed).shape[-1]
    if count > k:
        raise ValueError(f"fixed: expected at most k = {k} columns; got {tuple(fixed.shape)} (raise k)")
    fixed = _given("fixed", fixed, Y, (*batch, n, count), dtype)
    return fixed if count else None


def _extremes(X: Matrix) -> tuple[Tensor, Tensor]:
    """The smallest and the largest entry of every matrix, (B,) each; NaN where it holds one."""
    if isinstance(X, SparseMatrix):
        values = torch.cat((X.values, X.values.new_zeros(1)))
        return values.amin().reshape(1), values.amax().reshape(1)
    if X.numel() == 0:
        return X.new_zeros(len(X)), X.new_zeros(len(X))
    smallest, largest = torch.aminmax(X.flatten(1), dim=1)
    return smallest, largest


def _without_broken(X: Matrix, finite: Tensor) -> Matrix:
    """Zero where a problem is not finite."""
    if isinstance(X, SparseMatrix):
        return X.map(torch.zeros_like)
    return torch.where(finite[:, None, None], X, 0.0)


def _square(X: Matrix, V: Tensor | None) -> Tensor:
    """Σ V X², (B,) float64."""
    if isinstance(X, SparseMatrix):
        return torch.linalg.vector_norm(X.values, dtype=torch.float64).square().reshape(1)
    if V is not None:
        return (X * V * X).sum(1).sum(1, dtype=torch.float64)
    return torch.linalg.vector_norm(X, dim=(1, 2), dtype=torch.float64).square()


def _penalty(name: str, value: float, root: Tensor, power: float, V_exponent: Tensor | None) -> Tensor | None:
    """In the scaled units."""
    value = check_number(name, value)
    if value == 0:
        return None
    penalty = value * root.double() ** power
    penalty = penalty if V_exponent is None else times_power(penalty, -V_exponent)
    return penalty.clamp(max=largest_penalty(root.dtype)).to(root.dtype)


def _given(name: str, X: Tensor | None, Y: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """A given factor with one batch dimension, in memory of its own."""
    if X is None:
        return None
    check_matrix(name, X)
    check_same_device(name, X, "Y", Y.device)
    expanded = check_expands(name, X.detach(), shape)
    _check_sign(name, X)
    return expanded.to(dtype).reshape(math.prod(shape[:-2]), *shape[-2:])  # -1 has no answer where it is empty


def check_start_size(H: Tensor | None, W: Tensor | None) -> None:
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


def _check_fixed_size(fixed: Tensor | None) -> None:
    """Raise where the squares of fixed columns, in the scaled units, leave the range of their dtype."""
    if fixed is None or not fixed.numel():
        return
    limits = torch.finfo(fixed.dtype)
    least, most = math.exp2(math.log2(limits.tiny) // 2 + 8), math.exp2(math.log2(limits.max) // 2 - 8)
    sizes = torch.linalg.vector_norm(fixed.double(), dim=1)
    wrong = (sizes != 0) & ((sizes < least) | (sizes > most))  # NaN has an error of its own
    if bool(wrong.any()):
        raise ValueError(
            f"fixed: expected columns whose squares can be represented in {fixed.dtype}; got one of norm"
            f" {float(sizes[wrong][0]):.1e} times what suits Y (scale it: only its direction counts)"
        )


def _check_sign(name: str, X: Tensor) -> None:
    if bool((X < 0).any()):
        smallest = X.nan_to_num().min().item()
        raise ValueError(f"{name}: expected entries ≥ 0; got {smallest:.3g} (clip with .clamp(min=0))")
