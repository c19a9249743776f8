"""Entries that are hidden from a fit, to see how well it predicts them: how they are dealt, and the error on them."""

import math
from typing import Any

import torch
from torch import Tensor

from diffnmf.factorization.factorize import factorize, without_complaint
from diffnmf.factorization.sparse_matrix import ObservedMatrix, csr_tensor
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero


def deal(n: int, m: int, folds: int, seed: int) -> Tensor:
    """The part of every entry, (n, m) int64: equal shares in each column, or in each row where rows are longer."""
    if n < m:
        return deal(m, n, folds, seed).T
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(n, m, generator=generator, device="cpu").argsort(0)  # a random order of its own for each column
    return (order + torch.arange(m, device="cpu")) % folds  # shifted, so that what is left over goes round


def deal_stored(Y: ObservedMatrix, folds: int, seed: int) -> Tensor:
    """The part of every entry that Y (1, n, m) stores, (nnz,) int64: equal shares likewise."""
    _, n, m = Y.shape
    line = Y.places[1 if n >= m else 0]
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(line), generator=generator, device="cpu").argsort().to(line.device)
    order = order[line[order].argsort(stable=True)]  # line after line, each in a random order
    parts = torch.empty_like(order)
    parts[order] = torch.arange(len(line), device=line.device) % folds
    return parts


@torch.no_grad()
@precisely
def stored_errors(Y: ObservedMatrix, hidden: Tensor, k: int, options: dict[str, Any]) -> Tensor:
    """The relative error on the ``hidden`` ones (nnz,) of what Y (1, n, m) stores, () float64, after a fit to the rest.

    The options are those of ``factorize``.
    """
    seen, rest = _chosen(Y, ~hidden), ObservedMatrix.of(_chosen(Y, hidden))
    with without_complaint():
        factors = factorize(seen, k, mask="stored", tol=0.0, **options)
    predicted = rest.sampled_product(factors.H.mT, factors.W).clamp(max=seen.values().max())
    return relative_norm(predicted - rest.values, rest.values, Y.values.max(), dim=0)


def relative_norm(error: Tensor, of: Tensor, largest: Tensor, dim: int | tuple[int, ...] = (-2, -1)) -> Tensor:
    """‖error‖ / ‖of‖ over ``dim``, float64; infinite where only the second is zero. ``largest``: of the whole data."""
    unit = one_where_zero(largest)  # squares of what is large would overflow
    far, size = (torch.linalg.vector_norm(x / unit, dim=dim, dtype=torch.float64) for x in (error, of))
    return torch.where((size == 0) & (far > 0), math.inf, far / one_where_zero(size))


def _chosen(Y: ObservedMatrix, which: Tensor) -> Tensor:
    """The entries that are chosen, (n, m) in torch's CSR layout."""
    rows, columns = (x[which] for x in Y.places)
    counts = torch.bincount(rows, minlength=Y.shape[1])
    pointers = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    return csr_tensor(pointers, columns, Y.values[which], tuple(Y.shape[1:]))
