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
        entry of W; that of the gradient of the mean absolute error of HW for H, likewise; the KKT residual of W; the
        milliseconds of a call, forward and backward.
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
    for _ in range(2):
        start = time.perf_counter()
        W = layer(H, Y)
        (gradient,) = torch.autograd.grad((Y - H @ W).abs().mean(), H)
        if H.is_cuda:
            torch.cuda.synchronize(H.device)
        seconds = time.perf_counter() - start
    return W.detach(), gradient, 1000 * seconds


def _off(x: Tensor, reference: Tensor) -> float:
    largest = reference.abs().max()
    return ((x - reference).abs().max() / torch.where(largest > 0, largest, 1.0)).item()
