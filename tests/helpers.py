"""What test files of several folders share: the solvers by what they promise, draws, comparisons."""

import torch
from torch import Tensor

from diffnmf.layers import NNLSLayer
from diffnmf.solvers import SOLVERS, NNLSSolver

EXACT = [name for name, solver in SOLVERS.items() if solver().exact]
EXACT_TO_ROUNDING = [name for name in EXACT if SOLVERS[name]().tolerance == 0]
TRANSFORMABLE = [name for name in EXACT if SOLVERS[name]().transformable]
UNROLLABLE = [name for name, solver in SOLVERS.items() if "unrolled" in solver().backwards]
# Every solver as it comes, and those that can stop early once more without their finish.
EVERY: dict[str, NNLSSolver] = {name: solver() for name, solver in SOLVERS.items()}
EVERY |= {f"{name}, truncated": SOLVERS[name]().truncated(20) for name in UNROLLABLE if name in EXACT}


def layer_of(solver: NNLSSolver, **options: object) -> NNLSLayer:
    """The layer of a solver, with the best gradient that it has."""
    return NNLSLayer(solver, backward=solver.backwards[0], **options)


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """In [0, 1); the same numbers in every dtype, up to rounding."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """From the standard normal distribution, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(rows: list, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype)


def close(value: Tensor, expected: object, atol: float = 1e-12) -> None:
    """Raise unless all entries agree."""
    torch.testing.assert_close(value, torch.as_tensor(expected, dtype=value.dtype), rtol=0, atol=atol)
