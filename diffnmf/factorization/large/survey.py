"""The first pass over a large matrix: its units and its size."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.large.processes import Processes
from diffnmf.factorization.large.rows import Rows
from diffnmf.factorization.problem_input import scale_exponent
from diffnmf.solvers.ranges import range_exponent


@dataclass(frozen=True)
class Survey:
    """Of X (N, F), all of its rows.

    Attributes:
        smallest: the smallest entry.
        root: the root of the units: X = root² · (scaled X).
        mean: of the entries, in the scaled units.
        square: ‖X‖², likewise.
    """

    smallest: float
    root: float
    mean: float
    square: float


def survey(rows: Rows, start: int, total: int, processes: Processes) -> Survey:
    """Look at every row once.

    Raises:
        ValueError: an entry is not finite; the message says where.
    """
    extremes = torch.tensor([-torch.inf, -torch.inf, 0.0], dtype=torch.float64)  # −smallest, largest, a row that is not
    size = _Size(total * rows.width)
    for some, X in rows.blocks():
        low, high = (float(x) for x in torch.aminmax(X))
        if not (low > -torch.inf and high < torch.inf):
            bad = (~X.isfinite()).any(1).nonzero()[0]
            extremes[2] = start + some.start + int(bad) + 1
            break
        extremes[:2] = torch.maximum(extremes[:2], torch.tensor([-low, high], dtype=torch.float64))
        size.add(X, high)
    smallest, largest, bad_row = processes.largest(extremes.to(rows.device)).tolist()
    if bad_row:
        raise ValueError(
            f"Y: expected finite numbers; row {int(bad_row) - 1} of the data holds NaN or infinity (missing entries are"
            " for matrices in memory only: leave those rows out, or impute)"
        )
    root = 2.0 ** int(scale_exponent(torch.tensor(largest, dtype=torch.float64)))
    here = torch.tensor(size.in_units(root), dtype=torch.float64, device=rows.device)
    mean, square = processes.sums(here)[0].tolist()
    return Survey(-smallest, root, mean, square)


class _Size:
    """The mean and the norm of what was added, of any size: ``mean`` and ``norm`` are in units of 2^exponent."""

    def __init__(self, count: int) -> None:
        self.count, self.exponent, self.mean, self.norm = count, -math.inf, 0.0, 0.0

    def add(self, X: Tensor, largest: float) -> None:
        exponent = float(range_exponent(torch.tensor(largest, dtype=torch.float64)))
        X = X if exponent == 0 else X * 2.0**-exponent
        if exponent > self.exponent:
            shrink = 2.0 ** (self.exponent - exponent)  # 0 at first
            self.mean, self.norm, self.exponent = self.mean * shrink, self.norm * shrink, exponent
        share = 2.0 ** (exponent - self.exponent)
        self.mean += float(X.sum(dtype=torch.float64)) / self.count * share
        self.norm = math.hypot(self.norm, float(torch.linalg.vector_norm(X, dtype=torch.float64)) * share)

    def in_units(self, root: float) -> tuple[float, float]:
        """The mean divided by root², and ‖X‖² by root⁴, one root at a time: the square of one may be no number."""
        back = 2.0 ** max(self.exponent, -1000.0)
        mean, norm = (x / root * back / root for x in (self.mean, self.norm))
        return mean, norm**2
