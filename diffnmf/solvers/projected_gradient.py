"""Solver "unrolled": accelerated projected gradient on the Gram form."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.iterative import FirstOrderSolver

POWER_STEPS = 3  # before the bound of the largest eigenvalue is taken


@dataclass(frozen=True)
class ProjectedGradient(FirstOrderSolver):
    """Accelerated projected gradient (Nesterov's momentum, adaptive restart per column), then the exact finish.

    Choose it as the default: a few cheap matrix products, the same for every column, find almost the whole support,
    and the finish makes the result exact.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Sources: Beck and Teboulle (2009), A fast iterative shrinkage-thresholding algorithm, with the momentum t/(t + 3) of
    Chambolle and Dossal (2015), On the convergence of the iterates of FISTA; O'Donoghue and Candès (2015),
    Adaptive restart for accelerated gradient schemes (the gradient scheme).

    Options:
        max_iter, tol, finish: as in ``FirstOrderSolver``.

    Example:
        >>> import torch
        >>> from diffnmf.layers import NNLSLayer
        >>> from diffnmf.solvers import ProjectedGradient
        >>> H, Y = torch.rand(2, 20, 5), torch.rand(2, 20, 8)
        >>> W = NNLSLayer(ProjectedGradient())(H, Y)
        >>> few = NNLSLayer(ProjectedGradient(max_iter=5, finish=False), backward="unrolled")(H, Y)
        >>> bool((Y - H @ W).norm() < (Y - H @ few).norm())
        True
    """

    max_iter: int = 40

    # Restarts and the tolerance are looked at this often. At every step they cost twice as much as the steps
    # themselves, and the support found in 40 steps is hardly better (docs/how_it_was_made_fast.md).
    CHECK_EVERY: ClassVar[int] = 5

    def iterates(self, form: GramForm, X0: Tensor) -> Iterator[Tensor]:
        step = 1.0 / largest_eigenvalue_bound(form.A)  # (B, 1, 1)
        contraction = torch.eye(form.A.shape[-1], dtype=form.A.dtype, device=form.A.device) - step * form.A
        shift = step * form.C

        X, lookahead = X0, X0
        for iteration in range(self.max_iter):
            X_next = torch.baddbmm(shift, contraction, lookahead).clamp(min=0)
            yield X_next
            ahead = torch.lerp(X, X_next, 1.0 + iteration / (iteration + 3.0))
            if (iteration + 1) % self.CHECK_EVERY == 0:
                overshot = ((lookahead - X_next) * (X_next - X)).sum(dim=-2, keepdim=True) > 0
                ahead = torch.where(overshot, X_next, ahead)
            X, lookahead = X_next, ahead


def largest_eigenvalue_bound(A: Tensor) -> Tensor:
    """An upper bound of the largest eigenvalue of every matrix, (B, k, k) to (B, 1, 1), with its gradient.

    Collatz and Wielandt: for any positive x, max_i (|A|x)_i / x_i bounds the spectral radius of |A|, which bounds that
    of A. A few power steps from x = 1 make it tight when A has no negative entries, as with images.
    """
    magnitude = A.abs()
    x = torch.ones_like(A[..., :1])
    for _ in range(POWER_STEPS):
        x = magnitude @ x  # never below 1: the diagonal of A is 1
        x = x / x.amax(dim=-2, keepdim=True).clamp(min=1.0)
    return ((magnitude @ x) / x).amax(dim=-2, keepdim=True)
