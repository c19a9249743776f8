"""What ``NMF`` does with samples that are read in blocks."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from diffnmf.factorization.estimator_fit import Fit, Samples, complaint_of, factorize_samples, loss_of
from diffnmf.factorization.estimator_start import check_starts
from diffnmf.factorization.large.blocks import Blocks
from diffnmf.factorization.large.processes import Processes, share
from diffnmf.factorization.large.rows import SourceRows, rows_per_block
from diffnmf.factorization.reconstruction import Loss, distance, weights_of
from diffnmf.factorization.sample_arrays import device_of, dtype_of
from diffnmf.solvers.norms import safe_norm


@dataclass(frozen=True)
class Sharing:
    """The processes that share the samples (``group``), the folder of checkpoints, and whether to show a bar."""

    group: Any = None
    checkpoint: str | Path | None = None
    progress: bool = False


def fit_blocks(model: Any, X: Blocks, W: Any, H: Any, weights: Any, sharing: Sharing | None = None) -> Fit:
    """As ``estimator_fit.fit``, of ``Blocks`` with a sample in each row; of W the part of this process."""
    X = checked_blocks(model, X, weights, reset=True)
    if model.n_init != 1:
        raise ValueError(f"n_init: expected 1 for data in blocks; got {model.n_init!r} (leave it out)")
    if model.fixed is not None:
        raise ValueError(f"fixed: expected None for data in blocks; got {type(model.fixed).__name__} (leave it out)")
    sharing = sharing or Sharing(checkpoint=model.checkpoint, progress=bool(model.verbose))
    samples = _outline(X)
    starts = check_starts(model, samples.Y, W, H, update_H=True)
    factors = factorize_samples(model, samples, starts, X.mT, **vars(sharing))
    loss, processes = loss_of(model, samples), Processes(sharing.group, X.device)
    found, far, norm = block_weights(factors.H, X, loss, processes)
    complaint = complaint_of(model) if model.tol > 0 and not bool(factors.converged) else None
    return Fit(factors.H, found, max(1, int(factors.iterations)), factors.errors.cpu().numpy(), far, complaint, norm)


def transform_blocks(model: Any, X: Blocks, weights: Any, components: Tensor) -> Tensor:
    """The weights (k, N) of samples for the components (k, F)."""
    X = checked_blocks(model, X, weights, reset=False)
    H = components.to(X.device, X.dtype).T
    return block_weights(H, X, loss_of(model, _outline(X)), Processes())[0]


def checked_blocks(model: Any, X: Blocks, weights: Any, *, reset: bool) -> Blocks:
    """The samples as the model computes with them, after checks of what it asks for."""
    if weights is not None:
        raise ValueError("weights: expected None for data in blocks; got weights (leave them out)")
    if model.missing == "unstored":
        raise ValueError("missing: expected 'error' for data in blocks, which are dense; got 'unstored' (leave it out)")
    if X.transposed:
        raise ValueError("X: expected blocks with a sample in each row of the file; got transposed ones (.mT)")
    validate_data(model, X, reset=reset, skip_check_array=True)
    return X.using(dtype=dtype_of(model.dtype), device=device_of(model.device))


def _outline(X: Blocks) -> Samples:
    """Samples of that shape, dtype and device, which is all that is asked of them: they take no memory."""
    count, features = X.shape
    return Samples(torch.zeros((), dtype=X.dtype, device=X.device).expand(features, count), None)


@torch.no_grad()
def block_weights(H: Tensor, X: Blocks, loss: Loss, processes: Processes) -> tuple[Tensor, float, float]:
    """In one pass the exact weights W (k, N) of the samples of this process for H (F, k).

    Returns:
        W; how far HW is from all samples, see ``distance``; ‖X‖ of all samples.
    """
    start, stop = share(X.shape[0], processes)
    k = H.shape[1]
    W = H.new_empty(k, stop - start)
    far = norm = 0.0
    size = rows_per_block(X, k, W.numel() * W.element_size())
    for rows, block in SourceRows(X, start, stop, size).blocks():
        if not bool(block.isfinite().all()) or bool((block < 0).any()):
            raise ValueError(
                "X: expected finite entries ≥ 0; Negative values in data passed to NMF, or NaN or infinity, in rows"
                f" {start + rows.start} to {start + rows.stop}"
            )
        Y = block.mT.contiguous()
        W[:, rows] = weights_of(H, Y, None, loss)
        far = math.hypot(far, distance(H, W[:, rows], Y, None, loss.beta))
        norm = math.hypot(norm, float(safe_norm(block, dim=(0, 1))))
    lengths = processes.gather(torch.tensor([[far, norm]], dtype=torch.float64, device=X.device))
    far, norm = (math.hypot(*column) for column in lengths.T.tolist())
    return W, far, norm
