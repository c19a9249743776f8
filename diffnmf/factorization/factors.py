"""What a factorisation is."""

from typing import NamedTuple

from torch import Tensor


class Factors(NamedTuple):
    """Y ≈ H @ W, and how it came about.

    Attributes:
        H: (*batch, n, k) ≥ 0, the bases, in the dtype and on the device of Y.
        W: (*batch, k, m) ≥ 0, the weights.
        errors: (iterations run + 1, *batch) float64, ‖Y − HW‖_F / ‖Y‖_F at the start and after every iteration. A
            problem that stopped repeats its last. For Y = 0 it is 0 where HW = 0 and infinite elsewhere.
        iterations: (*batch,) int64, the iterations of each problem.
        converged: (*batch,) bool, whether the problem met ``tol``; never at ``tol=0``.
    """

    H: Tensor
    W: Tensor
    errors: Tensor
    iterations: Tensor
    converged: Tensor
