"""How stable the components are: what factorisations from many starts have in common."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_counts, check_number
from diffnmf.errors import PredictionWarning
from diffnmf.factorization.entry_weights import entry_weights_of
from diffnmf.factorization.factorize import without_complaint
from diffnmf.factorization.far_predictions import warn_of_far_predictions
from diffnmf.factorization.large.blocks import refuse_blocks
from diffnmf.factorization.reconstruction import Loss, distance, weights_of
from diffnmf.factorization.registry import get_method
from diffnmf.factorization.replicates import replicate
from diffnmf.factorization.sample_arrays import columns_of
from diffnmf.factorization.slots import match_slots, slot_prototypes, take_slots
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero, safe_norm, with_unit_columns


class Consensus(NamedTuple):
    """What R factorisations of Y with k components have in common.

    Attributes:
        H: (n, k), the median of every cluster of components, columns of norm 1; the most stable ones first.
        W: (k, m), the exact weights for them, under the loss of the method, without penalties.
        silhouettes: (R', k) float64, how much closer every component is to its own cluster than to the nearest other
            one, in [−1, 1], of the R' replicates that are kept.
        stability: (k,) float64, their mean for every cluster.
        error: ‖Y − HW‖_F / ‖Y‖_F of the consensus, over what is known, with its weights; √(2 Σ d_β(Y | HW)) for a
            method of another loss than the squared error.
        errors: (R,) float64, those of the replicates.
        kept: (R',) int64, which replicates are kept.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import consensus
        >>> parts = torch.block_diag(torch.ones(10, 1), torch.ones(10, 1))  # two parts that share no row
        >>> found = consensus(parts @ torch.rand(2, 40), 2, n_init=4, tol=0.0, max_iter=50)
        >>> bool((found.stability > 0.95).all()), found.error < 0.01  # every start finds the same
        (True, True)
    """

    H: Tensor
    W: Tensor
    silhouettes: Tensor
    stability: Tensor
    error: float
    errors: Tensor
    kept: Tensor


class ConsensusScores(NamedTuple):
    """Stability and error over the number of components.

    Attributes:
        ks: the numbers that were tried, ascending.
        stability: (len(ks),) float64, the mean silhouette.
        least: (len(ks),) float64, that of the least stable component.
        error: (len(ks),) float64, the error of the consensus, see there.
        best_error: (len(ks),) float64, that of the best replicate.
        found: a ``Consensus`` for every k.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import consensus_curve
        >>> curve = consensus_curve(torch.rand(20, 30), [2, 3], n_init=3, tol=0.0, max_iter=20)
        >>> curve.ks, curve.found[1].H.shape
        ((2, 3), torch.Size([20, 3]))
        >>> bool((curve.least <= curve.stability).all())  # the least stable component, and the mean
        True
    """

    ks: tuple[int, ...]
    stability: Tensor
    least: Tensor
    error: Tensor
    best_error: Tensor
    found: tuple[Consensus, ...]


@torch.no_grad()
@precisely
def consensus(
    Y: Any, k: int, *, n_init: int = 20, keep: float = 0.8, missing: str = "error", seed: int = 0, **options: Any
) -> Consensus:
    """Factorise Y from many random starts, match the components of all, and take the median of each cluster.

    Every cluster has one component of each replicate: they are assigned to common prototypes one to one (see
    ``match_slots``), in turns with new prototypes. Components count with norm 1, and their distance is 1 − cosine.

    Arguments:
        Y: (n, m), dense or sparse; or, with a sample in each row, an array, a sparse matrix of SciPy or a data frame
            (m, n).
        k: components, ≥ 1. With 1, silhouettes are 1 − the mean distance from the others.
        n_init: replicates, ≥ 2.
        keep: the share of them that counts, in (0, 1]: those of the smallest errors, at least two. A start that ends in
            a bad minimum says little about the data.
        missing: "error"; "ignore": a NaN in Y is an entry that is not known; or "unstored", for a sparse Y: what it
            does not store is not known.
        seed: of the starts.
        options: as in ``factorize``.

    Raises:
        TypeError, ValueError: as ``replicate``; the message names the argument.

    Sources: Kotliar et al. (2019), Identifying gene expression programs of cell-type identity and cellular activity
    with single-cell RNA-Seq, eLife 8 (cNMF), for the median of clustered components; Alexandrov and Vesselinov (2014),
    Blind source separation for groundwater pressure analysis based on nonnegative matrix factorization, Water Resources
    Research 50(9) (NMFk), for clusters of one component of each replicate; Rousseeuw (1987), Silhouettes.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import consensus
        >>> Y = torch.rand(30, 3) @ torch.rand(3, 40)
        >>> found = consensus(Y, 3, n_init=5, tol=0.0, max_iter=100)
        >>> found.H.shape, found.W.shape
        (torch.Size([30, 3]), torch.Size([3, 40]))
    """
    refuse_blocks("Y", Y, "consensus")
    Y = columns_of("Y", Y, missing=missing, sparse=True)
    if missing == "unstored":
        if options.get("mask") is not None:
            raise ValueError("mask: expected None with missing='unstored'; got one (leave it out)")
        options["mask"] = "stored"
    elif missing == "ignore" and Y.layout == torch.strided and bool(Y.isnan().any()):
        given = options.get("mask")
        options["mask"] = ~Y.isnan() if given is None else ~Y.isnan() & given
    n_init = check_count("n_init", n_init, at_least=2)
    keep = check_number("keep", keep, "(0, 1]")
    with without_complaint(PredictionWarning):
        replicates = replicate(Y, k, n_init=n_init, seed=seed, **options)
    kept = replicates.order[: max(2, round(keep * n_init))]
    bases = replicates.factors.H[kept]  # (R', n, k)
    prototypes = slot_prototypes(bases, rounds=50)
    order = match_slots(bases, prototypes)
    bases = with_unit_columns(take_slots(bases, bases.mT, order)[0])
    silhouettes = _silhouettes(bases)
    by_stability = silhouettes.mean(0).argsort(descending=True)
    H = with_unit_columns(_median(bases))[:, by_stability].to(Y.dtype)
    sparse, mask = Y.layout != torch.strided, options.get("mask")
    observed = isinstance(mask, str)  # "stored"
    V, _ = entry_weights_of(None if observed else mask, options.get("weights"), Y, tuple(Y.shape), sparse)
    if V is not None:
        V, Y = V[0], torch.where(V[0] > 0, Y, 0.0)
    beta = get_method(options.get("method", "hals")).beta
    W = weights_of(H, Y, V, Loss(beta), observed=observed)
    if observed or V is not None:
        warn_of_far_predictions(H, W, Y, V, "give ridge_H and ridge_W, take fewer components")
    error = distance(H, W, Y, V, beta, observed=observed)
    if beta == 2:
        entries = Y.values() if sparse else Y if V is None else V.sqrt() * Y
        error /= float(one_where_zero(safe_norm(entries, dim=tuple(range(entries.ndim)))))
    return Consensus(
        H,
        W,
        silhouettes[:, by_stability],
        silhouettes.mean(0)[by_stability],
        error,
        replicates.factors.errors[-1],
        kept,
    )


def consensus_curve(Y: Any, ks: Iterable[int], **options: Any) -> ConsensusScores:
    """``consensus`` for several numbers of components: a k is good where it is stable and its error has come down.

    Arguments:
        Y: as in ``consensus``.
        ks: numbers of components to try, ≥ 1.
        options: as in ``consensus``.

    Raises:
        TypeError, ValueError: as ``consensus``, and for ks.

    Returns:
        The scores of every k, with the consensus itself.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import consensus_curve
        >>> parts = torch.block_diag(torch.ones(10, 1), torch.ones(10, 1))
        >>> curve = consensus_curve(parts @ torch.rand(2, 40), [1, 2], n_init=4, tol=0.0, max_iter=50)
        >>> (curve.error < 0.01).tolist(), (curve.stability > 0.95).tolist()  # two components, and they are stable
        ([False, True], [True, True])
    """
    numbers = tuple(sorted(set(check_counts("ks", ks, at_least=1))))
    refuse_blocks("Y", Y, "consensus_curve")
    Y = columns_of("Y", Y, missing=options.get("missing", "error"), sparse=True)
    found = tuple(consensus(Y, k, **options) for k in numbers)
    curves = [
        [float(x.stability.mean()) for x in found],
        [float(x.stability.min()) for x in found],
        [x.error for x in found],
        [float(x.errors.min()) for x in found],
    ]
    stability, least, error, best = (torch.tensor(curve, dtype=torch.float64, device="cpu") for curve in curves)
    return ConsensusScores(numbers, stability, least, error, best, found)


def _silhouettes(bases: Tensor) -> Tensor:
    """Of unit columns (R, n, k), those of equal place in one cluster: (R, k) float64."""
    R, _, k = bases.shape
    flat = bases.movedim(2, 0).reshape(k * R, -1).double()  # cluster after cluster
    distances = (1 - flat @ flat.T).clamp(min=0)
    distances = distances.fill_diagonal_(0).reshape(k * R, k, R)  # of a component of zeros, too
    own = torch.arange(k, device=bases.device).repeat_interleave(R)
    means = distances.mean(2)  # (k·R, k), to every cluster; a component's distance to itself counts as zero
    within = means.gather(1, own[:, None]).squeeze(1) * R / (R - 1)
    if k == 1:
        return (1 - within).reshape(1, R).T
    nearest = means.scatter(1, own[:, None], torch.inf).amin(1)
    largest = torch.maximum(within, nearest)
    return torch.where(largest > 0, (nearest - within) / one_where_zero(largest), 0.0).reshape(k, R).T


def _median(bases: Tensor) -> Tensor:
    """Over the first dimension: of an even number the mean of the two in the middle, of which torch takes the lower."""
    return (bases.median(0).values - (-bases).median(0).values) / 2
