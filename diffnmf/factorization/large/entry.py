"""``factorize`` for a matrix that is read in blocks, or that several processes share."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_expands, check_flag, check_matrix, check_name, check_same_device
from diffnmf.factorization.alternating import AlternatingMethod
from diffnmf.factorization.base import Budget, Method, Run, balance_
from diffnmf.factorization.divergence import zeros_refused
from diffnmf.factorization.hals import HALS
from diffnmf.factorization.initialization import RACE
from diffnmf.factorization.large.blocks import Blocks
from diffnmf.factorization.large.checkpoint import Checkpoints
from diffnmf.factorization.large.part import Part
from diffnmf.factorization.large.processes import Processes, share
from diffnmf.factorization.large.rows import Rows, SourceRows, TensorRows, rows_per_block
from diffnmf.factorization.large.run import LargeRun
from diffnmf.factorization.large.start import Start, start_of
from diffnmf.factorization.large.survey import mark_of_all, mark_of_rows, survey
from diffnmf.factorization.nmf_problem import NMFProblem, Units
from diffnmf.factorization.problem_input import check_start_size, make_penalties
from diffnmf.files import check_output
from diffnmf.lock import locked_output
from diffnmf.solvers.devices import check_float64

FACTOR_COPIES = 3  # of each factor: itself, where its last step ended, and the product that its next one begins from
SPLITS = ("columns", "rows")


def factorize_large(
    Y: Tensor | Blocks,
    k: int,
    method: Method,
    init: str,
    budget: Callable[[Units], Budget],
    *,
    H0: Tensor | None,
    W0: Tensor | None,
    penalties: dict[str, float],
    seed: Any,
    group: Any,
    split: str,
    checkpoint: Any,
    progress: bool,
) -> tuple[Run, Units]:
    """What ``factorize`` does with such a matrix, after its own checks; the arguments are its own.

    Arguments:
        budget: makes the budget of the run, whose observer needs the units.

    Returns:
        The run, with the part of this process in one of the factors, and the units.
    """
    if "parts" not in method.takes or not isinstance(method, AlternatingMethod):
        raise ValueError(
            f'method: expected "hals", "anls" or "mu" for a matrix in blocks or parts; got {type(method).__name__}'
            " (others take a matrix in memory)"
        )
    if not isinstance(seed, int):
        raise ValueError(f"seed: expected one int for a single matrix; got {seed!r} (one start serves all)")
    k = check_count("k", k, at_least=1)
    progress = check_flag("progress", progress)
    if checkpoint is not None:  # before the first pass over the data
        check_output(Path(checkpoint), "checkpoint")
    part = make_part(Y, k, group, split, penalties, method.beta, fingerprint=checkpoint is not None)
    limits = budget(part.units)
    checkpoints = None
    held: AbstractContextManager[None] = nullcontext()
    if checkpoint is not None:
        if part.processes.rank == 0:  # two runs would remove each other's files
            held = locked_output(Path(checkpoint), "checkpoint")
        identity = _identity(part, method, init, limits, penalties, seed)
        if H0 is not None or W0 is not None:
            identity |= {"init": "given", **_marks(part, H0, W0)}
        checkpoints = Checkpoints(Path(checkpoint), identity)

    def race(start: Start) -> tuple[Start, float]:
        run = LargeRun(part, HALS(), Budget(tol=0.0, max_iter=RACE, observer=None)).run(*start)
        S, D = part.factors(run.W, run.Ht)
        return (S, D), float(part.objective(run.errors[-1], S, D))

    with held:
        if checkpoints is not None and checkpoints.exists():
            S, D = _empty(part)
        elif H0 is None and W0 is None:
            S, D = start_of(part, init, seed, race)
        else:
            S, D = _given_start(part, method, H0, W0)
            if method.balances and limits.max_iter > 0 and not part.problem.penalized:
                balance_(S, D, part.processes.sums(S.double().square().sum(-1))[0])
        return LargeRun(part, method, limits, checkpoints, progress).run(S, D), part.units


def make_part(
    Y: Tensor | Blocks,
    k: int,
    group: Any,
    split: str,
    penalties: dict[str, float],
    beta: float,
    *,
    fingerprint: bool = False,
) -> Part:
    """Check the matrix, in one pass over it, and bring it to the scaled units."""
    device = Y.device
    processes = Processes(group, device)
    rows, factor, start, total = _rows_of(Y, k, split, processes)
    found = survey(rows, start, total, processes, fingerprint=fingerprint)
    if found.smallest < 0:
        raise ValueError(f"Y: expected entries ≥ 0; got {found.smallest:.3g} (clip or shift them)")
    if beta <= 0 and found.smallest == 0:
        raise zeros_refused("Y")
    root = found.root
    roots = torch.full((1, 1, 1), root, dtype=rows.dtype, device=device)
    dtype = Y.dtype if isinstance(Y, Tensor) else rows.dtype
    units = Units(torch.Size([]), dtype, roots, torch.ones(1, dtype=torch.bool, device=device), root == 1, True)
    of_W, of_H = make_penalties(roots, beta, None, **penalties)
    n, m = (rows.width, total) if factor == "W" else (total, rows.width)
    # Methods ask for the shape of Y, and for no entry: this one takes no memory.
    shape = torch.zeros((), dtype=rows.dtype, device=device).expand(1, n, m)
    problem = NMFProblem(shape, torch.tensor([found.square], dtype=torch.float64, device=device), k, of_W, of_H)
    return Part(rows.scaled(root), start, total, factor, processes, problem, units, found.mean, found.fingerprint)


def _rows_of(Y: Tensor | Blocks, k: int, split: str, processes: Processes) -> tuple[Rows, str, int, int]:
    """The rows X of this process, the factor that lives with them, the number of the first, and how many all have."""
    if isinstance(Y, Blocks):
        total, width = Y.source.shape
        start, stop = share(total, processes)
        factors = FACTOR_COPIES * k * (stop - start + width) * (torch.finfo(Y.dtype).bits // 8)
        rows: Rows = SourceRows(Y, start, stop, rows_per_block(Y, k, factors))
        factor = "W" if Y.transposed else "H"
    else:
        if Y.layout != torch.strided:
            raise ValueError("Y: expected a dense tensor in parts; got a sparse one (use Y.to_dense())")
        check_float64("Y", check_matrix("Y", Y))
        if Y.ndim != 2:
            raise ValueError(f"Y: expected a single matrix (n, m) in parts; got {tuple(Y.shape)}")
        factor = "W" if check_name("split", split, SPLITS) == "columns" else "H"
        X = Y.detach().to(torch.promote_types(Y.dtype, torch.float32))
        rows = TensorRows(X.mT.contiguous() if factor == "W" else X.contiguous())
        start, total, widths = _places(rows, processes)
        if len(set(widths)) > 1:
            side = "rows" if factor == "W" else "columns"
            raise ValueError(f"Y: expected parts with the same number of {side} in all processes; got {widths}")
    if total < processes.size:
        raise ValueError(
            f"group: expected at most one process a row of the data, {total}; got {processes.size} (use fewer)"
        )
    return rows, factor, start, total


def _places(rows: Rows, processes: Processes) -> tuple[int, int, list[int]]:
    """The number of the first row that is here, how many there are, and the widths of all parts."""
    here = torch.tensor([[rows.count, rows.width]], device=rows.device)
    counts, widths = processes.gather(here).unbind(1)
    if bool((counts == 0).any()):
        raise ValueError(
            "Y: expected a part that is not empty in every process; got an empty one (use fewer processes)"
        )
    return int(counts[: processes.rank].sum()), int(counts.sum()), widths.tolist()


def _empty(part: Part) -> Start:
    k, like = part.problem.k, part.rows
    shapes = ((1, k, like.count), (1, k, like.width))
    return tuple(torch.zeros(x, dtype=like.dtype, device=like.device) for x in shapes)  # type: ignore[return-value]


def _given_start(part: Part, method: AlternatingMethod, H0: Tensor | None, W0: Tensor | None) -> Start:
    """S and D of factors that are given: of the split one the part of this process. A missing one fits the other."""
    H, W = _given_factors(part, H0, W0)
    if (H is None or W is None) and method.keeps_zeros:
        raise ValueError(
            'H0, W0: expected both for method "mu" with a matrix in blocks or parts; got one (give init instead)'
        )
    check_start_size(H, W)
    Ht = None if H is None else H.mT.contiguous()
    S, D = (W, Ht) if part.split == "W" else (Ht, W)
    return part.fitted(S, D)


def _given_factors(part: Part, H0: Tensor | None, W0: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """H0 (1, n, k) and W0 (1, k, m), of the split one the part of this process, checked and in the scaled units."""
    k, like = part.problem.k, part.rows
    n, m = (like.width, like.count) if part.split == "W" else (like.count, like.width)
    return _given("H0", H0, (n, k), part), _given("W0", W0, (k, m), part)


def _given(name: str, X: Tensor | None, shape: tuple[int, int], part: Part) -> Tensor | None:
    if X is None:
        return None
    check_matrix(name, X)
    check_same_device(name, X, "Y", part.rows.device)
    X = check_expands(name, X.detach(), shape)
    if not bool(X.isfinite().all()) or bool((X < 0).any()):
        raise ValueError(f"{name}: expected finite entries ≥ 0; got others (clip or replace them)")
    return part.units.scale(X.to(part.rows.dtype).unsqueeze(0)).clone(memory_format=torch.contiguous_format)


def _identity(
    part: Part, method: Method, init: str, budget: Budget, penalties: dict[str, float], seed: int
) -> dict[str, Any]:
    """What makes a run what it is; how long it may go on, and by how many processes, is not part of it."""
    _, n, m = part.problem.Y.shape
    # In the order in which differences are told: what the user chose, then what follows from the data.
    plain = {"n": n, "m": m, "k": part.problem.k, "split": part.split, "dtype": str(part.rows.dtype)}
    plain |= {"method": _described(method), "init": init, "seed": seed, "tol": budget.tol, **penalties}
    # ‖Y‖² in the scaled units, and these, by their root: penalties are not alike in others.
    plain |= {"square": float(part.problem.square), "scale": float(part.units.root)}
    return plain | {"fingerprint": part.fingerprint}


def _marks(part: Part, H0: Tensor | None, W0: Tensor | None) -> dict[str, str]:
    """What given factors are known by, however many processes share them."""
    marks = {}
    for name, X in zip(("H0", "W0"), _given_factors(part, H0, W0), strict=True):
        if X is None:
            marks[name] = ""
            continue
        rows = X[0] if name == "H0" else X[0].mT.contiguous()
        if part.split == name[0]:
            marks[name] = mark_of_all(mark_of_rows(rows, part.start), part.processes, part.rows.device)
        else:  # every process has all of it
            marks[name] = f"{mark_of_rows(rows, 0):016x}"
    return marks


def _described(method: Method) -> str:
    """A method by the options that are not the default ones: another option, added later, makes no other run of it."""
    assert is_dataclass(method)
    options = [(option.name, option.default, getattr(method, option.name)) for option in fields(method)]
    chosen = [f"{name}={value!r}" for name, default, value in options if value != default]
    return f"{type(method).__name__}({', '.join(chosen)})"
