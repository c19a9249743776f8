"""Whether slot j of the basis means the same part from group to group: the claim of Fig. 10 of the paper, as a number.

(HP, PᵀW) fits Y as well as (H, W) for every permutation P, so the error asks no slot for the same part in every group.
A method that gives every slot its part all the same is said to break the symmetry.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_tensor
from diffnmf.solvers.norms import with_unit_columns


@dataclass(frozen=True)
class SlotConsistency:
    """How much pairs of bases resemble each other, slot by slot as they stand and in the best order.

    Attributes:
        unmatched: mean over pairs and slots of the cosine of two columns in the same slot. In [0, 1] for non-negative
            bases.
        matched: the same after the best one-to-one assignment of columns, found for each pair anew.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import slot_consistency
        >>> found = slot_consistency(torch.stack((torch.eye(3), torch.eye(3).flip(-1))))
        >>> found.matched - found.unmatched > 0.5  # the parts are the same, and stand in other slots
        True
    """

    unmatched: float
    matched: float

    @property
    def gap(self) -> float:
        """Matched − unmatched, ≥ 0 up to rounding: how much of the resemblance is hidden by the order of the columns.

        0 where each slot keeps its part. Read it beside ``matched``: bases that share no parts have no gap either.
        """
        return self.matched - self.unmatched


@torch.no_grad()
def slot_consistency(H: Tensor) -> SlotConsistency:
    """Compare the bases of G groups, each with each.

    Both means do not change when columns are scaled by positive numbers; ``matched`` does not either when the columns
    of each basis are permuted. Both are NaN where H holds a NaN.

    Arguments:
        H: (G, n, k), the bases of G ≥ 2 groups. A dead (zero) column resembles nothing (cosine 0). Memory grows with
            (G k)²: of thousands of groups take a sample.

    Raises:
        TypeError, ValueError: H is no dense tensor, or has another shape; the message says which.

    Source: Kuhn (1955), The Hungarian method for the assignment problem, Naval Research Logistics Quarterly 2.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import slot_consistency
        >>> slot_consistency(torch.stack((torch.eye(2), torch.eye(2).flip(-1))))
        SlotConsistency(unmatched=0.0, matched=1.0)
    """
    _check_bases(H, at_least=2)
    groups, n, k = H.shape
    rows = with_unit_columns(H.double()).mT.reshape(groups * k, n)
    cosines = (rows @ rows.T).reshape(groups, k, groups, k).transpose(1, 2)  # (G, G, k, k)
    first, second = torch.triu_indices(groups, groups, offset=1, device=H.device)
    return _compare(cosines[first, second])


@torch.no_grad()
def permutation_consistency(H: Tensor, H_permuted: Tensor) -> SlotConsistency:
    """Compare two bases of each group: H of Y, and H_permuted of the same Y with its columns in another order.

    The order of the columns of Y carries no meaning: ``unmatched`` is 1 where the basis does not depend on it, and a
    ``matched`` of 1 with a gap says that it moves the parts to other slots.

    Arguments:
        H: (G, n, k), the bases of G ≥ 1 groups, as in ``slot_consistency``.
        H_permuted: (G, n, k), entry g from the same group as H[g].

    Raises:
        TypeError, ValueError: one is no dense tensor, or the shapes do not fit; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import spa
        >>> from diffnmf.metrics import permutation_consistency
        >>> Y = torch.rand(5, 30, 8)  # five groups
        >>> permutation_consistency(spa(Y, 3), spa(Y.flip(-1), 3)).matched > 0.999  # spa does not mind the order
        True
    """
    _check_bases(H, at_least=1)
    if check_tensor("H_permuted", H_permuted).shape != H.shape:
        raise ValueError(
            f"H_permuted: expected the shape of H, {tuple(H.shape)}; got {tuple(H_permuted.shape)}"
            " (give both bases of the same groups, in the same order)"
        )
    return _compare(with_unit_columns(H.double()).mT @ with_unit_columns(H_permuted.double()))


def _compare(cosines: Tensor) -> SlotConsistency:
    """From P pairs of bases, (P, k, k): entry (i, j) is the cosine of column i in the one and column j in the other."""
    from scipy.optimize import linear_sum_assignment  # here, so that `import diffnmf` stays light

    if cosines.isnan().any():
        return SlotConsistency(math.nan, math.nan)  # the assignment refuses NaN
    cosines = cosines.clamp(-1, 1)  # rounding may step over the ends
    unmatched = cosines.diagonal(dim1=-2, dim2=-1).mean().item()
    pairs = cosines.cpu().numpy()
    matched = sum(pair[linear_sum_assignment(pair, maximize=True)].mean().item() for pair in pairs) / len(pairs)
    return SlotConsistency(unmatched, matched)


def _check_bases(H: Tensor, *, at_least: int) -> None:
    check_tensor("H", H)
    if H.ndim != 3 or H.shape[0] < at_least or H.shape[-1] == 0:
        raise ValueError(
            f"H: expected (G, n, k), the bases of at least {at_least} group{'s' * (at_least > 1)}, k ≥ 1;"
            f" got {tuple(H.shape)} (put one basis per group together with torch.stack)"
        )
