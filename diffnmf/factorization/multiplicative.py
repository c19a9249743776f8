"""Method "mu": multiplicative updates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.alternating import AlternatingMethod
from diffnmf.factorization.half_step import HalfStep, negligible


@dataclass(frozen=True)
class MU(AlternatingMethod):
    """X ← X · C / (AX + l1 + ridge X), entry by entry: the classic, whose error never increases.

    Choose it to compare with what others publish: its steps are cheap, but the slowest to arrive. An entry that is
    zero stays zero, so begin from a start without zeros (not "nndsvd" nor "spa"). From equal starts its iterates are
    those of scikit-learn's ``NMF(solver="mu")``.

    Source: Lee and Seung (2001), Algorithms for non-negative matrix factorization.
    """

    @property
    def keeps_zeros(self) -> bool:
        return True

    def update(self, half: HalfStep, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        denominator = half.A @ X
        if half.penalties.l1 is not None:
            denominator += half.penalties.l1
        if half.penalties.ridge is not None:
            denominator += half.penalties.ridge * X
        # Where the denominator is zero, so is the numerator, or X already is.
        denominator.clamp_(min=torch.finfo(X.dtype).tiny)
        # Entries that go to zero would slow everything down as denormal numbers.
        torch.threshold_(X.mul_(half.C).div_(denominator), negligible(X.dtype), 0.0)
