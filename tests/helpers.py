"""What test files of several folders share: the solvers by what they promise, draws, comparisons."""

import csv
import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS, NNLSSolution, NNLSSolver

EXACT = [name for name, solver in SOLVERS.items() if solver().exact]
EXACT_TO_ROUNDING = [name for name in EXACT if SOLVERS[name]().tolerance == 0]
TRANSFORMABLE = [name for name in EXACT if SOLVERS[name]().transformable]
UNROLLABLE = [name for name, solver in SOLVERS.items() if "unrolled" in solver().backwards]
# Every solver as it comes, and those that can stop early once more without their finish.
EVERY: dict[str, NNLSSolver] = {name: solver() for name, solver in SOLVERS.items()}
EVERY |= {f"{name}, truncated": SOLVERS[name]().truncated(20) for name in UNROLLABLE if name in EXACT}


REAL_DATA = os.environ.get("DIFFNMF_DATA")
needs_data = pytest.mark.skipif(not REAL_DATA, reason="needs the real data sets: set DIFFNMF_DATA to their folder")

TIMES = {"train_seconds", "groups_per_second", "w_solver_share"}  # the only columns that differ from run to run


def slow(*cases: object) -> list[Any]:
    """Cases for ``parametrize`` that belong to the slow tests; a tuple is a case of several arguments."""
    several = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=pytest.mark.slow) for case in several]


def layer_of(solver: NNLSSolver, **options: object) -> NNLSLayer:
    """The layer of a solver, with the best gradient that it has."""
    return NNLSLayer(solver, backward=solver.backwards[0], **options)


def solve(solver: NNLSSolver, H: Tensor, Y: Tensor, **options: object) -> NNLSSolution:
    """``nnls`` with the best gradient that the solver has; only an exact one may not warn."""
    with warnings.catch_warnings():
        if not solver.exact:
            warnings.simplefilter("ignore", ConvergenceWarning)
        return nnls(H, Y, solver=solver, backward=solver.backwards[0], **options)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """In [0, 1); the same numbers in every dtype, up to rounding."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """From the standard normal distribution, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(rows: list, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype)


def close(value: Tensor, expected: object, atol: float = 1e-12) -> None:
    """Raise unless all entries agree."""
    torch.testing.assert_close(value, torch.as_tensor(expected, dtype=value.dtype), rtol=0, atol=atol)


def bytes_of(folder: Path) -> dict[str, str]:
    """What is in a folder: the hash of every file under its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def curves(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's curves, without the times."""
    with (folder / "curves.csv").open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        return [{name: float(value) for name, value in row.items() if name not in TIMES} for row in reader]
