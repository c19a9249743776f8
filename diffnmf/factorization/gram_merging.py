"""Merging in Gram space: what m columns become, known by their Gram matrix G = YᵀY (m×m) alone, in two stages.

Merging chooses which columns share a component; Gram steps move the components, of which a column may then have a part
in several. The derivation: docs/merging.md.
"""

import math

import torch
from torch import Tensor

from diffnmf.factorization.hals import sweep_
from diffnmf.kernels import merging as kernels
from diffnmf.kernels.calling import available

STEP, DAMPING = 0.5, 0.03  # of a Gram step: the best of those tried on MNIST, Fashion-MNIST and faces, on all three


def merge_gram(G: Tensor, k: int) -> Tensor:
    """Merge m columns, known by their Gram matrix alone, into k components.

    With gⱼ a component as a vector whose squared length is its energy, and of two of them the energies l₁, l₂ and the
    product b = ⟨g₁, g₂⟩, the best rank-one fit of [g₁ g₂] loses the smaller eigenvalue of [[l₁, b], [b, l₂]], and is
    the component x₁g₁ + x₂g₂ with x the unit eigenvector of the larger one. O(m²) memory, and O(m²) work a merge.

    Arguments:
        G: (B, m, m), YᵀY ≥ 0.
        k: 1 ≤ k ≤ m.

    Returns:
        A (B, k, m) ≥ 0: H = YAᵀ has unit columns (zero ones where fewer than k columns of Y are not zero), and every
        column of Y has a part in at most one of them. Components stand in the order of their first columns.
    """
    if available(G):
        return kernels.merge_gram(G, k)
    batch, m, _ = G.shape
    # Row j: the products of component j with all components, and what it is made of.
    state = torch.cat((G, torch.eye(m, dtype=G.dtype, device=G.device).expand(batch, m, m)), dim=2)
    products, rows = state[:, :, :m], state.view(batch * m, 2 * m)
    energy = G.diagonal(dim1=1, dim2=2).clone()  # (B, m)
    losses = _loss(energy.unsqueeze(2), energy.unsqueeze(1), products)  # (B, m, m)
    losses.diagonal(dim1=1, dim2=2).fill_(math.inf)
    loss_rows = losses.view(batch * m, m)
    gone = torch.zeros_like(energy)  # infinite for components that have been merged into another
    first = torch.arange(batch, device=G.device).unsqueeze(1) * m  # (B, 1), numbers of rows
    tiny = _tiny(G)
    for _ in range(m - k):
        # The minimum of each row first: an argmin over all pairs takes ten times as long.
        one = losses.amin(2).argmin(1, keepdim=True)  # (B, 1)
        other = loss_rows.index_select(0, (first + one).squeeze(1)).argmin(1, keepdim=True)
        i, j = torch.minimum(one, other), torch.maximum(one, other)
        at_i, at_j = (first + i).squeeze(1), (first + j).squeeze(1)
        row_i, row_j = rows.index_select(0, at_i), rows.index_select(0, at_j)  # (B, 2m)

        li, lj, b = energy.gather(1, i), energy.gather(1, j), row_i.gather(1, j)
        half = 0.5 * (li - lj)
        root = torch.hypot(half, b)
        top = 0.5 * (li + lj) + root
        # The eigenvector, from the difference that does not cancel; two zero columns make another one.
        large = (root + half.abs()).clamp(min=tiny)
        x_i, x_j = torch.where(half >= 0, large, b), torch.where(half >= 0, b, large)
        length = torch.hypot(x_i, x_j)
        merged = torch.addcmul(row_j * (x_j / length), row_i, x_i / length)  # (B, 2m)
        edge = merged[:, :m].scatter(1, i, top)
        rows.index_copy_(0, at_i, torch.cat((edge, merged[:, m:]), dim=1))
        energy.scatter_(1, i, top)
        gone.scatter_(1, j, math.inf)
        loss = (_loss(top, energy, edge) + gone).scatter_(1, i, math.inf)

        column_i, column_j = (x.unsqueeze(2).expand(batch, m, 1) for x in (i, j))
        products.scatter_(2, column_i, edge.unsqueeze(2))
        loss_rows.index_copy_(0, at_i, loss)
        losses.scatter_(2, column_i, loss.unsqueeze(2))
        loss_rows.index_fill_(0, at_j, math.inf)
        losses.scatter_(2, column_j, math.inf)
    kept = gone.argsort(dim=1, stable=True)[:, :k]  # (B, k)
    A = state[:, :, m:].gather(1, kept.unsqueeze(2).expand(batch, k, m))
    size = energy.gather(1, kept).unsqueeze(2)
    return A * torch.where(size > 0, size.clamp(min=tiny).rsqrt(), 0.0)


def _loss(l1: Tensor, l2: Tensor, b: Tensor) -> Tensor:
    """The smaller eigenvalue of [[l₁, b], [b, l₂]], as the determinant over the larger one: nothing cancels."""
    half = 0.5 * (l1 - l2)
    square = b * b
    top = torch.addcmul(square, half, half).sqrt_().add_(0.5 * (l1 + l2))
    return (l1 * l2 - square).clamp_(min=0).div_(top.clamp_(min=_tiny(b)))


def gram_steps(G: Tensor, A: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Improve H = YAᵀ without Y: in turn a sweep of W for H, and a step of A for W. A (B, k, m) may become negative.

    With M = WWᵀ, the gradient of ½‖Y − HW‖² for H is −Y(W − MA)ᵀ: the step of A is that of H, divided by the curvature
    of each column of H, diag(M). Negative entries of H are cut off once, at the end.
    """
    W = (A @ G) * (A > 0)
    for _ in range(steps):
        C = A @ G
        sweep_(C @ A.mT, C, W, 1)
        M = W @ W.mT
        curvature = M.diagonal(dim1=1, dim2=2).unsqueeze(2) * (1 + DAMPING)
        A = A + STEP * torch.where(curvature > 0, (W - M @ A) / curvature.clamp(min=_tiny(G)), 0.0)
    return A, W


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
