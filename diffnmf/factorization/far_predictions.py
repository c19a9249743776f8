"""Whether factors say more of entries that are not known than anything that is known would allow.

Where hardly a known entry tells how much of a component a sample holds, that weight is nearly free, and the smallest
error on what is known may ask for any number. Where enough is known, predictions stay below three times the largest
entry.
"""

from typing import Any

import torch
from torch import Tensor

from diffnmf.errors import PredictionWarning, warn_user
from diffnmf.factorization.sparse_matrix import SparseMatrix
from diffnmf.solvers.norms import one_where_zero

FAR = 100.0  # times the largest known entry


def warn_of_far_predictions(H: Tensor, W: Tensor, Y: Tensor | SparseMatrix, weights: Tensor | None, cure: str) -> None:
    """Warn, at the line of the user, where predictions are more than ``FAR`` times what is known.

    Arguments:
        H: (*batch, n, k).
        W: (*batch, k, m).
        Y: (*batch, n, m), dense, or sparse, where what is not stored is not known.
        weights: (*batch, n, m), zero where a dense Y is not known; None for a sparse one.
        cure: what to do, beside clipping.
    """
    ratio = (H.amax(-2).double() * W.amax(-1)).amax(-1) / one_where_zero(largest_known(Y, weights))
    far = ratio > FAR
    if not bool(far.any()):
        return
    where = f" in {int(far.sum())} of {far.numel()} problems" if far.ndim and far.numel() > 1 else ""
    times = f"{float(ratio[far].max()):.0e}"
    warn_user(
        f"entries that are not known, or hardly count, are predicted up to {times} times the largest known one{where}:"
        f" too little is known there to tell the weight of a component ({cure}, or clip the predictions)",
        PredictionWarning,
    )


def largest_known(Y: Any, weights: Tensor | None) -> Tensor:
    """(*batch,) of the largest entry that is known; 0 where nothing is."""
    if isinstance(Y, SparseMatrix) or Y.layout != torch.strided:
        values = Y.values if isinstance(Y, SparseMatrix) else Y.values()
        return values.amax() if len(values) else values.new_zeros(())
    return (Y if weights is None else torch.where(weights > 0, Y, 0.0)).amax((-2, -1))
