"""Solver "cvxpylayer": the same problem as a cone program, with cvxpylayers' own solution and diffcp's adjoint.

An independent witness for the other solvers: nothing of their finish or gradient rule is used here. On the full H a
cone solver is slow and its gradients are off by percents, so each column y becomes a small problem of its own, in an
orthonormal basis Q of span[H, y] that is held constant:

    min ½‖Qᵀy − QᵀH w‖²,   QᵀH (r, k), r ≤ k + 1.

Values are unchanged, and so are first derivatives: they involve dH and dy only through Hᵀdy, Hᵀ dH w and dHᵀ(y − Hw),
and H and y − Hw lie in the span of Q, so that projecting dH and dy on Q loses nothing. (A basis of H alone would lose
dHᵀ(y − Hw); differentiating the QR itself breaks on rank-deficient H.)
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_number, set_fields
from diffnmf.errors import SolverError
from diffnmf.solvers.base import NNLSSolver, Solved
from diffnmf.solvers.cone_layer import Kind, Limits, cvxpy_layer
from diffnmf.solvers.constraints import Constraints
from diffnmf.solvers.exact.masked import as_columns, from_columns
from diffnmf.solvers.norms import one_where_zero
from diffnmf.solvers.problem import Problem

TIGHT = {"solve_method": "SCS", "eps": 1e-9, "mode": "dense"}
# What cvxpylayers does unless told otherwise: SCS at 1e-4, the LSQR adjoint. On MNIST at k = 30 W is 0.1 % of its
# maximum off, and gradients 3 %, where the full problem in one matrix variable, as the GAN-UNET paper tried it, has
# 0.6 and 4 %.
LOOSE = {"solve_method": "SCS"}
ADJOINT_OPTIONS = ("mode", "n_jobs_backward")


@dataclass(frozen=True)
class ConeProgram(NNLSSolver):
    """The problem through cvxpylayers, by default with SCS and diffcp on the CPU, in float64.

    Choose it to check another solver, or to compare with work that used cvxpylayers; it is hundreds of times slower.
    Gradients of first order only.

    Options:
        solver_args: passed on to ``CvxpyLayer``. With diffcp the default is SCS at 1e-9 with the dense adjoint
            (``{"solve_method": "SCS", "eps": 1e-9, "mode": "dense"}``; "Clarabel" is another method); other back ends
            have options of their own and none by default.
        tol: the KKT residual that counts as converged; SCS at 1e-9 stays below the default.
        backend: None for diffcp, or what ``CvxpyLayer`` takes as ``solver``: the name of another back end, such as
            "MPAX" or "CUCLARABEL", which has to be installed, or a ``cvxpylayers.interfaces.SolverInterface``. Other
            back ends get their tensors on the device of the problem.

    Source: Agrawal et al. (2019), Differentiable convex optimization layers.

    Raises:
        TypeError, ValueError: an option is not as above; the message names it.
        SolverError: in a call, where a package is missing, or the cone solver has given up.

    Example:
        >>> import torch
        >>> from diffnmf import nnls
        >>> from diffnmf.solvers import ConeProgram
        >>> H, Y = torch.rand(6, 2).double(), torch.rand(6, 3).double()
        >>> torch.allclose(nnls(H, Y, solver=ConeProgram()).W, nnls(H, Y).W, atol=1e-5)  # two witnesses
        True
    """

    solver_args: Mapping[str, Any] | None = None
    tol: float = 1e-6
    backend: Any = None

    exact = True
    takes_constraints = True
    backwards = ("implicit", "detached")
    transformable = False  # a witness of its own: its gradient is diffcp's, never ours

    def __post_init__(self) -> None:
        if not isinstance(self.solver_args, Mapping | None):
            raise TypeError(f"solver_args: expected a mapping of option names to values; got {self.solver_args!r}")
        set_fields(self, tol=check_number("tol", self.tol))

    @classmethod
    def loose(cls) -> "ConeProgram":
        """As accurate as cvxpylayers is unless told otherwise: W to a thousandth of its maximum, gradients to percents.

        For comparisons with work that used it so. The default is the accurate one.
        """
        return cls(LOOSE, tol=1e-2)

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``CvxpyLayer`` is called with."""
        if self.solver_args is not None:
            return dict(self.solver_args)
        return dict(TIGHT) if self.backend is None else {}

    @property
    def tolerance(self) -> float:
        return self.tol

    def solve(self, problem: Problem, backward: str) -> Solved:
        if backward == "implicit" and problem.needs_gradient:
            W = _FirstOrder.apply(self, problem, *problem.tensors)
        else:
            with torch.no_grad():
                W = self._solve(problem)
        # The cone solver does not say how many iterations it took.
        return Solved(W, torch.zeros(len(W), dtype=torch.int64, device=W.device))

    def _solve(self, problem: Problem) -> Tensor:
        asked = problem.constraints
        if asked is not None and (asked.weights is not None or problem.ridge.shape[-1] > 1):
            return self._solve_weighted(problem)
        batch, m = len(problem.H), problem.Y.shape[-1]
        device = torch.device("cpu") if self.backend is None else problem.H.device
        H, Y, ridge, l1 = (x.double().to(device) for x in problem.inputs)
        row_scale, column_scale = _scales(H, Y)  # (B, 1, k) and (B, 1, m)
        basis, extra = _constant_basis(H.detach(), Y.detach())  # (B, n, r) and (B, n, m)
        # Rows of the small problems: r that the columns of a problem share, and one of each column's own.
        shared_H = (basis.mT @ H / row_scale).unsqueeze(1).expand(-1, m, -1, -1)  # (B, m, r, k)
        own_H = (extra.mT @ H / row_scale).unsqueeze(2)  # (B, m, 1, k)
        matrices = torch.cat((shared_H, own_H), dim=2).flatten(0, 1)  # (B·m, r + 1, k)
        shared_y = (basis.mT @ Y / column_scale).mT  # (B, m, r)
        own_y = ((extra * Y).sum(dim=1) / column_scale.squeeze(1)).unsqueeze(-1)  # (B, m, 1)
        vectors = torch.cat((shared_y, own_y), dim=2).flatten(0, 1)  # (B·m, r + 1)
        weight = l1 / row_scale.mT / column_scale  # (B, k, m)
        curvature = (ridge.mT / row_scale.square()).expand(-1, m, -1).flatten(0, 1)  # (B·m, k)
        limits = Limits.of(problem, row_scale, column_scale)

        x = self._solve_columns(limits, (matrices, vectors, as_columns(weight), curvature, *limits.tensors), m)
        if asked is None:
            x = x.clamp(min=0)
        W = from_columns(x, batch) * column_scale / row_scale.mT
        return W.to(problem.H)

    def _solve_weighted(self, problem: Problem) -> Tensor:
        """Every column as a problem of its own, with the root of its weights in H and Y."""
        asked = problem.constraints
        assert asked is not None
        batch, k, m = len(problem.H), problem.H.shape[-1], problem.Y.shape[-1]
        H = problem.H.unsqueeze(1).expand(-1, m, -1, -1).flatten(0, 1)  # (B·m, n, k)
        Y = as_columns(problem.Y).unsqueeze(-1)
        if asked.weights is not None:
            weights = as_columns(asked.weights.expand_as(problem.Y)).unsqueeze(-1)
            root = torch.where(weights > 0, torch.where(weights > 0, weights, 1.0).sqrt(), 0.0)
            H, Y = H * root, Y * root

        def alone(x: Tensor | None) -> Tensor | None:
            return None if x is None else as_columns(x.expand(batch, x.shape[-2], m)).unsqueeze(-1)

        ridge, l1 = (as_columns(x.expand(-1, k, m)).unsqueeze(-1) for x in (problem.ridge, problem.l1))
        constraints = Constraints(None, alone(asked.total), asked.at_most, alone(asked.upper), alone(asked.signed))
        W = self._solve(replace(problem, H=H, Y=Y, ridge=ridge, l1=l1, W0=None, constraints=constraints))
        return from_columns(W.squeeze(-1), batch)

    def _solve_columns(self, limits: Limits, parameters: tuple[Tensor, ...], m: int) -> Tensor:
        try:
            cvxpy_layer(*parameters[0].shape[1:], self.backend, limits.kind)
        except SolverError:
            raise
        except Exception as error:  # an unknown name, or a package that is not installed
            raise SolverError(
                f"backend: cvxpylayers could not set up {self.backend!r}: {error or type(error).__name__};"
                " install it, or use backend=None"
            ) from error
        try:
            return self._call(limits.kind, parameters)
        except Exception as error:  # every back end of cvxpylayers raises its own kind
            raise SolverError(self._failure(limits.kind, parameters, m, error)) from error

    def _call(self, kind: Kind, parameters: tuple[Tensor, ...]) -> Tensor:
        layer = cvxpy_layer(*parameters[0].shape[1:], self.backend, kind)
        arguments = self.arguments
        if not (torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)):
            # Without a gradient diffcp hands everything to the solver, which does not know the adjoint's options.
            arguments = {name: value for name, value in arguments.items() if name not in ADJOINT_OPTIONS}
        with _quiet():
            (x,) = layer(*parameters, solver_args=arguments)
        return x

    @torch.no_grad()
    def _failure(self, kind: Kind, parameters: tuple[Tensor, ...], m: int, error: Exception) -> str:
        """Find the first column that fails alone, so that the message can name its problem."""
        for column in range(len(parameters[0])):
            try:
                self._call(kind, tuple(x[column : column + 1] for x in parameters))
            except Exception:
                return (
                    f"cvxpylayers could not solve problem {column // m} of the batch (column {column % m}) with"
                    f" {self.arguments}: {error}. Loosen its tolerance or use another solver."
                )
        return f"cvxpylayers failed with {self.arguments}: {error}"


