"""What the benchmarks share: images, bases to solve for, and tables of dataclasses as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.data import load_dataset
from diffnmf.data.images import ImageSet
from diffnmf.errors import DataUnavailableError
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import CoordinateDescent


def mnist_or_digits(data_dir: str | None) -> ImageSet:
    """The training images of MNIST, or the embedded digits where there is no MNIST."""
    try:
        return load_dataset("mnist", data_dir=data_dir).train
    except DataUnavailableError as error:
        print(f"{str(error).splitlines()[0]}: the embedded digits instead")
        return load_dataset("digits").train


def half_fitted_basis(Y: Tensor, k: int) -> Tensor:
    """H (*batch, n, k) of unit columns after ten rounds of HALS on Y (*batch, n, m), as in a half-trained model."""
    sweeps = NNLSLayer(CoordinateDescent(max_iter=3, finish=False), backward="detached")
    torch.manual_seed(0)
    H = torch.rand(*Y.shape[:-1], k, dtype=Y.dtype, device=Y.device)
    W = sweeps(H, Y)
    for _ in range(10):
        H = sweeps(W.mT, Y.mT, W0=H.mT).mT
        W = sweeps(H, Y, W0=W)
    return torch.nn.functional.normalize(H, dim=-2)


def save_csv(rows: Sequence[Any], path: Path) -> None:
    """Dataclasses of one kind, a row each."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
