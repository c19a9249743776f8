"""The successive projection algorithm: a basis made of k columns of Y itself; as a function and as method "spa"."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_matrix
from diffnmf.factorization.at_once import run_at_once
from diffnmf.factorization.base import Budget, Method, Run
from diffnmf.factorization.exact_weights import exact_weights
from diffnmf.factorization.half_step import half_step
from diffnmf.factorization.nmf_problem import NMFProblem
from diffnmf.solvers.devices import precisely
from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.ranges import range_exponent


@precisely
def spa(Y: Tensor, k: int) -> Tensor:
    """Choose k different columns of Y that span the rest well, by the successive projection algorithm.

    k times: take the column with the largest residual norm, then project all residuals onto its orthogonal
    complement. On separable data, Y = H[I, W']Π with the columns of W' summing to at most 1 and H of full rank, it
    finds H exactly, and it is robust to noise (Araújo et al. 2001; Gillis and Vavasis 2014, IEEE TPAMI 36 (4)).
    It is pivoted Gram-Schmidt, in float64: no randomness, no iterations beyond k. The weights are those of NNLS.

    Once the residual is zero up to rounding, as it must be after rank(Y) steps, nothing tells the columns apart:
    the first ones not yet chosen are taken. Differentiable in Y with the choice held constant.

    Arguments:
        Y: (*batch, n, m), floating point.
        k: 1 ≤ k ≤ m.

    Returns:
        (*batch, n, k), columns of Y in the order in which they were chosen.

    Raises:
        TypeError, ValueError: k is no such number, or Y is no floating-point matrix.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import spa
        >>> spa(torch.tensor([[1.0, 0.0, 3.0], [1.0, 2.0, 0.0]]), 2)  # the last column, then the one before
        tensor([[3., 0.],
                [0., 2.]])
    """
    check_matrix("Y", Y)
    k = check_count("k", k, at_least=1)
    n, m = Y.shape[-2:]
    if k > m:
        raise ValueError(f"k: expected at most m = {m}, the number of columns of Y to choose from; got {k} (lower k)")
    chosen = _choose_columns(Y.detach().double(), k)  # (*batch, k)
    return Y.gather(-1, chosen.unsqueeze(-2).expand(*chosen.shape[:-1], n, k))


def _choose_columns(Y: Tensor, k: int) -> Tensor:
    """Indices (*batch, k), int64, of k different columns of Y (*batch, n, m)."""
    if Y.numel():  # the largest entry in the range of squares: the choice is that of Y itself
        Y = Y * torch.exp2(-range_exponent(Y.abs().amax((-2, -1), keepdim=True)))
    residual = Y.clone()
    norms = torch.linalg.vector_norm(residual, dim=-2)  # (*batch, m)
    # A residual this far below its own column is rounding. Relative to the column, not to the largest one: a tiny
    # column that points somewhere new is no noise.
    noise = max(Y.shape[-2:]) * torch.finfo(Y.dtype).eps * norms
    taken = torch.zeros_like(norms, dtype=torch.bool)
    order = []
    for _ in range(k):
        candidates = torch.where(norms <= noise, 0.0, norms).masked_fill(taken, -1.0)
        index = candidates.argmax(-1, keepdim=True)  # (*batch, 1), the first of equals
        order.append(index)
        taken = taken.scatter(-1, index, True)
        column = residual.gather(-1, index.unsqueeze(-2).expand(*residual.shape[:-1], 1))  # (*batch, n, 1)
        # Only the candidate's value decides: deflating by a residual that is mere rounding would be arbitrary.
        length = candidates.gather(-1, index).unsqueeze(-2)
        direction = torch.where(length == 0, 0.0, column / one_where_zero(length))
        residual -= direction @ (direction.mT @ residual)
        # Measured anew: updating the squared norms instead loses half of the digits to cancellation.
        norms = torch.linalg.vector_norm(residual, dim=-2)
    return torch.cat(order, dim=-1)


@dataclass(frozen=True)
class SPA(Method):
    """H is k columns of Y by the successive projection algorithm, W the exact weights: no start, no iterations.

    Choose it for data in which every part shows up alone in some column, or as a reference point. It needs k ≤ m.
    Its one "iteration" begins from W = 0, and converges.

    Source: see ``spa``.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import SPA, factorize
        >>> H, mixtures = torch.rand(30, 3), torch.softmax(torch.rand(3, 20), dim=0)
        >>> Y = torch.cat((H, H @ mixtures), dim=1)  # every part alone in one of the first columns
        >>> bool(factorize(Y, 3, method=SPA()).errors[-1] < 1e-5)
        True
    """

    @property
    def needs_start(self) -> bool:
        return False

    def run(self, problem: NMFProblem, W: Tensor, Ht: Tensor, budget: Budget) -> Run:
        if problem.basis_penalties.any:
            raise ValueError('l1_H, ridge_H: expected 0 for method "spa", whose H is columns of Y; use l1_W or ridge_W')
        H = spa(problem.dense, problem.k)
        W = exact_weights(H, problem.dense, **problem.weights_penalties.arguments)
        half = half_step(H.mT.contiguous(), problem.Y, problem.weights_penalties)
        return run_at_once(problem, half, W, budget)