class _FirstOrder(torch.autograd.Function):
    """diffcp's adjoint, with an error in the place of second derivatives, which it does not have.

    The graph of the first derivatives is kept apart, so that no part of it can pass for a second derivative.
    """

    @staticmethod
    def forward(ctx: Any, solver: ConeProgram, problem: Problem, *inputs: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
            H, Y, ridge, l1, *others = leaves
            asked = problem.constraints
            if asked is not None:
                asked = asked.with_tensors(others)
            W = solver._solve(replace(problem, H=H, Y=Y, ridge=ridge, l1=l1, constraints=asked))
        ctx.save_for_backward(*inputs)
        ctx.leaves, ctx.W = leaves, W
        return W.detach()

    @staticmethod
    def backward(ctx: Any, grad_W: Tensor) -> tuple[Tensor | None, ...]:
        wanted = [leaf for leaf in ctx.leaves if leaf.requires_grad]
        with _quiet():
            found = iter(torch.autograd.grad(ctx.W, wanted, grad_W.detach(), retain_graph=True, allow_unused=True))
        gradients = (next(found) if leaf.requires_grad else None for leaf in ctx.leaves)
        return None, None, *(g if g is None else _NoSecond.apply(g, grad_W, *ctx.saved_tensors) for g in gradients)


class _NoSecond(torch.autograd.Function):
    """A first derivative that depends on ``origins`` in a way that nobody can differentiate."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *origins: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError('cvxpylayer: has no second derivatives; use another solver, such as "unrolled"')


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the deprecation warnings inside cvxpylayers, which would be errors where a user made warnings errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _scales(H: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Column norms, as constants: the tolerances of a cone solver are absolute."""
    norms = (torch.linalg.vector_norm(x.detach(), dim=-2, keepdim=True) for x in (H, Y))
    rows, columns = (one_where_zero(norm) for norm in norms)
    return rows, columns


def _constant_basis(H: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal Q (B, n, r) with span(H) in its span, and per column the unit direction that y adds, (B, n, m).

    A column y that lies in the span of H adds nothing, and has a zero direction.
    """
    Q = torch.linalg.qr(H).Q
    rest = Y
    for _ in range(2):  # twice is enough (Kahan and Parlett): the second pass makes it orthogonal to rounding
        rest = rest - Q @ (Q.mT @ rest)
    length = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
    negligible = length <= 1e-14 * torch.linalg.vector_norm(Y, dim=1, keepdim=True)
    return Q, torch.where(negligible, 0.0, rest / one_where_zero(length))
