"""Matrices to factorise and independent checks for the tests of the factorisations."""

import numpy as np
import torch
from torch import Tensor


def random_matrix(*shape: int, seed: int = 0, dtype=torch.float64, rank: int | None = None) -> Tensor:
    """(*batch, n, m), uniform in [0, 1), or the product of two such of that rank."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    *batch, n, m = shape
    Y = draw(*shape) if rank is None else draw(*batch, n, rank) @ draw(*batch, rank, m)
    return Y.to(dtype)


def scattered_ones(n: int) -> Tensor:
    """(n, n) in the CSR layout, of float64: 5000 ones in places drawn at random. Dense it takes 80 GB at n = 10⁵."""
    generator = torch.Generator().manual_seed(0)
    places = torch.stack([torch.randint(n, (5000,), generator=generator) for _ in range(2)])
    return torch.sparse_coo_tensor(places, torch.ones(5000).double(), (n, n), check_invariants=False).to_sparse_csr()


def relative_errors(Y: Tensor, H: Tensor, W: Tensor) -> Tensor:
    """‖Y − HW‖ / ‖Y‖ from the formula, (*batch,) float64; 0 for 0/0."""
    Y, H, W = Y.double(), H.double(), W.double()
    if Y.numel():
        unit = Y.max().clamp(min=1e-300)  # norms of huge and tiny numbers do not exist
        Y, H, W = Y / unit, H / unit.sqrt(), W / unit.sqrt()
    error, size = torch.linalg.matrix_norm(Y - H @ W), torch.linalg.matrix_norm(Y)
    return torch.where(error == 0, 0.0, error / size)


def kkt_violation(Y, H, W, l1_H=0.0, l1_W=0.0, ridge_H=0.0, ridge_W=0.0) -> float:
    """The largest |min(X, gradient)| over H and W, in numpy from the formula, for one problem."""
    Y, H, W = (x.double().numpy() for x in (Y, H, W))
    residual = H @ W - Y
    gradient_H = residual @ W.T + l1_H + ridge_H * H
    gradient_W = H.T @ residual + l1_W + ridge_W * W
    return max(np.abs(np.minimum(X, g)).max() for X, g in ((H, gradient_H), (W, gradient_W)))
