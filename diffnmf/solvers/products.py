"""HᵀH, HᵀY, squares, and what W leaves of Y, in float64: by the compiled kernels where these can, otherwise by torch.

The kernels read H and Y as they are. Copies of them in float64 would take longer than the products.
"""

import torch
from torch import Tensor

from diffnmf.kernels import normal_equations as kernels
from diffnmf.kernels.calling import multiplies

IN_CACHE = 2**17  # numbers of float64


def form_gram(H: Tensor) -> Tensor:
    """HᵀH (B, k, k) of H (B, n, k)."""
    return kernels.gram(H) if multiplies(H) else H.double().mT @ H.double()


def form_correlation(H: Tensor, Y: Tensor) -> Tensor:
    """HᵀY (B, k, m) of H (B, n, k) and Y (B, n, m)."""
    # A library's product is the faster one where H leaves the cache, unless copies in float64 have to be made for it.
    small = H.dtype != torch.float64 or H.shape[-2] * H.shape[-1] <= IN_CACHE
    return kernels.correlation(H, Y) if small and multiplies(H, Y) else H.double().mT @ Y.double()


def form_squares(X: Tensor) -> Tensor:
    """‖x‖² (B, 1, m) of the columns of X (B, n, m)."""
    return kernels.squares(X) if multiplies(X) else X.double().square().sum(-2, keepdim=True)


def residual_gradient(H: Tensor, Y: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """Hᵀ(HW − Y) (B, k, m) and ‖y − Hw‖² (B, 1, m) of H (B, n, k), Y (B, n, m) and W (B, k, m) float64."""
    if multiplies(H, Y, W):
        return kernels.residual_gradient(H, Y, W)
    H = H.double()
    residual = torch.baddbmm(Y.double(), H, W, beta=-1)
    return H.mT @ residual, residual.square().sum(-2, keepdim=True)
