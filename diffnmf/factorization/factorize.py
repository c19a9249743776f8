"""The one way in: ``factorize``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_number, check_tensor
from diffnmf.errors import ConvergenceWarning, PredictionWarning, warn_user
from diffnmf.factorization.base import Budget, Method, Run, balance_, in_own_memory
from diffnmf.factorization.divergence import has_zeros, zeros_refused
from diffnmf.factorization.far_predictions import warn_of_far_predictions
from diffnmf.factorization.initialization import Seed, check_start, complete, start
from diffnmf.factorization.large.blocks import Blocks
from diffnmf.factorization.large.entry import factorize_large
from diffnmf.factorization.nmf_problem import NMFProblem, Units
from diffnmf.factorization.partial_start import Start, partial_start
from diffnmf.factorization.problem_input import Given, make_nmf_problem
from diffnmf.factorization.registry import get_method
from diffnmf.factorization.sparse_matrix import ObservedMatrix, SparseMatrix
from diffnmf.solvers.devices import precise_products

Callback = Callable[[int, Tensor, Tensor], bool | None]

_silenced: ContextVar[tuple[type[Warning], ...]] = ContextVar("silenced", default=())


class Factors(NamedTuple):
    """Y ≈ H @ W, and how it came about.

    Attributes:
        H: (*batch, n, k) ≥ 0, the bases, in the dtype and on the device of Y.
        W: (*batch, k, m) ≥ 0, the weights.
        errors: (iterations run + 1, *batch) float64, ‖Y − HW‖_F / ‖Y‖_F at the start and after every iteration; with
            ``mask`` or ``weights`` both norms are √(Σ weights (·)²), over what is known. A problem that stopped repeats
            its last. For Y = 0 it is 0 where HW = 0 and infinite elsewhere. For ``MU`` with another loss than the
            squared error: √(2 Σ d_β(Y | HW)), measured every ten iterations (with ``tol=0`` at the end alone) and
            repeated in between.
        iterations: (*batch,) int64, the iterations of each problem.
        converged: (*batch,) bool, whether the problem met ``tol``; never at ``tol=0``.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import factorize
        >>> factors = factorize(torch.rand(10, 30, 20), 3, tol=1e-2)
        >>> H, W, *_ = factors
        >>> factors.errors[-1].shape, bool(factors.converged.all())
        (torch.Size([10]), True)
    """

    H: Tensor
    W: Tensor
    errors: Tensor
    iterations: Tensor
    converged: Tensor


@torch.no_grad()
def factorize(
    Y: Tensor | Blocks,
    k: int,
    *,
    method: str | Method = "hals",
    init: str | None = None,
    tol: float = 1e-4,
    max_iter: int = 200,
    H0: Tensor | None = None,
    W0: Tensor | None = None,
    fixed: Tensor | None = None,
    mask: Tensor | str | None = None,
    weights: Tensor | None = None,
    l1_H: float = 0.0,
    l1_W: float = 0.0,
    ridge_H: float = 0.0,
    ridge_W: float = 0.0,
    seed: Seed = 0,
    callback: Callback | None = None,
    group: Any = None,
    split: str = "columns",
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Factors:
    """Factorise every Y of a batch: reduce

        ½‖Y − HW‖²_F + l1_H ΣH + ½ ridge_H ‖H‖²_F + l1_W ΣW + ½ ridge_W ‖W‖²_F   over H, W ≥ 0

    from a start, to a stationary point. Penalties are not scaled with n or m: on twice as many columns, the same
    penalty of H weighs half as much. Without gradient.

    Arguments:
        Y: (*batch, n, m), n and m ≥ 1, non-negative, floating point. Half precision is computed in float32. Or a
            single matrix (n, m) in a sparse layout, CSR at best, for "hals", "anls" and "mu": it is never made dense,
            and dead components stay dead (but with mask="stored").
            Or ``Blocks`` (n, m), read block by block; or, with ``group``, this process's part of a matrix. These two
            take "hals", "anls" and "mu", one matrix, no ``fixed``, ``mask`` nor ``weights``, and the starts "auto",
            "merge", "random", "uniform", "nndsvd" and "nndsvda"; iterates are those of the whole in memory, to
            rounding.
        k: components, ≥ 1; it may exceed n and m.
        method: a name of ``METHODS`` ("hals", "unit_columns", "anls", "mu", "published_hals", "merge", "spa") or an
            instance of one of its classes.
        init: how to start, see ``initialize``; None is "auto", and "random" for "mu", which never moves a zero.
        tol: a problem has converged when the norm of its projected gradient over (H, W) is at most ``tol`` times that
            at its start, or a tenth of ‖(HᵀY, YWᵀ)‖ there where that is more: a good start is not asked for more than
            a bad one. A start far too large counts no more than ‖(HᵀY, YWᵀ)‖ at the first check. For another loss
            than the squared error (``MU``) it is that of factor ∘ gradient. The problem then takes no further part.
            Checked every 10 iterations; 0 never stops.
        max_iter: iterations (W, then H) at the most, ≥ 0.
        H0: (*batch, n, k) or broadcastable to it, ≥ 0, replaces ``init``.
        W0: (*batch, k, m), likewise. Where one of them is given alone, the other is its exact non-negative least
            squares fit; for "mu", which never moves a zero, it comes from ``init`` times the best number.
        fixed: (*batch, n, f) or broadcastable to it, f ≤ k, non-negative: the first f columns of H, which stay as they
            are. The others begin with what they leave of Y. For "hals", "anls" and "mu".
        mask: (*batch, n, m) or broadcastable to it, bool, True where Y is known; elsewhere Y may hold anything, NaN
            too. The error is that of the known entries; where nothing is known of a row or a column, its entries of H
            or W are zero (and remain so where these are a start for "mu"). For "hals", "anls" and "mu". Or "stored",
            for a sparse Y: what it does not store is not known, as in a table of ratings. Nothing but what is stored is
            formed. For "hals", and "mu" with the squared error.
        weights: likewise, numbers ≥ 0: the squared error becomes ½ Σ weights (Y − HW)². Zero is not known. Their unit
            does not matter but beside penalties.
        l1_H: a number ≥ 0.
        l1_W: likewise.
        ridge_H: likewise.
        ridge_W: likewise.
        seed: of a random start, an int ≥ 0; or several, one for each problem of the batch in its order.
        callback: called as callback(iteration, H, W) after every iteration, from 1, with the factors of the whole
            batch as they are (to be copied if kept); a true result ends the run.
        group: a process group of ``torch.distributed`` (``torch.distributed.group.WORLD`` is all processes) that shares
            one matrix. Every process of it makes the same call. A tensor Y, H0 and W0 are the parts of this process; of
            ``Blocks`` each reads its own. H (split by rows) or W (by columns) come back as the part of this process.
        split: with ``group``, what of a tensor Y is split over the processes, in the order of their ranks: "columns" or
            "rows". ``Blocks`` are split along the rows of the file.
        checkpoint: a folder, seen by all processes, in which the run is kept once a minute, and from which the same
            call goes on, to the same bits; with another number of processes to rounding. For what takes ``Blocks``:
            one dense matrix, and the methods, options and starts named there.
        progress: show a bar on a terminal, for the same.

    Returns:
        The factors with the history of the errors. A problem that holds a NaN or an infinity has NaN factors and
        errors and changes nothing for the others.

    Raises:
        TypeError: an argument is not of the kind that is expected; the message names it.
        ValueError: shapes, signs, devices or names do not fit; the message names the argument.
        RunFolderError: the checkpoint is that of another run, in use by another process, or cannot be written to.
        ProcessLostError: another process of the group has ended.

    Warns:
        ConvergenceWarning: once, when tol > 0, the callback has not ended the run and some problem has not converged;
            ``converged`` says which. It says how many of them hold a NaN or an infinity.
        PredictionWarning: with ``mask`` or ``weights``, where HW is more than a hundred times the largest known entry:
            too little is known there to tell the weight of a component.

    Example:
        >>> import torch
        >>> from diffnmf.factorization import factorize
        >>> Y = torch.rand(10, 784, 3) @ torch.rand(10, 3, 40)  # ten matrices of rank 3
        >>> H, W, errors, iterations, converged = factorize(Y, 3, tol=1e-3)
        >>> H.shape, W.shape
        (torch.Size([10, 784, 3]), torch.Size([10, 3, 40]))
    """
    method = get_method(method)
    tol = check_number("tol", tol)
    max_iter = check_count("max_iter", max_iter)
    init, seed = check_start("random" if init is None and method.keeps_zeros else init, seed)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function of (iteration, H, W); got {callback!r}")
    stopped = False

    def budget(units: Units) -> Budget:
        def observer(iteration: int, H: Tensor, W: Tensor) -> bool:
            nonlocal stopped
            factors = units.unscale_factors(H, W, unit_basis=method.unit_basis)
            stopped = bool(callback and callback(iteration, *factors))
            return stopped

        return Budget(tol, max_iter, observer if callback else None)

    if isinstance(Y, Blocks) or group is not None or checkpoint is not None or progress:
        beside = "for a matrix in blocks or parts"
        if isinstance(Y, Tensor) and group is None:
            option = "progress" if checkpoint is None else "checkpoint"
            beside = f"beside {option}"
            _check_takes_parts(option, Y, method)
        for name, value in (("fixed", fixed), ("mask", mask), ("weights", weights)):
            if value is not None:
                raise ValueError(f"{name}: expected None {beside}; got {type(value).__name__} (leave it out)")
        if not isinstance(Y, Blocks | Tensor):
            check_tensor("Y", Y)  # raises
        penalties = {"l1_H": l1_H, "l1_W": l1_W, "ridge_H": ridge_H, "ridge_W": ridge_W}
        options = {"seed": seed, "group": group, "split": split, "checkpoint": checkpoint, "progress": progress}
        with precise_products(Y.device):
            run, units = factorize_large(Y, k, method, init, budget, H0=H0, W0=W0, penalties=penalties, **options)
        return _factors(run, units, method, may_warn=tol > 0 and not stopped)

    problem, units, given = make_nmf_problem(
        Y,
        k,
        H0=H0,
        W0=W0,
        fixed=fixed,
        mask=mask,
        weights=weights,
        l1_H=l1_H,
        l1_W=l1_W,
        ridge_H=ridge_H,
        ridge_W=ridge_W,
        beta=method.beta,
    )
    _check_method(method, problem)

    with precise_products(Y.device):
        W, Ht = in_own_memory(problem, *_start(problem, units, method, given, init, seed))
        is_given = given.H is not None or given.W is not None
        if method.balances and is_given and max_iter > 0 and not (problem.penalized or problem.fixed):
            balance_(W, Ht)
        run = _without_unknown(method.run(problem, W, Ht, budget(units)), problem)
    incomplete = problem.weights is not None or isinstance(problem.Y, ObservedMatrix)
    if incomplete and max_iter > 0 and PredictionWarning not in _silenced.get():
        cure = "give ridge_H and ridge_W, take fewer components"
        warn_of_far_predictions(run.Ht.mT, run.W, problem.Y, problem.weights, cure)
    return _factors(run, units, method, may_warn=tol > 0 and not stopped)


def _check_method(method: Method, problem: NMFProblem) -> None:
    """Raise where the method cannot work with what is given."""
    if problem.plain and method.beta > 0:
        return
    needed = {
        "weights": problem.weights is not None,
        "sparse": isinstance(problem.Y, SparseMatrix),
        "fixed": problem.fixed > 0,
    }
    arguments = {"weights": "mask, weights", "sparse": "Y", "fixed": "fixed"}
    for name, wanted in needed.items():
        if wanted and name not in method.takes:
            expected = "a dense tensor" if name == "sparse" else "None"
            raise ValueError(
                f'{arguments[name]}: expected {expected} for method {type(method).__name__}; use "hals", "anls" or "mu"'
            )
    if isinstance(problem.Y, ObservedMatrix) and "observed" not in method.takes:
        raise ValueError(
            'method, solver: expected "hals", or "mu" with the squared error, where what is not stored is not known;'
            f" got {method!r}"
        )
    if method.beta <= 0 and has_zeros(problem.Y, problem.weights):
        raise zeros_refused("Y")


def _start(problem: NMFProblem, units: Units, method: Method, given: Given, init: str, seed: Seed) -> Start:
    """What to start from: given, drawn, or zeros for a method that makes its own."""
    if not method.needs_start:
        if given.H is not None or given.W is not None:
            raise ValueError(
                f"H0, W0: expected none for method {type(method).__name__}, which makes its own; got one (leave it out)"
            )
        (batch, n, m), k = problem.Y.shape, problem.k
        return problem.dense.new_zeros(batch, n, k), problem.dense.new_zeros(batch, k, m)

    def drawn() -> Start:
        if problem.weights is None and given.fixed is None:
            return start(problem, units, init, seed)
        return partial_start(problem, given.fixed, lambda whole: start(whole, units, init, seed))

    return complete(problem, given, drawn, exact=not method.keeps_zeros)


def _without_unknown(run: Run, problem: NMFProblem) -> Run:
    """Zeros in the rows of H and the columns of W that nothing is known of, where a method leaves its start."""
    if isinstance(problem.Y, ObservedMatrix):
        rows, columns = problem.Y.known(2), problem.Y.known(1)
    elif problem.weights is not None:
        rows, columns = ((problem.weights > 0).any(dim) for dim in (2, 1))
    else:
        return run
    Ht = torch.where(rows.unsqueeze(1), run.Ht, 0.0)
    Ht[:, : problem.fixed] = run.Ht[:, : problem.fixed]
    return replace(run, W=torch.where(columns.unsqueeze(1), run.W, 0.0), Ht=Ht)


def _factors(run: Run, units: Units, method: Method, *, may_warn: bool) -> Factors:
    shape, finite = units.batch_shape, units.finite
    errors, converged = run.errors, run.converged
    if method.beta != 2:
        errors = units.divergences(errors, method.beta)
    if not units.whole:
        errors = torch.where(finite, errors, torch.nan)
        converged = converged & finite
    if may_warn and ConvergenceWarning not in _silenced.get() and not bool(converged.all()):
        warn_user(_complaint(method, finite, converged, len(errors) - 1), ConvergenceWarning)
    return Factors(
        *units.unscale_factors(run.Ht.mT, run.W, unit_basis=method.unit_basis),
        errors.reshape(len(errors), *shape),
        run.iterations.reshape(shape),
        converged.reshape(shape),
    )


@contextmanager
def without_complaint(*about: type[Warning]) -> Iterator[None]:
    """No such warning of ``factorize``, none at all by default, for a caller who tells of that himself.

    Filters of warnings would not do: they are those of all threads.
    """
    token = _silenced.set(about or (ConvergenceWarning, PredictionWarning))
    try:
        yield
    finally:
        _silenced.reset(token)


def _complaint(method: Method, finite: Tensor, converged: Tensor, iterations: int) -> str:
    """How many problems no iteration can help, and how many might need more of them."""
    broken, unfinished, count = int((~finite).sum()), int((finite & ~converged).sum()), converged.numel()
    parts = []
    if broken:
        parts.append(
            f"{broken} of {count} problems hold NaN or infinity in Y, H0 or W0, and their factors are NaN; remove or "
            "replace what is not finite"
        )
    if unfinished:
        parts.append(
            f"{unfinished} of {count} problems have not converged after {iterations} iterations; raise max_iter or "
            "tol, or see `converged` of the result"
        )
    return f"{type(method).__name__}: {'. '.join(parts)}"


def _check_takes_parts(name: str, Y: Tensor, method: Method) -> None:
    """Raise where the option ``name`` is given for what is not computed part by part."""
    if Y.layout != torch.strided or Y.ndim != 2:
        what = f"shape {tuple(Y.shape)}" if Y.layout == torch.strided else f"layout {Y.layout}"
        raise ValueError(f"{name}: expected it for one dense matrix (n, m) alone; got Y of {what} (leave {name} out)")
    if "parts" not in method.takes:
        raise ValueError(
            f'{name}: expected it with method "hals", "anls" or "mu" alone; got {type(method).__name__}'
            f" (leave {name} out)"
        )
