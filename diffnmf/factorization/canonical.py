"""One representative for all factorisations that are the same but for the order and the scale of their components.

(HPD, D⁻¹PᵀW) fits Y as well as (H, W) for every permutation P and every positive diagonal D. Who learns from
factorisations, or compares them, has to choose one of them, and the same one for inputs that are nearly the same.
"""

import torch
from torch import Tensor

from diffnmf.checks import check_matrix, check_number
from diffnmf.factorization.slots import match_slots, take_slots
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import safe_norm, with_unit_columns


def canonicalize(H: Tensor, W: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """The representative with columns of H of length one, in the slots of prototypes; the mass goes into W.

    HW stays what it is. Slots come from the assignment of largest mean cosine with the prototypes. Sorting, by the mass
    of a component for example, would do as well to make the choice unique, but jumps: two components of nearly the same
    mass change places with the least change of Y, and a network cannot follow that. The assignment jumps only where
    components resemble two prototypes equally.

    Arguments:
        H: (*batch, n, k), non-negative. A zero column stays zero and takes a slot that is left.
        W: (*batch, k, m), non-negative. The row of a zero column becomes zero.
        prototypes: (n, k), non-negative, of any length: ``slot_prototypes`` of the bases of several groups, and
            ``move_prototypes`` where more of them come one after the other.

    Returns:
        H (*batch, n, k) and W (*batch, k, m), differentiable, with the slots held constant.

    Raises:
        TypeError, ValueError: an argument is no floating-point matrix, or shapes do not fit.

    Source: Tayal, Lai, Kumar, Sun (2020), Inverse problems, deep learning, and symmetry breaking, where the idea is
    given for other symmetries: supervise with one representative of each orbit, chosen so that it varies smoothly. That
    of NMF, and prototypes in the place of an order of the numbers, are ours.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import canonicalize
        >>> H, W = canonicalize(torch.tensor([[0.0, 2.0], [4.0, 0.0]]), torch.tensor([[1.0], [3.0]]), torch.eye(2))
        >>> H, W
        (tensor([[1., 0.],
                [0., 1.]]), tensor([[6.],
                [4.]]))
    """
    _check_pair(H, W)
    order = match_slots(H.detach(), prototypes)
    H, W = take_slots(H, W, order)
    return with_unit_columns(H), W * safe_norm(H, dim=-2).unsqueeze(-1).to(H.dtype)


@torch.no_grad()
@precisely
def move_prototypes(prototypes: Tensor, H: Tensor, rate: float = 0.1) -> Tensor:
    """Prototypes that follow the bases as they come: a step towards the mean of what was matched to each slot.

    Arguments:
        prototypes: (n, k), as they are.
        H: (*batch, n, k), the bases of some more groups, in any order and scale.
        rate: of the step, in [0, 1]: 0 stays, 1 forgets what was before.

    Returns:
        (n, k), columns of length one.

    Raises:
        TypeError, ValueError: as ``canonicalize``, or ``rate`` is out of range.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import move_prototypes
        >>> move_prototypes(torch.eye(2), torch.tensor([[0.0, 3.0], [1.0, 3.0]]), rate=1.0)
        tensor([[0.7071, 0.0000],
                [0.7071, 1.0000]])
    """
    rate = check_number("rate", rate, "[0, 1]")
    order = match_slots(H, prototypes)
    if H.numel() == 0:
        raise ValueError(
            f"H: expected the bases of at least one group; got {tuple(H.shape)} (leave the prototypes as they are)"
        )
    matched, _ = take_slots(H, H.mT, order)
    mean = with_unit_columns(matched).reshape(-1, *prototypes.shape).mean(0)
    return with_unit_columns((1 - rate) * with_unit_columns(prototypes) + rate * mean.to(prototypes.dtype))


def _check_pair(H: Tensor, W: Tensor) -> None:
    check_matrix("H", H)
    if check_matrix("W", W).shape[:-1] != (*H.shape[:-2], H.shape[-1]):
        raise ValueError(
            f"W: expected a row for each column of H, {(*H.shape[:-2], H.shape[-1], 'm')}; "
            f"got {tuple(W.shape)} (give both factors of one)"
        )
