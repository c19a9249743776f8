"""The implicit gradient of the NNLS solution, written once.

Derivation. Let F be the free set of a column: its entries that are positive at the solution. The KKT conditions say
that w is zero off F and that on F

    (G_FF + ridge I) w_F = H_Fᵀ y − l1,    G = HᵀH.                                                     (1)

Where no entry is tied (w = 0 and zero gradient), F does not change for small changes of the data, so (1) defines w_F
as a smooth function, and differentiating it (the implicit function theorem) gives

    (G_FF + ridge I) dw_F = dH_Fᵀ (y − Hw) + H_Fᵀ (dy − dH w) − dridge w_F − dl1.

For an incoming gradient ḡ = ∂L/∂w let v_F solve (G_FF + ridge I) v_F = ḡ_F, with v = 0 off F. Then ḡᵀdw = v_Fᵀ(...),
and collecting terms over the columns, with V the matrix of all v:

    ∂L/∂Y = H V      ∂L/∂H = (Y − HW) Vᵀ − (H V) Wᵀ      ∂L/∂ridge = −⟨V, W⟩      ∂L/∂l1 = −ΣV.          (2)

At a tie the free set of the solver is used: one element of the conservative Jacobian, as relu'(0) = 0 is.
Sources: Amos and Kolter (2017), OptNet, differentiate quadratic programs so; Bolte et al. (2021), Nonsmooth implicit
differentiation for machine learning and optimization, treat the ties.
"""

from typing import Any

import torch
from torch import Tensor

from diffnmf.solvers.masked import FreeSystems
from diffnmf.solvers.problem import Problem


def with_implicit_gradient(problem: Problem, W: Tensor, systems: FreeSystems, row_scale: Tensor) -> Tensor:
    """W (B, k, m), a solution, with the gradient (2) towards H, Y, ridge and l1, any number of times differentiable.

    Arguments:
        problem: the B problems that W solves.
        W: (B, k, m), without gradient.
        systems: (G + ridge I)_FF of every column, with rows and columns divided by ``row_scale``.
        row_scale: (B, k, 1).
    """
    return _ImplicitGradient.apply(problem.H, problem.Y, problem.ridge, problem.l1, W, row_scale, systems)


class _ImplicitGradient(torch.autograd.Function):
    """The identity on W in the forward pass, formula (2) in the backward pass.

    Reverse mode only: forward mode and ``torch.func`` transforms raise PyTorch's own error instead of a wrong number.
    """

    @staticmethod
    def forward(
        ctx: Any,
        H: Tensor,
        Y: Tensor,
        ridge: Tensor,
        l1: Tensor,
        W: Tensor,
        row_scale: Tensor,
        systems: FreeSystems,
    ) -> Tensor:
        output = W.view_as(W)
        ctx.save_for_backward(H, Y, ridge, output, row_scale)
        ctx.systems = systems  # neither input nor output, and of no use to anybody else
        return output

    @staticmethod
    def backward(ctx: Any, grad_W: Tensor) -> tuple[Tensor | None, ...]:
        H, Y, ridge, W, row_scale = ctx.saved_tensors
        systems = ctx.systems
        if torch.is_grad_enabled():
            # A second derivative is wanted: the systems as a function of H and ridge, W as its own function again.
            systems = FreeSystems(scaled_gram(H, ridge, row_scale), systems.free, None)
        V = (systems.solve(grad_W.double() / row_scale) / row_scale).to(H.dtype)  # (B, k, m)

        needs_H, needs_Y, needs_ridge, needs_l1 = ctx.needs_input_grad[:4]
        HV = H @ V if needs_H or needs_Y else None
        grad_H = (Y - H @ W) @ V.mT - HV @ W.mT if needs_H else None
        grad_Y = HV if needs_Y else None
        grad_ridge = -(V * W).sum(dim=(-2, -1)) if needs_ridge else None
        grad_l1 = -V.sum(dim=(-2, -1)) if needs_l1 else None
        return (grad_H, grad_Y, grad_ridge, grad_l1, *[None] * (len(ctx.needs_input_grad) - 4))


def scaled_gram(H: Tensor, ridge: Tensor, row_scale: Tensor) -> Tensor:
    """(HᵀH + ridge I) with rows and columns divided by row_scale (B, k, 1), in float64: (B, k, k)."""
    H = H.double()
    return (H.mT @ H + torch.diag_embed(ridge.double()[:, None].expand(-1, H.shape[-1]))) / row_scale / row_scale.mT
