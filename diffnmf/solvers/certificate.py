"""Whether no other W ≥ 0 is better by more than rounding.

A small KKT residual does not say so where columns of H are nearly dependent: a gradient lost in rounding, times a large
step, may lower the residual by much. Two bounds on f = ½‖y − Hx‖² + wᵀx, w ≥ 0 from l1, do. In them columns of
[H; √ridge I] are of unit length, and so is y; g is the gradient at x, and x* the solution.

1. f(x) − f(x*) ≤ gᵀx + max(−g) ‖x*‖₁. The size of x* is bounded where the columns of H are independent, or lie on one
   side of a plane, as those without negative entries do.
2. Let z be the minimum over some entries M, of any sign, with the others zero. If its gradient is nowhere negative,
   f(x*) ≥ f(z), since f is convex. With M the free set of the solution, z is the solution. For x that is zero off M,
   f(x) − f(z) = ½ g_Mᵀ (A_MM)⁻¹ g_M: no difference of nearly equal numbers.
"""

import torch
from torch import Tensor

from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.exact.accurate_residual import accurate_residual
from diffnmf.solvers.exact.chunks import index_chunks
from diffnmf.solvers.exact.columns import DEPENDENT, reduced_columns
from diffnmf.solvers.exact.finish import INDEPENDENT_PIVOT
from diffnmf.solvers.exact.masked import as_columns, inverse_row_sums
from diffnmf.solvers.gram import bounded_price, gram_form, penalty_in_units, scale_gram
from diffnmf.solvers.optimality import ALLOWED_EXCESS, Optimality
from diffnmf.solvers.problem import Problem
from diffnmf.solvers.products import form_gram, form_squares

MAX_ROUNDS = 4  # in which M may grow


@torch.no_grad()
def is_best(problem: Problem, W: Tensor, judgement: Optimality) -> Tensor:
    """Which problems (B,) have a W that is certainly within ``ALLOWED_EXCESS`` of the best; False for NaN.

    It looks at what it finds to pick columns out, which an accelerator waits for.

    Arguments:
        problem: B problems.
        W: (B, k, m) ≥ 0.
        judgement: ``optimality`` of it.
    """
    if judgement.certain is not None and looking_is_free(W.device) and judgement.certain.all():
        return judgement.certain
    assert judgement.squares is not None
    A, *scales = scale_gram(form_gram(problem.H), form_squares(problem.Y), problem.ridge.double())
    row_scale, column_scale = scales
    W, m = W.double(), W.shape[-1]
    X = as_columns(W * row_scale / column_scale)
    value, gradient = _value_and_gradient(problem, W, judgement.squares, judgement.gradient, *scales)
    violation = torch.maximum(-gradient.amin(-1), torch.finfo(value.dtype).eps * value)
    gap = (X * gradient).abs().sum(-1)
    best = value <= ALLOWED_EXCESS
    for solution_bound in (_one_sided_bound, _independent_bound):  # the second takes as long as the rest
        if looking_is_free(W.device) and best.all():
            break
        size = solution_bound(A).repeat_interleave(m)
        best = best | (2 * (gap + violation * size) <= ALLOWED_EXCESS * value)
    undecided = (~best & value.isfinite()).nonzero().squeeze(-1)
    if len(undecided):
        form, H = gram_form(problem), problem.H.double()
        residual = accurate_residual(H, problem.Y.double(), W)
        gradient = problem.ridge.double() * W - H.mT @ residual
        value, gradient = _value_and_gradient(problem, W, residual.square().sum(-2, keepdim=True), gradient, *scales)
        for numbers in index_chunks(undecided, W.shape[-2]):
            R = reduced_columns(problem, form, numbers).R
            best[numbers] = _excess(R, X[numbers] > 0, value[numbers], gradient[numbers]) <= ALLOWED_EXCESS
    return best.reshape(len(W), m).all(1)


def _value_and_gradient(
    problem: Problem, W: Tensor, squares: Tensor, gradient: Tensor, row_scale: Tensor, column_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """√(2f) (B·m,) and the gradient (B·m, k) in scaled units.

    From W (B, k, m), ‖y − Hw‖² (B, 1, m), and the gradient without the l1 (B, k, m).
    """
    ridge, l1 = (penalty.double() for penalty in (problem.ridge, problem.l1))
    gradient = gradient / column_scale / row_scale + bounded_price(l1, row_scale, column_scale)
    penalty = penalty_in_units(l1, ridge, W, column_scale)
    return ((squares / column_scale / column_scale).squeeze(-2) + penalty).sqrt().flatten(), as_columns(gradient)


def _one_sided_bound(A: Tensor) -> Tensor:
    """What ‖x*‖₁ cannot exceed for Gram matrices (B, k, k); (B,), infinite where nothing is known.

    With v such that Hᵀv ≥ 1: ‖x*‖₁ ≤ vᵀHx* ≤ ‖v‖ ‖Hx*‖ ≤ ‖v‖. Here v is a multiple of the sum of the columns.
    """
    together = A.sum(-1)
    return together.sum(-1).clamp(min=0).sqrt() / together.amin(-1).clamp(min=0)


def _independent_bound(A: Tensor) -> Tensor:
    """The same with v = HA⁻¹1, for which Hᵀv = 1, where the columns are independent."""
    sums, pivot = inverse_row_sums(A)
    return torch.where(pivot > INDEPENDENT_PIVOT, sums.sum(-1).clamp(min=0).sqrt(), torch.inf)


def _excess(R: Tensor, free: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """How far √(2f), which is ``value`` (N,), may be above the least; (N,), infinite where nothing is known.

    Arguments:
        R: (N, k, k), of a QR of H.
        free: (N, k) bool, where x > 0.
        gradient: (N, k), at x.
    """
    chosen = free
    noise = 8 * torch.finfo(R.dtype).eps * value.unsqueeze(-1)
    for _ in range(MAX_ROUNDS):
        gain, there = _minimum(R, chosen, gradient)
        negative = ~chosen & (there < -noise)
        chosen = chosen | negative
        if not negative.any():
            break
    return torch.where(negative.any(-1), torch.inf, gain / value)


def _minimum(R: Tensor, chosen: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """What 2f (N,) loses on the way to its minimum over the entries ``chosen`` (N, k) bool; the gradient there (N, k).

    By Gram-Schmidt with pivots, orthogonalised twice; columns that depend on those before are left out.
    """
    remaining = R * chosen.unsqueeze(-2)
    Q, step = torch.zeros_like(R), torch.zeros_like(R[:, :, :1])  # the step is Q times this
    for i in range(R.shape[-1]):
        largest = remaining.square().sum(-2).argmax(-1)[:, None, None]
        pick = largest.expand(-1, R.shape[-2], 1)
        column, q = R.gather(2, pick), remaining.gather(2, pick)
        q = q - Q @ (Q.mT @ q)
        length = torch.linalg.vector_norm(q, dim=-2, keepdim=True)
        kept = length > DEPENDENT
        if not kept.any():
            break
        q = torch.where(kept, q / length, 0.0)
        # The gradient at the picked entry vanishes.
        sofar = gradient.unsqueeze(-1).gather(1, largest) + (Q.mT @ column * step).sum(-2, keepdim=True)
        step[:, i : i + 1] = torch.where(kept, -sofar / length, 0.0)
        Q[:, :, i : i + 1] = q
        remaining = remaining - q @ (q.mT @ remaining)
    return step.square().sum((-2, -1)), gradient + (R.mT @ (Q @ step)).squeeze(-1)
