"""Components in a fixed order: slot j of every basis is the component that resembles prototype j.

(HP, PᵀW) fits Y as well as (H, W) for every permutation P; which component stands where is chance until somebody
decides. Here prototypes decide: one column for each slot, and each basis is put in the order that resembles them most.
"""

import numpy as np
import torch
from torch import Tensor

from diffnmf.checks import check_count, check_matrix, check_same_rows
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import with_unit_columns


@torch.no_grad()
@precisely
def match_slots(H: Tensor, prototypes: Tensor) -> Tensor:
    """The order in which the columns of H resemble the prototypes most: the assignment of largest mean cosine.

    Arguments:
        H: (*batch, n, k), non-negative. A zero column resembles nothing; it gets a slot that is left.
        prototypes: (n, k), non-negative, of any length.

    Returns:
        (*batch, k), int64: H[..., order[j]] belongs into slot j. See ``take_slots``.

    Raises:
        TypeError, ValueError: H or prototypes is no floating-point matrix, or their shapes do not fit.

    Source: Kuhn (1955), The Hungarian method for the assignment problem, Naval Research Logistics Quarterly 2.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import match_slots
        >>> match_slots(torch.eye(3)[:, [2, 0, 1]], torch.eye(3))
        tensor([1, 2, 0])
    """
    from scipy.optimize import linear_sum_assignment  # here, so that `import diffnmf` stays light

    check_matrix("H", H)
    check_same_rows("H", H, "prototypes", check_matrix("prototypes", prototypes))
    k = H.shape[-1]
    if prototypes.ndim != 2 or prototypes.shape[-1] != k:
        raise ValueError(
            f"prototypes: expected (n, k), as many columns as H has: {k}; got {tuple(prototypes.shape)}"
            " (slot_prototypes makes them from the bases of several groups)"
        )
    cosines = with_unit_columns(prototypes.to(H)).mT @ with_unit_columns(H)  # (*batch, k, k): slots, columns
    flat = cosines.reshape(-1, k, k).nan_to_num().double().cpu().numpy()
    order = np.array([linear_sum_assignment(pair, maximize=True)[1] for pair in flat]).reshape(*H.shape[:-2], k)
    return torch.from_numpy(order.astype(np.int64)).to(H.device)


def take_slots(H: Tensor, W: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """H (*batch, n, k) and W (*batch, k, m) with their components in an order (*batch, k) from ``match_slots``.

    Differentiable in H and W.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import match_slots, take_slots
        >>> H, W = torch.tensor([[0.0, 2.0], [4.0, 0.0]]), torch.tensor([[1.0], [3.0]])
        >>> take_slots(H, W, match_slots(H, torch.eye(2)))
        (tensor([[2., 0.],
                [0., 4.]]), tensor([[3.],
                [1.]]))
    """
    columns = order.unsqueeze(-2).expand(*order.shape[:-1], H.shape[-2], order.shape[-1])
    rows = order.unsqueeze(-1).expand(*order.shape, W.shape[-1])
    return H.gather(-1, columns), W.gather(-2, rows)


@torch.no_grad()
@precisely
def slot_prototypes(H: Tensor, rounds: int = 10) -> Tensor:
    """What the components of several groups have in common: a matched mean.

    It begins with the basis of the first group. Every round puts each basis in the order that resembles the prototypes
    most, and makes the mean of every slot its new prototype; it ends where nothing moves any more.

    Arguments:
        H: (G, n, k), the bases of G ≥ 1 groups, non-negative. Columns count with norm 1, whatever their length.
        rounds: at the most, an int ≥ 0.

    Returns:
        (n, k), columns of norm 1; a zero one where the column of the first group is zero and no other has it.

    Raises:
        TypeError, ValueError: H is no such tensor.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import slot_prototypes
        >>> slot_prototypes(torch.stack((torch.eye(3), torch.eye(3)[:, [2, 0, 1]])))
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    if check_matrix("H", H).ndim != 3 or len(H) == 0:
        raise ValueError(f"H: expected (G, n, k), the bases of at least one group; got {tuple(H.shape)}")
    U = with_unit_columns(H)
    prototypes, order = U[0], None
    for _ in range(check_count("rounds", rounds)):
        last, order = order, match_slots(U, prototypes)
        if last is not None and torch.equal(order, last):
            break
        prototypes = with_unit_columns(take_slots(U, U.mT, order)[0].mean(0))
    return prototypes
