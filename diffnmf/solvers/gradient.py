"""The implicit gradient of the NNLS solution, written once.

Derivation. Let F be the free set of a column: its entries that are positive at the solution. The KKT conditions say
that w is zero off F and that on F

    (G_FF + ridge I) w_F = H_Fᵀ y − l1,    G = HᵀH.                                                     (1)

Where no entry is tied (w = 0 and zero gradient), F does not change for small changes of the data, so (1) defines w_F
as a smooth function, and differentiating it (the implicit function theorem) gives

    (G_FF + ridge I) dw_F = dH_Fᵀ (y − Hw) + H_Fᵀ (dy − dH w) − dridge w_F − dl1.

For an incoming gradient ḡ = ∂L/∂w let v_F solve (G_FF + ridge I) v_F = ḡ_F, with v = 0 off F. Then ḡᵀdw = v_Fᵀ(...),
and collecting terms over the columns, with V the matrix of all v:

    ∂L/∂Y = H V      ∂L/∂H = (Y − HW) Vᵀ − (H V) Wᵀ      ∂L/∂ridge = −⟨V, W⟩      ∂L/∂l1 = −ΣV,          (2)

where ∂L/∂H = Y Vᵀ − H (W Vᵀ + V Wᵀ) has half of the products, and as many digits where H is well conditioned.

At a tie the free set of the solver is used: one element of the conservative Jacobian, as relu'(0) = 0 is.
Sources: Amos and Kolter (2017), OptNet, differentiate quadratic programs so; Bolte et al. (2021), Nonsmooth implicit
differentiation for machine learning and optimization, treat the ties.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffnmf.kernels.cuda import calling as cuda
from diffnmf.solvers.devices import looking_is_free, without_autocast
from diffnmf.solvers.exact.chunks import columns_in_cache, columns_in_memory
from diffnmf.solvers.exact.finish import WELL_CONDITIONED_PIVOT
from diffnmf.solvers.exact.systems import FreeSystems
from diffnmf.solvers.problem import Problem


def with_implicit_gradient(problem: Problem, W: Tensor, systems: FreeSystems, row_scale: Tensor) -> Tensor:
    """W (B, k, m), a solution, with the gradient (2) towards H, Y, ridge and l1, any number of times differentiable.

    Arguments:
        problem: the B problems that W solves.
        W: (B, k, m), float64, without gradient; returned in the dtype of the problem.
        systems: (G + ridge I)_FF of every column, with rows and columns divided by ``row_scale``.
        row_scale: (B, k, 1).
    """
    return _ImplicitGradient.apply(problem.H, problem.Y, problem.ridge, problem.l1, W, row_scale, systems)


class _ImplicitGradient(torch.autograd.Function):
    """The identity on W in the forward pass, formula (2) in the backward pass.

    Reverse mode only: other transforms do not come here (see ``transforms.py``).
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
        output = W.to(H.dtype, copy=True)
        ctx.save_for_backward(H, Y, ridge, W, output, row_scale)
        ctx.shape_l1 = l1.shape
        ctx.systems = systems  # neither input nor output, and of no use to anybody else
        return output

    @staticmethod
    def backward(ctx: Any, grad_W: Tensor) -> tuple[Tensor | None, ...]:
        H, Y, ridge, W, output, row_scale = ctx.saved_tensors
        with without_autocast(H.device):
            V = _solve(ctx.systems, H, ridge, row_scale, grad_W)  # (B, k, m)
            if torch.is_grad_enabled():
                # A second derivative is wanted: the same numbers, as functions of H, ridge and W.
                free = FreeSystems(scaled_gram(H, ridge, row_scale), replace(ctx.systems.factor, L=None))
                V = _with_derivatives_of(free.solve(grad_W.double() / row_scale) / row_scale, V)
                W = _with_derivatives_of(output.double(), W)
            needs_H, needs_Y, *_ = ctx.needs_input_grad
            grad_H, grad_Y = data_gradients(
                *(H, Y, W, V), pivot=ctx.systems.factor.pivot, wants_H=needs_H, wants_Y=needs_Y
            )
            grad_ridge = -(V * W).sum_to_size(ridge.shape).to(H.dtype) if ctx.needs_input_grad[2] else None
            grad_l1 = -V.sum_to_size(ctx.shape_l1).to(H.dtype) if ctx.needs_input_grad[3] else None
        return (grad_H, grad_Y, grad_ridge, grad_l1, None, None, None)


