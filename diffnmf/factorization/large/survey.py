"""The first pass over a large matrix: its units, its size, and what it is known by."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.large.processes import Processes
from diffnmf.factorization.large.rows import Rows
from diffnmf.factorization.problem_input import scale_exponent
from diffnmf.solvers.ranges import range_exponent

BITS = {torch.float32: torch.int32, torch.float64: torch.int64}  # integers of the same size


@dataclass(frozen=True)
class Survey:
    """Of X (N, F), all of its rows.

    Attributes:
        smallest: the smallest entry.
        root: the root of the units: X = root² · (scaled X).
        mean: of the entries, in the scaled units.
        square: ‖X‖², likewise.
        fingerprint: of all numbers and of the order of rows and columns, the same for any share among processes and
            any size of blocks; "" where it was not asked for.
    """

    smallest: float
    root: float
    mean: float
    square: float
    fingerprint: str


def survey(rows: Rows, start: int, total: int, processes: Processes, *, fingerprint: bool) -> Survey:
    """Look at every row once.

    Raises:
        ValueError: an entry is not finite; the message says where.
    """
    extremes = _numbers(-torch.inf, -torch.inf, 0.0)  # −smallest, largest, a row that is not
    size, mark = _Size(total * rows.width), 0
    for some, X in rows.blocks():
        low, high = (float(x) for x in torch.aminmax(X))
        if not (low > -torch.inf and high < torch.inf):
            bad = (~X.isfinite()).any(1).nonzero()[0]
            extremes[2] = start + some.start + int(bad) + 1
            break
        extremes[:2] = torch.maximum(extremes[:2], _numbers(-low, high))
        size.add(X, high)
        if fingerprint:
            mark += mark_of_rows(X, start + some.start)
    smallest, largest, bad_row = processes.largest(extremes.to(rows.device)).tolist()
    if bad_row:
        raise ValueError(
            f"Y: expected finite numbers; row {int(bad_row) - 1} of the data holds NaN or infinity (MiniBatchNMF takes"
            " missing entries batch by batch, with missing='ignore'; or leave those rows out, or impute)"
        )
    root = 2.0 ** int(scale_exponent(_numbers(largest)))
    here = torch.tensor(size.in_units(root), dtype=torch.float64, device=rows.device)
    mean, square = processes.sums(here)[0].tolist()
    return Survey(-smallest, root, mean, square, mark_of_all(mark, processes, rows.device) if fingerprint else "")


def _numbers(*values: float) -> Tensor:
    """On the CPU, whatever the default device is."""
    return torch.tensor(values, dtype=torch.float64, device="cpu")


class _Size:
    """The mean and the norm of what was added, of any size: ``mean`` and ``norm`` are in units of 2^exponent."""

    def __init__(self, count: int) -> None:
        self.count, self.exponent, self.mean, self.norm = count, -math.inf, 0.0, 0.0

    def add(self, X: Tensor, largest: float) -> None:
        exponent = float(range_exponent(_numbers(largest)))
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


def mark_of_rows(X: Tensor, first: int) -> int:
    """A number below 2^64 for rows X (count, F), of which the first has the number ``first``; runs of rows add up.

    From the bits of every entry: a sum of rounded products would not notice that two rows of a million are exchanged.
    """
    bits = X.view(BITS[X.dtype])
    # Odd factors, so that no two rows are alike that differ in one entry.
    columns = _scrambled(torch.arange(X.shape[1], device=X.device)) | 1
    rows = (bits * columns.to(bits.dtype)).sum(1, dtype=bits.dtype).long()
    numbers = torch.arange(first, first + len(X), device=X.device)
    return int(_scrambled(rows + _scrambled(numbers)).sum()) % 2**64


def mark_of_all(mark: int, processes: Processes, device: torch.device) -> str:
    """The mark of the rows of all processes, from that of the rows of this one."""
    marks = processes.gather(torch.tensor([_signed(mark)], device=device)).tolist()
    return f"{sum(marks) % 2**64:016x}"


def _scrambled(x: Tensor) -> Tensor:
    """Every bit of an int64 spread over all others, by two rounds of shifts and products modulo 2^64."""
    for factor in (-0x61C8864680B583EB, -0x40A7B892E31B1A47):
        x = (x ^ ((x >> 31) & 0x1FFFFFFFF)) * factor
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _signed(x: int) -> int:
    """The int64 that is alike modulo 2^64."""
    return (x + 2**63) % 2**64 - 2**63
