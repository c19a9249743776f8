"""What the W-solver does to the basis H: one generator trained with each W-solver, compared on unseen groups."""

from diffnmf.studies.w_solvers.compare import compare_runs, compare_w_solvers

__all__ = ["compare_runs", "compare_w_solvers"]
