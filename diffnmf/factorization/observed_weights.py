"""The exact weights W of given components where a sparse Y is known only where it stores something."""

from collections.abc import Iterator

import torch
from torch import Tensor

from diffnmf.factorization.sparse_matrix import ObservedMatrix
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import NNLSSolver
from diffnmf.solvers.ranges import range_exponent, times_power

AT_ONCE = 2**21  # numbers of gathered rows of H, or of Gram matrices


def observed_weights(
    H: Tensor, Y: ObservedMatrix, *, l1: float | Tensor, ridge: float | Tensor, solver: str | NNLSSolver
) -> Tensor:
    """argmin ½ Σ (Y − HW)² over what is known + l1 ΣW + ½ ridge ‖W‖² over W ≥ 0, (1, k, m), in the dtype of Y.

    Every column has a Gram matrix of its own, formed in float64 of the rows of H in which it is known.

    Arguments:
        H: (1, n, k).
        Y: (1, n, m).
        l1, ridge: numbers, or tensors (1, 1, 1).
        solver: as in ``diffnmf.nnls``.
    """
    of_H = range_exponent(H[0].double().amax(0))  # (k,); squares have to be in range
    largest = Y.values.double().amax() if len(Y.values) else torch.zeros((), dtype=torch.float64, device=H.device)
    of_Y = range_exponent(largest)
    rows = times_power(H[0].double(), -of_H)
    values = times_power(Y.mT.values.double(), -of_Y)
    l1, ridge = (torch.as_tensor(x, dtype=torch.float64, device=H.device).reshape(1, 1) for x in (l1, ridge))
    l1, ridge = times_power(l1, -(of_H + of_Y)).mT, times_power(ridge, -2 * of_H).mT  # (k, 1)
    solve = NNLSLayer(solver, backward="detached")
    W = torch.zeros(Y.shape[2], H.shape[2], dtype=torch.float64, device=H.device)
    for columns, G, C in _normal_equations(rows, Y.columns, values):
        W[columns] = solve.solve_gram(G, C, l1=l1, ridge=ridge).squeeze(-1)
    return times_power(W, of_Y - of_H).mT.to(Y.dtype).unsqueeze(0)


def _normal_equations(H: Tensor, Yt: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some columns (c,) at a time, with HᵀH (c, k, k) and Hᵀy (c, k, 1) over what is known of each.

    Columns of about as many known entries go together, so that one product serves them all.

    Arguments:
        H: (n, k).
        Yt: (m, n) in the CSR layout.
        values: (nnz,), in the place of its own.
    """
    starts, places, k = Yt.crow_indices(), Yt.col_indices(), H.shape[1]
    counts, order = starts.diff().sort()
    lengths = counts.tolist()
    begin = 0
    while begin < len(lengths):
        most = max(16, 2 * lengths[begin])
        end = begin + 1
        while end < len(lengths) and lengths[end] <= most and (end + 1 - begin) * max(lengths[end], k) * k <= AT_ONCE:
            end += 1
        columns, inside = order[begin:end], torch.arange(max(1, lengths[end - 1]), device=H.device)
        known = inside < counts[begin:end, None]
        entries = torch.where(known, starts[columns][:, None] + inside, 0)
        if len(values) == 0:
            some, y = H.new_zeros(end - begin, 1, k), H.new_zeros(end - begin, 1, 1)
        else:
            some = torch.where(known.unsqueeze(2), H[places[entries]], 0.0)
            y = torch.where(known, values[entries], 0.0).unsqueeze(2)
        yield columns, some.mT @ some, some.mT @ y
        begin = end
