"""The implicit gradient of the constrained solution.

Derivation. Let F be the entries that no bound holds, N the others, Ω = diag(weights), G = HᵀΩH. On F the optimality
conditions, with the multiplier λ of the sum where that binds, are

    (G_FF + ridge) w_F + G_FN w_N + λ1 = H_Fᵀ Ω y − l1_F,      1ᵀw = total,      w_N at its bounds.        (1)

They define w_F and λ as smooth functions of the data, as long as F stays what it is. For an incoming gradient ḡ = ∂L/∂w
let

    [G_FF + ridge   1] [v_F]   [ḡ_F]
    [1ᵀ             0] [ ν ] = [ 0 ],      v_N = 0,      and ν = 0 where no sum binds.                     (2)

(2) has the symmetric matrix of (1), so that ḡᵀdw is what (1) says with (v, ν) in the place of its rows. With R = Y − HW
and V the matrix of all v, collecting terms:

    ∂L/∂Y = Ω∘HV        ∂L/∂H = (Ω∘R) Vᵀ − (Ω∘HV) Wᵀ        ∂L/∂weights = HV∘R
    ∂L/∂ridge = −V∘W    ∂L/∂l1 = −V                         ∂L/∂total = ν
    ∂L/∂upper_j = ḡ_j − (GV)_j − ν  for an entry j that rests at upper_j.                                  (3)

At upper_j = 0 that is the derivative from above, the only one that there is: zero where w_j would not rise.

Where an entry at a bound has no gradient (a tie), F is that of the solver: one element of the conservative Jacobian.
Sources: Amos and Kolter (2017), OptNet; Bolte et al. (2021), Nonsmooth implicit differentiation.
"""

from typing import Any

import torch
from torch import Tensor

from diffnmf.solvers.constrained.again import rests_above, solve_again_constrained
from diffnmf.solvers.constrained.form import ScaledGram, scaled_gram_matrices
from diffnmf.solvers.constrained.runs import part, runs
from diffnmf.solvers.constrained.solve import ConstrainedSolution, solve_difficult
from diffnmf.solvers.constrained.systems import BorderedSystems
from diffnmf.solvers.constrained.unsquared import few
from diffnmf.solvers.constraints import Constraints
from diffnmf.solvers.devices import without_autocast
from diffnmf.solvers.exact.finish import WELL_CONDITIONED_PIVOT
from diffnmf.solvers.exact.masked import as_columns, from_columns
from diffnmf.solvers.gradient import data_gradients
from diffnmf.solvers.problem import Problem

NAMES = ("H", "Y", "ridge", "l1", "weights", "total", "upper")


def with_constrained_gradient(problem: Problem, found: ConstrainedSolution) -> Tensor:
    """W of ``found`` (B, k, m) in the dtype of the problem, with the gradient (3) and derivatives of any order."""
    asked = problem.constraints
    assert asked is not None
    return _ConstrainedGradient.apply(problem, found, *problem.inputs, asked.weights, asked.total, asked.upper)


class _ConstrainedGradient(torch.autograd.Function):
    """The identity on W in the forward pass, formula (3) in the backward pass. Reverse mode only."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, found: ConstrainedSolution, *inputs: Tensor | None) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.problem, ctx.found = _bare(problem), found
        return found.W.to(problem.H.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, grad_W: Tensor) -> tuple[Tensor | None, ...]:
        problem = _dressed(ctx.problem, *ctx.saved_tensors)
        wanted = ctx.needs_input_grad[2:]
        with without_autocast(problem.H.device):
            if torch.is_grad_enabled():  # a second derivative is wanted
                gradients = _differentiable(problem, ctx.found, grad_W, wanted, ctx.saved_tensors)
            else:
                gradients = _lean(problem, ctx.found, grad_W, wanted)
        return (None, None, *gradients)


def _bare(problem: Problem) -> tuple[Any, ...]:
    """A problem without its differentiable tensors, which autograd keeps."""
    assert problem.constraints is not None
    return problem.batch_shape, problem.dtype, problem.constraints.at_most, problem.constraints.signed, problem.squared


def _dressed(bare: tuple[Any, ...], H: Tensor, Y: Tensor, ridge: Tensor, l1: Tensor, *asked: Tensor | None) -> Problem:
    shape, dtype, at_most, signed, squared = bare
    weights, total, upper = asked
    constraints = Constraints(weights, total, at_most, upper, signed)
    return Problem(H, Y, ridge, l1, None, shape, dtype, constraints=constraints, squared=squared)


def _differentiable(
    problem: Problem,
    found: ConstrainedSolution,
    grad_W: Tensor,
    wanted: tuple[bool, ...],
    inputs: tuple[Tensor | None, ...],
) -> list[Tensor | None]:
    """The gradients as functions of the inputs and of grad_W."""
    W = solve_again_constrained(problem, found.W, found.free, found.binds)
    ask = [x for x, needs in zip(inputs, wanted, strict=True) if needs and x is not None]
    given = iter(torch.autograd.grad(W, ask, grad_W, create_graph=True, allow_unused=True))
    return [next(given) if needs and x is not None else None for x, needs in zip(inputs, wanted, strict=True)]


def _lean(
    problem: Problem, found: ConstrainedSolution, grad_W: Tensor, wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """Formula (3), run by run."""
    asked = problem.constraints
    assert asked is not None
    inputs = (*problem.inputs, asked.weights, asked.total, asked.upper)
    names = [name for name, x, needs in zip(NAMES, inputs, wanted, strict=True) if needs and x is not None]
    rows: list[dict[str, Tensor]] = []  # the terms of whole problems
    for problems, columns in runs(problem):
        # Not a slice: one of everything has no rule in gradients of a batch (is_grads_batched).
        grad = grad_W.narrow(0, problems.start, problems.stop - problems.start)
        grad = grad.narrow(2, columns.start, columns.stop - columns.start).double()
        terms = _terms(part(problem, problems, columns), found.part(problems, columns), grad, names)
        if columns.start == 0:
            rows.append(terms)
        else:  # more columns of the problem before
            for name, term in terms.items():
                before = rows[-1][name]
                rows[-1][name] = before + term if name == "H" else torch.cat((before, term), dim=-1)
    whole = {name: torch.cat([row[name] for row in rows]) if len(rows) > 1 else rows[0][name] for name in names}
    # ridge, l1 and the constraints may be shared by entries of W.
    return [
        whole[name].sum_to_size(x.shape).to(x.dtype) if name in whole and x is not None else None
        for name, x in zip(NAMES, inputs, strict=True)
    ]


def _terms(problem: Problem, found: ConstrainedSolution, grad_W: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The parts of (3) of one run, by the name of the input."""
    asked = problem.constraints
    assert asked is not None
    V, nu = _adjoint(problem, found, grad_W)
    if problem.squared:
        return _squared_terms(problem, found, grad_W, V, nu)
    terms = {"ridge": -V * found.W, "l1": -V, "total": torch.where(found.binds, nu, 0.0)}
    of_data = {"Y", "H", "weights"}.intersection(names)
    if asked.weights is not None:
        terms |= _weighted_terms(problem, found.W, V, of_data)
    elif of_data:
        wants = {"wants_H": "H" in names, "wants_Y": "Y" in names}
        grad_H, grad_Y = data_gradients(problem.H, problem.Y, found.W, V, pivot=found.pivot, **wants)
        terms |= {name: x.double() for name, x in (("H", grad_H), ("Y", grad_Y)) if x is not None}
    if asked.upper is not None and "upper" in names:
        H = problem.H.double()
        weighted = H @ V if asked.weights is None else H @ V * asked.weights.double()
        held = rests_above(problem, found.W, found.free, found.binds)
        terms["upper"] = torch.where(held, grad_W - H.mT @ weighted - nu, 0.0)
    return {name: terms[name] for name in names}


