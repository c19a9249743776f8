"""The one way in: ``nnls`` and ``nnls_gram`` with diagnostics for everybody, ``solve_nnls`` for the layer."""

import torch
from torch import Tensor

from diffnmf.solvers.base import NNLSSolver
from diffnmf.solvers.constraints import TOTAL_KINDS, Asked
from diffnmf.solvers.devices import needs_float64
from diffnmf.solvers.direct import solve_small
from diffnmf.solvers.entry import solve_problem, with_options
from diffnmf.solvers.problem import Problem, make_gram_problem, make_problem
from diffnmf.solvers.registry import get_solver
from diffnmf.solvers.solution import NNLSSolution, solve_and_judge, solve_and_judge_small


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
            there, NaN too. In float64 they, and penalties beside them, may be of any size, whatever the dtype of Y.
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
    solver = with_options(get_solver(solver), tol, max_iter)
    if W0 is None and not asked and total_kind in TOTAL_KINDS and not torch.compiler.is_compiling():
        small = solve_and_judge_small(H, Y, solver, ridge, l1, backward)
        if small is not None:
            return small
    return solve_and_judge(make_problem(H, Y, ridge, l1, W0, asked), solver, backward)


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
    tol: float | None = None,
    max_iter: int | None = None,
) -> NNLSSolution:
    """``nnls`` for those who have G = HᵀH and C = HᵀY already: min_W Σ (½ wᵀGw − cᵀw) + the penalties, W ≥ 0.

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
    problem = make_gram_problem(G, C, ridge, l1, W0, asked)
    return solve_and_judge(problem, with_options(get_solver(solver), tol, max_iter), backward)


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
            return small[0]
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
    W = solve_problem(problem, solver, backward)[0].W.to(problem.dtype)
    return W.reshape(*problem.batch_shape, *W.shape[1:])
