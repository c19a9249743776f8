"""What a classical factorisation of a group says its basis is, in one order for all groups: targets for a network."""

import torch
from torch import Tensor

from diffnmf.data import GroupSampler, group_matrix
from diffnmf.factorization import canonicalize, merge, slot_prototypes
from diffnmf.factorization.merging import can_merge
from diffnmf.models.basis_start import PROTOTYPE_GROUPS
from diffnmf.solvers.devices import without_autocast


class CanonicalTargets:
    """Merging (docs/merging.md) of a group, as its canonical representative (``canonicalize``).

    The prototypes move until they rest, on the first groups of the first epoch, and stay then: targets that moved with
    the training would depend on the number of processes, and be one thing more to keep in a checkpoint.

    Arguments:
        sampler: the groups of the training images.
        k: components.

    Raises:
        ValueError: merging has no k components for such groups.
    """

    def __init__(self, sampler: GroupSampler, k: int) -> None:
        self.k = k
        Y = group_matrix(sampler.images, sampler.epoch(1)[:PROTOTYPE_GROUPS]).cpu()
        n, m = Y.shape[-2:]
        if not can_merge(n, m, k):
            raise ValueError(
                f"canonical: expected at most k = max(n, m) = {max(n, m)} components, which merging finds;"
                f" got k = {k} (leave canonical out)"
            )
        self.prototypes = slot_prototypes(merge(Y, k)[0])  # (n, k)

    @torch.no_grad()
    def of(self, Y: Tensor) -> Tensor:
        """H (B, n, k), columns of length one, for groups Y (B, n, m). Found on the CPU wherever Y is."""
        groups = Y.cpu()
        with without_autocast(groups.device):
            H, _ = canonicalize(*merge(groups.float(), self.k), self.prototypes)
        return H.to(Y)
