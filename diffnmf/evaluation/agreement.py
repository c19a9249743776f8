"""Whether the exact NNLS solvers agree, and what each costs."""

import time

import torch
from torch import Tensor

from diffnmf.layers import NNLSLayer
from diffnmf.metrics import nnls_kkt_residual
from diffnmf.models import GANUNMF
from diffnmf.solvers import ConeProgram, get_solver

REFERENCE = "unrolled"
SOLVERS = (REFERENCE, "bpp", "hals", "cvxpylayer", "cvxpylayer, loose")


def exact_agreement(model: GANUNMF, Y: Tensor) -> list[list[object]]:
    """The exact solvers on the basis that a trained model makes of groups Y (B, n, m).

    Returns:
        A row for each solver: its name; the largest difference of W to that of the reference, relative to the largest
        entry of W; that of the gradient of ⟨V, HW⟩ for H, with one random V for all, likewise; the KKT residual of W;
        the milliseconds of a call, forward and backward. (The L1 loss has kinks where HW meets Y, and at pixels where
        both are black a W that is off by 1e-9 is on the other side of one.)
    """
    H, Y = model.factorize(Y).H.double(), Y.double()
    solved = {name: _solve(name, H, Y) for name in SOLVERS}
    W_reference, gradient_reference, _ = solved[REFERENCE]
    return [
        [
            name,
            _off(W, W_reference),
            _off(gradient, gradient_reference),
            nnls_kkt_residual(H, Y, W).max().item(),
            milliseconds,
        ]
        for name, (W, gradient, milliseconds) in solved.items()
    ]


def _solve(name: str, H: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, float]:
    """W, the gradient for H, and the milliseconds of the second of two calls."""
    layer = NNLSLayer(ConeProgram.loose() if name == "cvxpylayer, loose" else get_solver(name))
    H = H.detach().requires_grad_()
    V = torch.randn(Y.shape, generator=torch.Generator().manual_seed(0), dtype=Y.dtype).to(Y.device)
    for _ in range(2):
        start = time.perf_counter()
        W = layer(H, Y)
        (gradient,) = torch.autograd.grad((V * (H @ W)).sum(), H)
        if H.is_cuda:
            torch.cuda.synchronize(H.device)
        seconds = time.perf_counter() - start
    return W.detach(), gradient, 1000 * seconds


def _off(x: Tensor, reference: Tensor) -> float:
    largest = reference.abs().max()
    return ((x - reference).abs().max() / torch.where(largest > 0, largest, 1.0)).item()
