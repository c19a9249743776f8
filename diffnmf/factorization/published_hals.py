"""Method "published_hals": HALS in the form in which it was published, for comparison with what others report."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.alternating import AlternatingMethod
from diffnmf.factorization.base import Budget, Run
from diffnmf.factorization.half_step import HalfStep
from diffnmf.factorization.nmf_problem import NMFProblem

FLOOR = 1e-16


@dataclass(frozen=True)
class PublishedHALS(AlternatingMethod):
    """One pass over W and one over H, whose columns are brought to one norm the moment they have been updated.

    Choose it to reproduce published numbers, in float64. The unit norm is what makes it cheap and fragile: the weights
    of a column are not adjusted to its new length before the next column looks at the residual, so the error may
    increase, and from a start that is much too bright a third of the components never comes back. Which ones hangs on
    differences of 1e-16, and so on the order of sums; in float32 it is more than half. ``HALS`` is free of all that.
    Of the penalties it takes ``l1_W`` alone, which acts on the weights of columns of one norm.

    Sources: Cichocki and Phan (2009), Fast local algorithms for large scale nonnegative matrix and tensor
    factorizations, IEICE Trans. Fundamentals E92-A(3), algorithm 2, with its floor of 1e-16 in the place of zero.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import PublishedHALS, factorize
        >>> Y = torch.rand(30, 20).double()
        >>> factors = factorize(Y, 3, method=PublishedHALS(), init="random", max_iter=10, tol=0.0)
        >>> H = factors.H / factors.H[:, :1].norm()
        >>> torch.allclose(H.norm(dim=0), torch.ones(3).double())  # columns of one norm
        True
    """

    def run(self, problem: NMFProblem, W: Tensor, Ht: Tensor, budget: Budget) -> Run:
        if problem.basis_penalties.any or problem.weights_penalties.ridge is not None:
            raise ValueError(
                'l1_H, ridge_H, ridge_W: expected 0 for method "published_hals", which keeps the columns of H at unit '
                'norm; use l1_W, or method "hals"'
            )
        return super().run(problem, W, Ht, budget)

    def begin(self, problem: NMFProblem, W: Tensor, Ht: Tensor) -> dict[str, Tensor]:
        length = torch.linalg.vector_norm(Ht, dim=-1, keepdim=True)  # (B, k, 1)
        Ht.div_(torch.where(length > 0, length, 1.0))
        W.mul_(torch.where(length > 0, length, 1.0))
        return {}

    def update(self, half: HalfStep, X: Tensor, memory: dict[str, Tensor], factor: str) -> None:
        A, C = half.penalized()
        for i, row in enumerate(X.unbind(1)):  # (B, N)
            # The optimum of the row times A_ii: that is 1 for W, and for H the length does not matter. The row itself
            # is added and taken away again, as published: what rounding leaves of that decides which components die.
            own = row if factor == "W" else A[:, i, i, None] * row
            row.copy_((own + C[:, i] - torch.bmm(A[:, i, None], X).squeeze(1)).clamp_(min=FLOOR))
            if factor == "H":
                row.div_(torch.linalg.vector_norm(row, dim=-1, keepdim=True))
