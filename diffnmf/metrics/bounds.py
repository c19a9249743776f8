"""How far an approximation of Y is from the best that its rank allows."""

import math

import torch
from torch import Tensor

from diffnmf.checks import check_count
from diffnmf.factorization import truncated_svd
from diffnmf.metrics.scores import relative_error

SVD_ROUNDING = 1e-12  # LAPACK's, relative to ‖Y‖: 1e-14 measured, growing with n and m


@torch.no_grad()
def excess_over_svd(Y: Tensor, Y_hat: Tensor, k: int) -> Tensor:
    """Relative error of Ŷ / relative error of the rank-k SVD of Y − 1: what a factorisation leaves on the table.

    In [0, ∞] up to rounding for every Ŷ of rank ≤ k, such as HW with k components, since no matrix of that rank has a
    smaller relative error (Eckart and Young 1936); negative only for a Ŷ of higher rank. The column error
    has no such bound.

    Where Y itself has rank ≤ k, within the rounding of the dtype, nothing but Y is good enough: 0 where Ŷ equals Y
    within the same rounding, infinite elsewhere. Without gradient, as ``truncated_svd``.

    Arguments:
        Y: (*batch, n, m), floating point.
        Y_hat: (*batch, n, m), the reconstruction HW.
        k: ≥ 1, the number of components.

    Returns:
        (*batch,), in the dtype of the inputs; NaN where Y is not finite or Ŷ holds a NaN.

    Raises:
        TypeError, ValueError: k is no such number, or the shapes do not fit; the message names the argument.

    Example:
        >>> import torch
        >>> from diffnmf.metrics import excess_over_svd
        >>> Y = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
        >>> excess_over_svd(Y, torch.diag(torch.tensor([3.0, 0.0, 0.0])), k=1)  # no matrix of rank 1 is nearer
        tensor(0.)
        >>> excess_over_svd(Y, torch.diag(torch.tensor([3.0, 0.0, 0.0])), k=2) > 1  # two components can do much better
        tensor(True)
    """
    k = check_count("k", k, at_least=1)
    error = relative_error(Y, Y_hat)
    bound = relative_error(Y, truncated_svd(Y, k))
    # A product of rank k carries about one rounding a component in every entry; the SVD, in float64, adds its own.
    zero = (k + 4) * max(torch.finfo(Y.dtype).eps, torch.finfo(Y_hat.dtype).eps) + SVD_ROUNDING
    of_exact = torch.where(error <= zero, 0.0, error * math.inf)  # NaN stays NaN
    return torch.where(bound <= zero, of_exact, error / bound - 1).to(error.dtype)
