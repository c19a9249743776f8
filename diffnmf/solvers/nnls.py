"""The one way in: ``nnls`` and ``nnls_gram`` with diagnostics for everybody, ``solve_nnls`` for the layer."""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.errors import ConvergenceWarning
from diffnmf.solvers.base import NNLSSolver
from diffnmf.solvers.certificate import is_best
from diffnmf.solvers.constrained.form import is_positive_semidefinite
from diffnmf.solvers.constraints import Asked
from diffnmf.solvers.devices import needs_float64
from diffnmf.solvers.direct import solve_small
from diffnmf.solvers.entry import ranged_problem, solve_problem, with_options
from diffnmf.solvers.largest_l1 import largest_l1
from diffnmf.solvers.optimality import Optimality, optimality
from diffnmf.solvers.problem import Problem, make_gram_problem, make_problem
from diffnmf.solvers.registry import get_solver
from diffnmf.solvers.transforms import transformed

# What rounding alone may leave of the KKT residual, by the dtype of the result, for a solution of size one.
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
# It grows with the solution, by this factor at the most: a W that is far too large shows that there is no minimum. In
# float64 the plain problem has another test, which says where that goes too far.
MAX_ROUNDING = {torch.float64: 1e6, torch.float32: 100.0, torch.float16: 100.0, torch.bfloat16: 100.0}


class NNLSSolution(NamedTuple):
    """What ``nnls`` returns.

    Attributes:
        W: (*batch, k, m) ≥ 0, in the dtype and on the device of the inputs, differentiable.
        kkt_residual: (*batch,) float64: with unit columns of H, the largest |min(W, gradient)| / ‖y‖ (docs/nnls.md);
            NaN where an input is not finite.
        iterations: (*batch,) int64, the work that the hardest column of each problem took.
        converged: (*batch,) bool, whether kkt_residual is within what the solver promises, or within what rounding
            leaves, which grows with the size of W; in float64, for an exact solver, also whether every residual norm
            is certain to be within 9e-10 ‖y‖ of the least possible. False where an input is not finite.
        largest_useful_l1: (*batch,), in the dtype of the inputs (float32 for half precision): the smallest l1 at which
            W is all zero, see ``diffnmf.solvers.largest_useful_l1``; infinite where no l1 does that, with a given
            sum or signed entries.
        dual: (*batch, k, m) float64, without gradient: the derivative of the objective by W at W. It is zero for
            entries that no bound holds, or equal to ``total_dual``; what is above that holds an entry at zero.
        total_dual: (*batch, 1, m) float64, without gradient: the derivative of the minimum by ``total``; zero where
            there is no sum, or one that does not bind.

    Example:
        >>> import torch
        >>> from diffnmf import nnls
        >>> H = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> solution = nnls(H, torch.tensor([[1.0], [0.0], [-1.0]]))
        >>> solution.converged, solution.largest_useful_l1
        (tensor(True), tensor(1.))
        >>> solution.dual.round(decimals=3)  # of the entry that is held at zero, the objective would rise by 1.5
        tensor([[0.0000],
                [1.5000]], dtype=torch.float64)
    """

    W: Tensor
    kkt_residual: Tensor
    iterations: Tensor
    converged: Tensor
    largest_useful_l1: Tensor
    dual: Tensor
    total_dual: Tensor


