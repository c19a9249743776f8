"""The half-step of a divergence over the factor that all rows share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.divergence import DivergenceHalfStep, slopes_of_pulls
from diffnmf.factorization.large.part import Part
from diffnmf.factorization.nmf_problem import Penalties


@dataclass(frozen=True)
class SummedPulls:
    """The half-step of a divergence over D, whose sums are those over all rows: every call is a pass."""

    part: Part
    S: Tensor
    penalties: Penalties
    beta: float

    def pulls(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """As ``DivergenceHalfStep.pulls``, of D (1, k, F)."""
        up, down = (torch.zeros(X.shape, dtype=torch.float64, device=X.device) for _ in range(2))
        for _, block, own in self.part.blocks(self.S):
            half = DivergenceHalfStep(own, block.unsqueeze(0), Penalties(), self.beta)
            more, less = half.pulls(X)
            up += more
            down += less
        up, down = (x.to(X.dtype) for x in self.part.processes.sums(up, down))
        return up, self.penalties.added(down, X)

    def slopes(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """As ``DivergenceHalfStep.slopes``."""
        return slopes_of_pulls(X, *self.pulls(X))

    def error(self, X: Tensor) -> Tensor:
        """√(2 Σ d_β), (1,) float64."""
        total = torch.zeros(1, dtype=torch.float64, device=X.device)
        for _, block, own in self.part.blocks(self.S):
            half = DivergenceHalfStep(own, block.unsqueeze(0), Penalties(), self.beta)
            total += half.error(self.part.problem.square, X, may_look=True).square()
        return self.part.processes.sums(total)[0].sqrt()
