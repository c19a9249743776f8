"""The parametrised program of ``ConeProgram``: what cvxpylayers is given, and its parameters for the constraints."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.errors import SolverError
from diffnmf.solvers.exact.masked import as_columns
from diffnmf.solvers.problem import Problem


class Kind(NamedTuple):
    """Which constraints a program has: an upper bound, entries of any sign, a sum ("", "equal" or "at_most")."""

    upper: bool = False
    signed: bool = False
    total: str = ""


@dataclass(frozen=True)
class Limits:
    """The constraints of a program, and the parameters for them, in the order of ``cvxpy_layer``, each (B·m, ...)."""

    kind: Kind
    tensors: tuple[Tensor, ...]

    @classmethod
    def of(cls, problem: Problem, row_scale: Tensor, column_scale: Tensor) -> "Limits":
        """In the scaled unknowns x = w row_scale / column_scale; row_scale (B, 1, k), column_scale (B, 1, m)."""
        asked = problem.constraints
        if asked is None:
            return cls(Kind(), ())
        unit = row_scale.mT / column_scale  # (B, k, m)
        total = "" if asked.total is None else ("at_most" if asked.at_most else "equal")
        tensors = []
        if asked.upper is not None:  # p x ≤ q: nothing for an infinite bound
            upper = asked.upper.to(unit)
            finite = upper.isfinite()
            tensors.append(as_columns(finite.to(unit)))
            tensors.append(as_columns(torch.where(finite, torch.where(finite, upper, 0.0) * unit, 1.0)))
        if asked.signed is not None:
            tensors.append(as_columns((~asked.signed).to(unit)))
        if asked.total is not None:  # Σ x / unit, divided by the largest coefficient
            largest = (1 / unit).amax(-2, keepdim=True)
            tensors.append(as_columns(1 / unit / largest))
            tensors.append((asked.total.to(unit) / largest).flatten().unsqueeze(-1))
        return cls(Kind(asked.upper is not None, asked.signed is not None, total), tuple(tensors))


@lru_cache(maxsize=32)
def cvxpy_layer(rows: int, k: int, backend: Any, kind: Kind) -> Any:
    """The parametrised program; building it takes longer than solving it, so that each size is built once."""
    try:
        import cvxpy as cp
        from cvxpylayers.torch import CvxpyLayer
    except ModuleNotFoundError as error:  # in an installation without dependencies
        raise SolverError(
            f'solver: "cvxpylayer" needs packages that are not installed ({error}): pip install cvxpy cvxpylayers'
        ) from error
    A, b = cp.Parameter((rows, k)), cp.Parameter(rows)
    weight, curvature = cp.Parameter(k), cp.Parameter(k, nonneg=True)
    x = cp.Variable(k)
    objective = 0.5 * cp.sum_squares(A @ x - b) + weight @ x + 0.5 * cp.sum(cp.multiply(curvature, cp.square(x)))
    parameters, constraints = [A, b, weight, curvature], []
    if kind.upper:
        p, q = cp.Parameter(k), cp.Parameter(k)
        parameters += [p, q]
        constraints.append(cp.multiply(p, x) <= q)
    if kind.signed:
        held = cp.Parameter(k)
        parameters.append(held)
        constraints.append(cp.multiply(held, x) >= 0)
    else:
        constraints.append(x >= 0)
    if kind.total:
        a, t = cp.Parameter(k), cp.Parameter(1)
        parameters += [a, t]
        constraints.append(a @ x == t if kind.total == "equal" else a @ x <= t)
    program = cp.Problem(cp.Minimize(objective), constraints)
    return CvxpyLayer(program, parameters=parameters, variables=[x], solver=backend)
