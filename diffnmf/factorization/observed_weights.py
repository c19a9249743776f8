"""The exact weights W of given components where a sparse Y is known only where it stores something."""

from collections.abc import Iterator

import torch
from torch import Tensor

from diffnmf.factorization.sparse_matrix import ObservedMatrix
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import NNLSSolver

AT_ONCE = 2**21  # numbers of gathered rows of H


def observed_weights(
    H: Tensor, Y: ObservedMatrix, *, l1: float | Tensor, ridge: float | Tensor, solver: str | NNLSSolver
) -> Tensor:
    """argmin ½ Σ (Y − HW)² over what is known + l1 ΣW + ½ ridge ‖W‖² over W ≥ 0, (1, k, m).

    Every column is a problem of its own, of the rows of H in which it is known.

    Arguments:
        H: (1, n, k).
        Y: (1, n, m).
        l1, ridge: numbers, or tensors (1, 1, 1).
        solver: as in ``diffnmf.nnls``.
    """
    solve = NNLSLayer(solver, backward="detached")
    W = H.new_zeros(Y.shape[2], H.shape[2])
    for columns, rows, y in _alike(H[0], Y.columns):
        W[columns] = solve(rows, y, l1=l1, ridge=ridge).squeeze(-1)
    return W.mT.unsqueeze(0)


def _alike(H: Tensor, Yt: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some columns (c,) at a time, with the rows (c, d, k) of H (n, k) in which they are known, and y (c, d, 1) there.

    Columns of about as many known entries go together: those of fewer than d end in zeros. Yt (m, n): Yᵀ in the CSR
    layout. Where nothing is known W is zero, and nothing comes.
    """
    starts, places, values = Yt.crow_indices(), Yt.col_indices(), Yt.values()
    counts, order = starts.diff().sort()
    lengths = counts.tolist()
    begin = int((counts == 0).sum())
    while begin < len(lengths):
        most = max(16, 2 * lengths[begin])
        end = begin + 1
        while end < len(lengths) and lengths[end] <= most and (end + 1 - begin) * lengths[end] * H.shape[1] <= AT_ONCE:
            end += 1
        columns, inside = order[begin:end], torch.arange(lengths[end - 1], device=H.device)
        known = inside < counts[begin:end, None]
        entries = torch.where(known, starts[columns][:, None] + inside, 0)
        rows = torch.where(known.unsqueeze(2), H[places[entries]], 0.0)
        yield columns, rows, torch.where(known, values[entries], 0.0).unsqueeze(2)
        begin = end
