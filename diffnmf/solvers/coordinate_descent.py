"""Solver "hals": cyclic coordinate descent on the Gram form."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.solvers.gram import GramForm
from diffnmf.solvers.iterative import FirstOrderSolver


@dataclass(frozen=True)
class CoordinateDescent(FirstOrderSolver):
    """Cyclic coordinate descent, the W half of HALS: each row of W in turn at its optimum, then the exact finish.

    Choose it where a sweep is cheap and few are enough: it finds the support in fewer passes than projected gradient,
    but a pass, which is one step here, is k small steps one after the other.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.

    Source: Cichocki and Phan (2009), Fast local algorithms for large scale nonnegative matrix and tensor
    factorizations.

    Options:
        max_iter: sweeps, an int ≥ 0.
        tol, finish: as in ``FirstOrderSolver``.

    Example:
        >>> import torch
        >>> from diffnmf.layers import NNLSLayer
        >>> from diffnmf.solvers import CoordinateDescent
        >>> H, Y = torch.rand(2, 20, 5), torch.rand(2, 20, 8)
        >>> W = NNLSLayer(CoordinateDescent())(H, Y)
        >>> one_sweep = NNLSLayer(CoordinateDescent(max_iter=1, finish=False), backward="unrolled")(H, Y)
        >>> bool((Y - H @ W).norm() < (Y - H @ one_sweep).norm())
        True
    """

    max_iter: int = 10

    def iterates(self, form: GramForm, X0: Tensor) -> Iterator[Tensor]:
        X = X0
        for _ in range(self.max_iter):
            X = sweep(form, X)
            yield X


@dataclass(frozen=True)
class ScaledBounds:
    """lower ≤ X ≤ upper in the scaled unknowns of a Gram form, (B, k, m) each; infinite for none."""

    lower: Tensor
    upper: Tensor

    def clip(self, X: Tensor, row: int | slice = slice(None)) -> Tensor:
        """The rows X within their bounds; an entry that is beyond one has the gradient of the bound."""
        lower, upper = self.lower[:, row], self.upper[:, row]
        above, below = X.gt(upper), X.lt(lower)
        return torch.where(above, upper, torch.where(below, lower, X))


def sweep(form: GramForm, X: Tensor, bounds: ScaledBounds | None = None) -> Tensor:
    """One pass over the rows of X (B, k, m), in differentiable operations; A has unit diagonal.

    Each row goes to its optimum within the bounds, 0 and ∞ unless others are given: since the objective is convex in
    one entry, that is its optimum without them, clipped.
    """
    descent = torch.baddbmm(form.C, form.A, X, alpha=-1)  # C − AX, kept up to date row by row
    rows = []
    for i, row in enumerate(X.unbind(dim=-2)):
        moved = row + descent[:, i]  # (B, m)
        moved = moved.clamp(min=0) if bounds is None else bounds.clip(moved, i)
        descent = torch.addcmul(descent, form.A[:, :, i, None], (moved - row).unsqueeze(-2), value=-1)
        rows.append(moved)
    return torch.stack(rows, dim=-2)