@needs_float64
def nnls(
    H: Tensor,
    Y: Tensor,
    *,
    solver: str | NNLSSolver = "unrolled",
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    allowed: Tensor | None = None,
    weights: Tensor | None = None,
    total: float | Tensor | None = None,
    total_kind: str = "equal",
    upper: float | Tensor | None = None,
    signed: Tensor | None = None,
    W0: Tensor | None = None,
    backward: str = "implicit",
    tol: float | None = None,
    max_iter: int | None = None,
) -> NNLSSolution:
    """Solve a batch of non-negative least-squares problems, with the constraints that are asked for:

        min_W ½ Σ weights ∘ (Y − HW)² + Σ l1 ∘ W + ½ Σ ridge ∘ W²  subject to 0 ≤ W ≤ upper, ΣW = total in each column

    Arguments:
        H: (*batch, n, k), of any sign.
        Y: (*batch, n, m), of any sign. Batch dimensions broadcast as in ``torch.matmul``.
        solver: a name of ``diffnmf.solvers.SOLVERS`` or an instance of a solver, your own too (docs/nnls.md).
        ridge: ≥ 0, a number or a (differentiable) tensor that broadcasts to W, (*batch, k, m): one a problem is
            ridge[..., None, None], one a component (k, 1). Not scaled with n.
        l1: as ridge. From ``largest_useful_l1`` of the result on, W and every gradient is zero.
        allowed: bool, broadcasts to W: an entry that is not allowed stays zero, and has no gradient.
        weights: ≥ 0, broadcasts to Y, differentiable: 1/σ² of an observation, or 0 to leave it out, whatever Y holds
            there, NaN too.
        total: what each column of W sums to: a number or a (differentiable) tensor that broadcasts to (*batch, 1, m).
        total_kind: "equal", or "at_most" for a sum that may also be smaller.
        upper: ≥ 0 or infinite, a number or a (differentiable) tensor that broadcasts to W.
        signed: bool, broadcasts to W: entries that may be negative, without any lower bound.
        W0: (*batch, k, m), a warm start. It changes the work, not the result (unless the solution is not unique).
        backward: "implicit" (exact, at the solution), "unrolled" (through the iterations, for the plain problem and
            ``allowed``) or "detached".
        tol, max_iter: replace these options of the solver for this call, such as those of a truncated one.

    Returns:
        The weights with diagnostics per problem. The gradient flows to H, Y, ridge, l1, weights, total and upper. A
        column of Y that holds a NaN or an infinity has a NaN column of W and no gradient, and so has every column of a
        problem whose H, ridge or l1 does, and a column with a negative weight or bound, or without any W that obeys its
        constraints. All other columns are as they would be without it.

    Raises:
        TypeError: an argument is of the wrong kind: no dense tensor of a real floating-point dtype, no number, no name.
        ValueError: shapes, devices or names do not fit, or the solver does not know the constraints; the message names
            the argument.

    Warns:
        ConvergenceWarning: once, when some problem has not converged or an input is not finite; ``converged`` says
            which problems, the message which of the two.

    Example:
        >>> import torch, diffnmf
        >>> H = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> diffnmf.nnls(H, torch.tensor([[1.0], [0.0], [-1.0]])).W
        tensor([[0.5000],
                [0.0000]])
        >>> diffnmf.nnls(H, torch.tensor([[1.0], [0.0], [-1.0]]), total=1.0).W
        tensor([[1.],
                [0.]])
    """
    asked = Asked(allowed, weights, total, total_kind, upper, signed)
    problem = make_problem(H, Y, ridge, l1, W0, asked)
    return _solution(problem, with_options(get_solver(solver), tol, max_iter), backward)


@needs_float64
def nnls_gram(
    G: Tensor,
    C: Tensor,
    *,
    solver: str | NNLSSolver = "unrolled",
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    allowed: Tensor | None = None,
    total: float | Tensor | None = None,
    total_kind: str = "equal",
    upper: float | Tensor | None = None,
    signed: Tensor | None = None,
    W0: Tensor | None = None,
    backward: str = "implicit",
) -> NNLSSolution:
    """``nnls`` for those who have G = HᵀH and C = HᵀY already: min_W ½ Σ w ᵀGw − cᵀw + the penalties, over W ≥ 0.

    It loses what squaring loses: with H at hand ``nnls`` is as accurate as H is, here W is as accurate as G.

    Arguments:
        G: (*batch, k, k), positive semidefinite; of a matrix that is not symmetric the symmetric part counts.
        C: (*batch, k, m). Batch dimensions broadcast.
        solver: an exact one.
        others: as in ``nnls``, in the units of G and C; row weights belong into G and C.

    Returns:
        As ``nnls``; the gradient flows to G (symmetric), C and the others. In ``kkt_residual`` the largest HᵀY of
        columns of length one stands for ‖y‖. ``converged`` is False where G is not positive semidefinite.

    Raises:
        TypeError, ValueError: as ``nnls``.

    Warns:
        ConvergenceWarning: as ``nnls``.

    Example:
        >>> import torch, diffnmf
        >>> H, Y = torch.rand(100, 3), torch.rand(100, 2)
        >>> torch.allclose(diffnmf.nnls_gram(H.T @ H, H.T @ Y).W, diffnmf.nnls(H, Y).W, atol=1e-4)
        True
    """
    asked = Asked(allowed, None, total, total_kind, upper, signed)
    return _solution(make_gram_problem(G, C, ridge, l1, W0, asked), get_solver(solver), backward)


