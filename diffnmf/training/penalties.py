"""Penalties of H that a loss may hold beside the reconstruction: none changes when columns of H are scaled."""

import math

import torch
from torch import Tensor

from diffnmf.solvers.norms import with_unit_columns


def sparsity_penalty(H: Tensor) -> Tensor:
    """1 − the mean Hoyer sparsity of the columns of H (B, n, k) ≥ 0, in [0, 1]; a zero column counts as dense.

    It is what ``UnitColumns`` calls so.
    """
    spare = math.sqrt(H.shape[-2]) - 1
    U = with_unit_columns(H)
    hoyer = (spare + 1 - U.sum(dim=-2)) / (spare or 1.0)  # (B, k); of single pixels 0: nothing tells sparse from dense
    return 1 - torch.where((U > 0).any(dim=-2), hoyer, 0.0).mean()


def overlap_penalty(H: Tensor) -> Tensor:
    """The mean cosine of two columns of H (B, n, k) ≥ 0, in [0, 1]; 0 for a single column."""
    k = H.shape[-1]
    U = with_unit_columns(H)
    pairs = U.sum(dim=-1).square().sum(dim=-1) - U.square().sum(dim=(-2, -1))  # (B,), both ways
    return pairs.mean() / max(1, k * (k - 1))


def closeness_penalty(H: Tensor, prototypes: Tensor) -> Tensor:
    """1 − the mean cosine of each column of H (B, n, k) ≥ 0 and its prototype, in [0, 1].

    Prototypes are (n, k), or (B, n, k) for a group its own.
    """
    return 1 - (with_unit_columns(H) * with_unit_columns(prototypes)).sum(dim=-2).mean()
