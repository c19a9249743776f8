"""Taking mixtures apart: every source has its own non-negative autoencoder, whose decoder is fixed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffnmf.autoencoders.non_negative import NonNegativeAutoencoder
from diffnmf.autoencoders.samples import rows_of
from diffnmf.checks import check_count, check_not_empty, check_number
from diffnmf.factorization.sample_arrays import in_kind
from diffnmf.solvers.norms import one_where_zero


def separate(
    mixtures: Any, sources: Sequence[NonNegativeAutoencoder], *, l1: float = 0.0, iterations: int = 200
) -> list[Any]:
    """The share of every source in mixtures: what of a mixture the autoencoder of that source can say best.

    Codes of all sources are found together, min KL(x ‖ Σ_s codes_s D_s) + l1 Σ codes, with the decoders D_s as they
    were learnt from each source alone. Each source then gets x ⊙ x̂_s / Σ x̂, so that the shares sum to the mixture. Of
    an entry of which no source can say anything, all get the same.

    Source: Smaragdis and Venkataramani 2017 (see ``NonNegativeAutoencoder``), who find codes by descending the
    gradient. Ours: multiplicative updates (Lee and Seung 2001), which need no step size. The problem is convex in the
    codes.

    Arguments:
        mixtures: (N, n) ≥ 0, array or tensor.
        sources: an autoencoder fitted to each source, all with in_features = n; at least one. The work is done in the
            dtype and on the device of the first.
        l1: ≥ 0.
        iterations: of the updates, an int ≥ 0.

    Returns:
        A source each, (N, n), in the order of ``sources``; arrays for an array, tensors for a tensor, without gradient.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.

    Example:
        >>> import torch
        >>> from diffnmf.autoencoders import NonNegativeAutoencoder, separate
        >>> left, right = torch.rand(2, 50, 16)
        >>> left[:, 8:], right[:, :8] = 0, 0
        >>> models = [NonNegativeAutoencoder(16, 3, epochs=300).fit(X) for X in (left, right)]
        >>> found = separate(left + right, models)
        >>> bool(((found[0] - left).norm() / left.norm()) < 0.2)
        True
    """
    check_not_empty("sources", sources, "autoencoder")
    l1, iterations = check_number("l1", l1), check_count("iterations", iterations)
    for position, source in enumerate(sources):
        if not isinstance(source, NonNegativeAutoencoder):
            raise TypeError(
                f"sources[{position}]: expected a NonNegativeAutoencoder; "
                f"got {type(source).__name__} (fit one to each source)"
            )
        if source.in_features != sources[0].in_features:
            raise ValueError(
                f"sources[{position}]: expected in_features = {sources[0].in_features}, as sources[0]; got "
                f"{source.in_features} (fit all to samples of one length)"
            )
    parts = [source.components_.to(sources[0].components_) for source in sources]  # (k_s, n) each
    dictionary = torch.cat(parts)  # (K, n)
    X = rows_of("mixtures", mixtures, sources[0].in_features, dictionary, "[0, inf)").detach()
    # Shares are those of a mixture of any size; in these units nothing leaves the range of the dtype.
    codes = _codes(X / one_where_zero(X.amax(dim=1, keepdim=True)), dictionary, l1, iterations)
    said = [its @ part for its, part in zip(codes.split([len(p) for p in parts], dim=1), parts, strict=True)]
    total = torch.stack(said).sum(dim=0)
    shares = [torch.where(total > 0, its / one_where_zero(total), 1 / len(said)) for its in said]
    return [in_kind(X * share, mixtures) for share in shares]


def _codes(X: Tensor, dictionary: Tensor, l1: float, iterations: int) -> Tensor:
    """argmin KL(X ‖ codes D) + l1 Σ codes for a D (K, n) with rows of sum 1, from equal codes: (N, K)."""
    tiny = torch.finfo(X.dtype).tiny
    codes = (X.sum(dim=1, keepdim=True) / len(dictionary)).expand(-1, len(dictionary))
    for _ in range(iterations):
        ratio = X / (codes @ dictionary).clamp(min=tiny)  # (N, n)
        codes = codes * (ratio @ dictionary.mT) / (1 + l1)
    return codes