def _solution(problem: Problem, solver: NNLSSolver, backward: str) -> NNLSSolution:
    """Solve B problems and judge the result."""
    solved = solve_problem(problem, solver, backward)
    W = solved.W.to(problem.dtype)
    ranged = ranged_problem(problem)
    judged = ranged.scaled(W)  # what the user gets is judged, rounded to half precision or not
    judgement = optimality(ranged.problem, judged)
    residual = judgement.residual
    converged = residual <= _expected_residual(judgement, problem, solver)  # False for NaN
    certified = solver.exact and solver.tolerance == 0 and problem.dtype == torch.float64 and W.numel() > 0
    if certified and problem.constraints is None and not transformed(problem):
        converged = converged & is_best(ranged.problem, judged)
    if problem.squared:
        converged = converged & is_positive_semidefinite(ranged.problem.H.detach())
    # A transform has no single answer to the question, and a compiled graph no place for a warning.
    if not transformed(problem) and not (converged.all() and (ranged.finite is None or ranged.finite.all())):
        warnings.warn(_complaint(solver, residual, converged, ranged.finite), ConvergenceWarning, stacklevel=4)
    dual = ranged.gradient(judgement.gradient) + problem.l1.detach().double()
    total_dual = ranged.gradient(judgement.total_dual)[:, :1]  # with a sum all entries have one unit
    if ranged.finite is not None:
        finite = ranged.finite.flatten(1).all(1)
        residual, converged = torch.where(finite, residual, torch.nan), converged & finite
        dual, total_dual = (torch.where(ranged.finite, x, torch.nan) for x in (dual, total_dual))
    shape = problem.batch_shape

    def of_user(x: Tensor) -> Tensor:
        return x.reshape(shape + x.shape[1:])

    return NNLSSolution(
        of_user(W),
        of_user(residual),
        of_user(solved.iterations),
        of_user(converged),
        of_user(largest_l1(ranged, problem.allowed)),
        of_user(dual),
        of_user(total_dual),
    )


def _complaint(solver: NNLSSolver, residual: Tensor, converged: Tensor, finite: Tensor | None) -> str:
    """What is wrong, in words: residual and converged (B,) of the finite columns, finite (B, 1, m) or None for all."""
    complaints, count = [], len(converged)
    if not converged.all():
        complaints.append(
            f"{int((~converged).sum())} of {count} problems have not converged"
            f" (largest KKT residual {residual.max().item():.1e})"
        )
    if finite is not None and not finite.all():
        columns = ~finite[:, 0]
        complaints.append(
            f"the input of {int(columns.any(-1).sum())} of {count} problems is not finite (NaN or infinity), or cannot"
            f" obey its constraints, and {int(columns.sum())} of {columns.numel()} columns of W are NaN"
        )
    return f"{type(solver).__name__}: {'; '.join(complaints)}; see `converged` of the result"


@needs_float64
def solve_nnls(
    H: Tensor,
    Y: Tensor,
    solver: NNLSSolver,
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    W0: Tensor | None = None,
    backward: str = "implicit",
    asked: Asked | None = None,
) -> Tensor:
    """``nnls`` without diagnostics and without warnings: W alone."""
    if W0 is None and asked is None and not torch.compiler.is_compiling():
        small = solve_small(H, Y, solver, ridge, l1, backward)
        if small is not None:
            return small
    return _weights(make_problem(H, Y, ridge, l1, W0, asked), solver, backward)


@needs_float64
def solve_nnls_gram(
    G: Tensor,
    C: Tensor,
    solver: NNLSSolver,
    ridge: float | Tensor = 0.0,
    l1: float | Tensor = 0.0,
    W0: Tensor | None = None,
    backward: str = "implicit",
    asked: Asked | None = None,
) -> Tensor:
    """``nnls_gram`` without diagnostics and without warnings: W alone."""
    return _weights(make_gram_problem(G, C, ridge, l1, W0, asked), solver, backward)


def _weights(problem: Problem, solver: NNLSSolver, backward: str) -> Tensor:
    W = solve_problem(problem, solver, backward).W.to(problem.dtype)
    return W.reshape(*problem.batch_shape, *W.shape[1:])


def _expected_residual(judgement: Optimality, problem: Problem, solver: NNLSSolver) -> Tensor:
    """What the solver promises, or what rounding leaves, which grows with the size of W; (B,)."""
    dtype = problem.dtype
    rounding = ROUNDING[dtype] * (1.0 + judgement.size)
    if dtype != torch.float64 or problem.constraints is not None:
        rounding = rounding.clamp(max=MAX_ROUNDING[dtype] * ROUNDING[dtype])
    return rounding.clamp(min=solver.tolerance)