def _weighted_terms(problem: Problem, W: Tensor, V: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    """(3) towards H, Y and the weights."""
    assert problem.constraints is not None and problem.constraints.weights is not None
    H, weights = problem.H.double(), problem.constraints.weights.double()
    HV = H @ V
    terms = {"Y": HV * weights}
    if wanted & {"H", "weights"}:
        residual = torch.baddbmm(problem.Y.double(), H, W, alpha=-1)
        terms["weights"] = HV * residual
        terms["H"] = (residual * weights) @ V.mT - terms["Y"] @ W.mT
    return terms


def _squared_terms(
    problem: Problem, found: ConstrainedSolution, grad_W: Tensor, V: Tensor, nu: Tensor
) -> dict[str, Tensor]:
    """(3) for given G = HᵀH and C = HᵀY: ∂L/∂C = V, and ∂L/∂G = −(VWᵀ + WVᵀ)/2: only its symmetric part counts."""
    asked = problem.constraints
    assert asked is not None
    cross = V @ found.W.mT
    terms = {"H": -(cross + cross.mT) / 2, "Y": V, "ridge": -V * found.W, "l1": -V}
    terms["total"] = torch.where(found.binds, nu, 0.0)
    if asked.upper is not None:
        held = rests_above(problem, found.W, found.free, found.binds)
        G = problem.H.double()
        terms["upper"] = torch.where(held, grad_W - 0.5 * (G + G.mT) @ V - nu, 0.0)
    return terms


def _adjoint(problem: Problem, found: ConstrainedSolution, grad_W: Tensor) -> tuple[Tensor, Tensor]:
    """V (B, k, m) and ν (B, 1, m) of (2), with one step of refinement where H is not well conditioned."""
    form = scaled_gram_matrices(problem)
    a = None if problem.constraints is None or problem.constraints.total is None else form.a
    systems = BorderedSystems(form.A, a, as_columns(found.free), found.binds.flatten())
    v, nu = _solve(form, systems, grad_W, torch.zeros_like(found.pivot).reshape(-1))
    wanted = found.pivot < WELL_CONDITIONED_PIVOT
    if not problem.squared and problem.H.dtype == torch.float64 and wanted.any():
        assert problem.constraints is not None
        H, weights = problem.H.double(), problem.constraints.weights
        HV = H @ v
        residual = grad_W - H.mT @ (HV if weights is None else HV * weights.double()) - problem.ridge.double() * v - nu
        left = torch.where(found.binds, -v.sum(-2, keepdim=True), 0.0).reshape(-1)
        dv, dnu = _solve(form, systems, residual, left)
        v, nu = torch.where(wanted, v + dv, v), torch.where(wanted, nu + dnu, nu)
    numbers = found.difficult.flatten().nonzero().squeeze(-1)
    for some in few(numbers, problem):
        b = as_columns(grad_W) / form.d
        z, multiplier = solve_difficult(problem, form, systems, some, b)
        columns = as_columns(v).index_put((some,), z / form.d[some])
        marks = nu.reshape(-1).index_put((some,), multiplier / form.unit[some].squeeze(-1))
        v, nu = from_columns(columns, form.batch), marks.reshape(nu.shape)
    return v, nu


def _solve(form: ScaledGram, systems: BorderedSystems, g: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """v (B, k, m) and ν (B, 1, m) with (G + ridge)_FF v_F + ν = g_F and 1ᵀv = left (B·m,)."""
    z, multiplier = systems.solve(as_columns(g) / form.d, left / form.unit.squeeze(-1))
    return from_columns(z / form.d, form.batch), (multiplier / form.unit.squeeze(-1)).reshape(form.batch, 1, -1)
