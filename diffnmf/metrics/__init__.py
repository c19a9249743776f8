"""Scores of a factorisation Y ≈ HW: numbers only. Figures are in ``diffnmf.figures``."""

from diffnmf.metrics.bounds import excess_over_svd
from diffnmf.metrics.consistency import SlotConsistency, permutation_consistency, slot_consistency
from diffnmf.metrics.optimality import nnls_kkt_residual, projected_gradient
from diffnmf.metrics.scores import column_error, copying, dead_components, part_overlap, relative_error, summarize
from diffnmf.metrics.sparsity import hoyer_H, hoyer_sparsity, hoyer_W, zero_share
from diffnmf.metrics.symmetry import symmetry_adjusted_error

__all__ = [
    "SlotConsistency",
    "column_error",
    "copying",
    "dead_components",
    "excess_over_svd",
    "hoyer_H",
    "hoyer_W",
    "hoyer_sparsity",
    "nnls_kkt_residual",
    "part_overlap",
    "permutation_consistency",
    "projected_gradient",
    "relative_error",
    "slot_consistency",
    "summarize",
    "symmetry_adjusted_error",
    "zero_share",
]
