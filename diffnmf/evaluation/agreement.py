"""Whether the exact NNLS solvers agree, and how long each takes."""

import torch
from torch import Tensor

from diffnmf.hardware import now
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import nnls_kkt_residual
from diffnmf.models import GANUNMF
from diffnmf.solvers import ConeProgram, get_solver

REFERENCE = "unrolled"
COMPARED = (REFERENCE, "bpp", "hals", "cvxpylayer", "cvxpylayer, loose")


def exact_agreement(model: GANUNMF, Y: Tensor) -> list[list[object]]:
    """Compare the exact solvers on the basis H that a trained model computes from groups.

    The gradient is that of ⟨V, HW⟩ with respect to H, with one random V for all solvers. The L1 loss would not do: it
    has a kink where HW = Y, and at a black pixel an error of 1e-9 in W is enough to land on the other side of it.

    Arguments:
        model: a trained model.
        Y: (B, n, m).

    Returns:
        A row for each solver, the reference first: name; largest difference of W from the reference, relative to the
        largest entry of W; the same for the gradient; KKT residual of W; milliseconds of one call, forward and
        backward.
    """
    H, Y = model.factorize(Y).H.double(), Y.double()
    solved = {name: _solve(name, H, Y) for name in COMPARED}
    W_reference, gradient_reference, _ = solved[REFERENCE]
    return [
        [
            name,
            _difference(W, W_reference),
            _difference(gradient, gradient_reference),
            nnls_kkt_residual(H, Y, W).max().item(),
            milliseconds,
        ]
        for name, (W, gradient, milliseconds) in solved.items()
    ]


def _solve(name: str, H: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, float]:
    """W, the gradient for H, and the milliseconds of the second of two calls."""
    layer = NNLSLayer(ConeProgram.loose() if name == "cvxpylayer, loose" else get_solver(name))
    H = H.detach().requires_grad_()
    V = torch.randn(Y.shape, generator=torch.Generator().manual_seed(0), dtype=Y.dtype, device="cpu").to(Y.device)
    for _ in range(2):
        start = now(H.device)
        W = layer(H, Y)
        (gradient,) = torch.autograd.grad((V * (H @ W)).sum(), H)
        seconds = now(H.device) - start
    return W.detach(), gradient, 1000 * seconds


def _difference(x: Tensor, reference: Tensor) -> float:
    largest = reference.abs().max()
    return ((x - reference).abs().max() / torch.where(largest > 0, largest, 1.0)).item()