def _solve(systems: FreeSystems, H: Tensor, ridge: Tensor, row_scale: Tensor, grad_W: Tensor) -> Tensor:
    """V (B, k, m), float64, with (G + ridge I)_FF v_F = ḡ_F in every column and zero off F.

    One step of refinement with the unsquared Hᵀ(HV) gives back the digits that HᵀH has lost, as W has had it: the
    error is that of cond(H), not of its square. Real bases do not need it (images: pivots above 0.2).
    """
    grad_W = grad_W.double()
    V = systems.solve(grad_W / row_scale) / row_scale
    if H.dtype != torch.float64:
        return V  # the last digits would be rounded away
    wanted = systems.factor.pivot < WELL_CONDITIONED_PIVOT  # (B·m,)
    if looking_is_free(H.device) and not wanted.any():
        return V
    with torch.no_grad():
        squared = [H.mT @ (H @ V_run) for V_run in V.split(columns_in_memory(H), dim=-1)]
        residual = grad_W - torch.cat(squared, dim=-1) - ridge * V
        correction = systems.solve(residual / row_scale) / row_scale
        return torch.where(wanted.reshape(len(H), 1, -1), V + correction, V)


def data_gradients(
    H: Tensor, Y: Tensor, W: Tensor, V: Tensor, *, pivot: Tensor, wants_H: bool, wants_Y: bool
) -> tuple[Tensor | None, Tensor | None]:
    """∂L/∂H and ∂L/∂Y of (2) in the dtype of H, None where not wanted.

    Arguments:
        H: (B, n, k).
        Y: (B, n, m).
        W: (B, k, m), float64, as V.
        V: (B, k, m).
        pivot: of all columns, how independent the free columns of H are.
        wants_H: whether the first is wanted.
        wants_Y: whether the second is.
    """
    # Where V and W may be large and nearly cancel, the residual keeps digits that shared products lose.
    well_conditioned = H.dtype != torch.float64 or (
        looking_is_free(H.device) and bool((pivot >= WELL_CONDITIONED_PIVOT).all())
    )
    if well_conditioned and not torch.is_grad_enabled() and cuda.available(H.shape[-1], H, Y, W, V):
        return cuda.gradients(H, Y, W, V, wants_H=wants_H, wants_Y=wants_Y)
    gradient = _basis_gradient if well_conditioned else _accurate_basis_gradient
    return gradient(H, Y, W, V) if wants_H else None, _target_gradient(H, V) if wants_Y else None


def _basis_gradient(H: Tensor, Y: Tensor, W: Tensor, V: Tensor) -> Tensor:
    """∂L/∂H as YVᵀ − H(WVᵀ + VWᵀ): half of the products of (2), and nothing of the size of Y is formed.

    In float64, and without copies of all of Y for that: a difference of what is larger than itself.
    """
    cross = W @ V.mT  # (B, k, k)
    gradient = -H.double() @ (cross + cross.mT)
    size = Y.shape[-1] if Y.dtype == torch.float64 else columns_in_cache(H)
    for Y_run, V_run in zip(Y.split(size, dim=-1), V.split(size, dim=-1), strict=True):
        gradient = torch.baddbmm(gradient, Y_run.double(), V_run.mT)
    return gradient.to(H.dtype)


def _target_gradient(H: Tensor, V: Tensor) -> Tensor:
    """∂L/∂Y = HV, computed in float64."""
    if H.dtype == torch.float64:
        return H @ V
    dtype, H = H.dtype, H.double()
    return torch.cat([(H @ run).to(dtype) for run in V.split(columns_in_cache(H), dim=-1)], dim=-1)


def _accurate_basis_gradient(H: Tensor, Y: Tensor, W: Tensor, V: Tensor) -> Tensor:
    """∂L/∂H as in (2), run by run of columns to bound the memory."""
    gradient = torch.zeros_like(H)
    for Y_run, W_run, V_run in zip(*(x.split(columns_in_memory(H), dim=-1) for x in (Y, W, V)), strict=True):
        residual = torch.baddbmm(Y_run, H, W_run, alpha=-1)
        gradient = gradient + residual @ V_run.mT - (H @ V_run) @ W_run.mT
    return gradient


def _with_derivatives_of(lender: Tensor, value: Tensor) -> Tensor:
    """``value``, with the derivatives of ``lender``."""
    with torch.no_grad():  # detach has no rule in gradients of a batch (is_grads_batched)
        difference = value - lender
    return lender + difference


def scaled_gram(H: Tensor, ridge: Tensor, row_scale: Tensor) -> Tensor:
    """(HᵀH + ridge I) with rows and columns divided by row_scale (B, k, 1), in float64: (B, k, k)."""
    H = H.double()
    return (H.mT @ H + torch.diag_embed(ridge.double().squeeze(-1).expand(-1, H.shape[-1]))) / row_scale / row_scale.mT
