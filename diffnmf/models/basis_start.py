"""A classical factorisation that the generator corrects, its components in fixed slots."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffnmf.factorization import match_slots, merge, slot_prototypes, spa, take_slots
from diffnmf.factorization.merging import can_merge
from diffnmf.layers import NNLSLayer
from diffnmf.solvers.devices import without_autocast
from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.operators import WAITING, mapped_first

PROTOTYPE_GROUPS = 64  # more of them hardly move a mean

Factors = tuple[Tensor, Tensor]  # H (B, n, k), W (B, k, m)
FARTHEST = 1.0  # what a column may lack: a part that hardly any image uses would lack anything


def _spa(Y: Tensor, k: int) -> Factors:
    H = spa(Y, k)
    return H, NNLSLayer(backward="detached")(H, Y)


BASIS_INITS: dict[str, Callable[[Tensor, int], Factors]] = {"merge": merge, "spa": _spa}


class BasisStart(nn.Module):
    """H₀, W₀ and what H₀ lacks, for every group and without gradient.

    A component may stand in any slot of H₀. The network has a channel for each slot, and can learn something about a
    part only where it finds that part in the same channel in every group: so H₀ is put in the order of prototypes, what
    the bases of training groups have in common. Until they are set, the order is that of the method.

    Arguments:
        method: a name of ``BASIS_INITS``.
        n: pixels of an image.
        k: components.
    """

    prototypes: Tensor

    def __init__(self, method: str, n: int, k: int) -> None:
        super().__init__()
        self.method = method
        self.k = k
        self.register_buffer("prototypes", torch.zeros(n, k))  # a zero prototype is none; saved with the model

    def forward(self, Y: Tensor, factors: Factors | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Y (B, n, m) to H₀ (B, n, k), W₀ (B, k, m), and what H₀ lacks (B, n, k), see ``lacking``.

        Arguments:
            Y: the groups.
            factors: H₀ and W₀ as ``factors`` has found them for these groups, where they are known already.
        """
        Y = Y.detach()
        with without_autocast(Y.device):
            H, W = self.factors(Y) if factors is None else factors
            return H, W, lacking(Y, H, W)

    def factors(self, Y: Tensor) -> Factors:
        """H₀ (B, n, k) and W₀ (B, k, m) of Y (B, n, m), in slots; columns of H₀ have a maximum of 1, like an image.

        Found on the CPU wherever Y is: merging is a thousand small steps, each of which a GPU would have to be told.
        """
        H, W = _found(Y.detach(), self.prototypes, self.method, self.k)
        return H, W

    @torch.no_grad()
    def set_prototypes(self, Y: Tensor) -> None:
        """Take what the bases of training groups Y (G, n, m) have in common; of many the first few."""
        H, _ = BASIS_INITS[self.method](Y[:PROTOTYPE_GROUPS].cpu(), self.k)
        self.prototypes.copy_(slot_prototypes(H))


# One opaque operation for whatever records or batches operations: what looks at the numbers cannot be followed.
@torch.library.custom_op("diffnmf::basis_start", mutates_args=(), **WAITING)
def _found(Y: Tensor, prototypes: Tensor, method: str, k: int) -> tuple[Tensor, Tensor]:
    prototypes = prototypes.cpu()
    with torch.no_grad(), without_autocast(prototypes.device):
        H, W = BASIS_INITS[method](Y.cpu(), k)
        if bool(prototypes.any()):
            H, W = take_slots(H, W, match_slots(H, prototypes))
        brightest = one_where_zero(H.amax(-2, keepdim=True))  # (B, 1, k)
        H, W = (H / brightest).to(Y.device), (W * brightest.mT).to(Y.device)
        return H.contiguous(), W.contiguous()  # as promised below


@_found.register_fake
def _(Y: Tensor, prototypes: Tensor, method: str, k: int) -> tuple[Tensor, Tensor]:
    return Y.new_empty(*Y.shape[:2], k), Y.new_empty(Y.shape[0], k, Y.shape[2])


@_found.register_vmap
def _(info, in_dims, Y, prototypes, method, k):  # type: ignore[no-untyped-def]
    pairs = zip((Y, prototypes), in_dims[:2], strict=True)
    Y, prototypes = (mapped_first(x, dim, info.batch_size) for x, dim in pairs)  # (V, B, n, m), (V, n, k)
    H, W = Y.new_empty(*Y.shape[:3], k), Y.new_empty(*Y.shape[:2], k, Y.shape[3])
    for h, w, groups, slots in zip(H, W, Y, prototypes, strict=True):  # one by one: models have their own
        h[:], w[:] = _found(groups, slots, method, k)
    return (H, W), (0, 0)


def lacking(Y: Tensor, H: Tensor, W: Tensor) -> Tensor:
    """What every column of H lacks for the least squares error, (B, n, k): the step of HALS, (Y − HW)wᵢ/‖wᵢ‖².

    A network would have to find it out image by image. It is 0 for a part that is not used.

    Arguments:
        Y: (B, n, m).
        H: (B, n, k).
        W: (B, k, m), wᵢ its rows.
    """
    size = one_where_zero(W.square().sum(-1)).unsqueeze(-2)  # (B, 1, k)
    return ((Y - H @ W) @ W.mT / size).clamp(-FARTHEST, FARTHEST)


def check_basis_init(method: str | None, n: int, m: int, k: int) -> None:
    """Raise unless that method finds k components in a group of m images of n pixels."""
    if method == "spa" and k > m:
        raise ValueError(
            f"basis_init: expected at most k = m = {m} for 'spa', which takes k of the images; "
            f"got k = {k} (lower k, or use 'merge')"
        )
    if method == "merge" and not can_merge(n, m, k):
        raise ValueError(
            f"basis_init: expected at most k = max(n, m) = {max(n, m)} for 'merge', which merges images or pixels;"
            f" got k = {k} (leave it out; diffnmf train --preset scratch does)"
        )
