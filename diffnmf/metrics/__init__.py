"""Scores of a factorisation. Figures are in ``diffnmf.metrics.figures``."""

from diffnmf.metrics.scores import (
    column_error,
    copying,
    dead_components,
    hoyer_H,
    hoyer_sparsity,
    hoyer_W,
    part_overlap,
    relative_error,
    summarize,
    zero_share,
)

__all__ = [
    "column_error",
    "copying",
    "dead_components",
    "hoyer_H",
    "hoyer_W",
    "hoyer_sparsity",
    "part_overlap",
    "relative_error",
    "summarize",
    "zero_share",
]
