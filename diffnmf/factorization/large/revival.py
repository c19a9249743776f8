"""Dead components of a large factorisation, and their revival: as ``revival.revive_``, by passes over the rows."""

import torch
from torch import Tensor

from diffnmf.factorization.large.part import Part


def revive_(part: Part, S: Tensor, D: Tensor) -> Tensor:
    """Give dead components another start, in place: the residuals of the columns of Y that are fitted worst.

    Where all components are alive, which is nearly always, this costs one small message.

    Returns:
        The components that have a new start, (1, k).
    """
    dead = torch.minimum(part.largest_of(S), D.amax(-1)) == 0
    revived = torch.zeros_like(dead)
    if not bool(dead.any()):
        return revived
    numbers = dead[0].nonzero().squeeze(-1)  # of the dead components
    if part.split == "W":
        numbers, parts = numbers[: part.total], _worst_rows(part, S, D, min(len(numbers), part.total))
        lengths = torch.linalg.vector_norm(parts, dim=1, dtype=torch.float64)
    else:
        numbers = numbers[: part.rows.width]
        parts, lengths = _worst_columns(part, S, D, len(numbers))
    worth = lengths > 10 * torch.finfo(S.dtype).eps * part.problem.square.sqrt()
    numbers, parts = numbers[worth], parts[worth]
    of_H, of_W = (D, S) if part.split == "W" else (S, D)
    of_H[0, numbers], of_W[0, numbers] = parts, 0.0
    revived[0, numbers] = True
    return revived


def _worst_rows(part: Part, S: Tensor, D: Tensor, count: int) -> Tensor:
    """The positive parts of the longest residuals of rows of X, the longest first: (count, F), for everybody."""
    kept = D.new_zeros(0, part.rows.width)
    for _, X, own in part.blocks(S):
        residual = torch.addmm(X, own[0].mT, D[0], alpha=-1)
        kept = _longest(torch.cat((kept, residual)), count)
    return _longest(part.processes.gather(kept), count).clamp(min=0)


def _longest(rows: Tensor, count: int) -> Tensor:
    return rows[torch.linalg.vector_norm(rows, dim=1).argsort(descending=True)[:count]]


def _worst_columns(part: Part, S: Tensor, D: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same of columns of X: of each residual the rows that are here, (count, rows), and the whole lengths."""
    squares = torch.zeros(part.rows.width, dtype=torch.float64, device=D.device)
    for _, X, piece in part.blocks(S):
        squares += torch.addmm(X, piece[0].mT, D[0], alpha=-1).double().square().sum(0)
    columns = part.processes.sums(squares)[0].argsort(descending=True)[:count]
    parts = S.new_empty(count, part.rows.count)
    for rows, X, piece in part.blocks(S):
        parts[:, rows] = torch.addmm(X[:, columns], piece[0].mT, D[0][:, columns], alpha=-1).mT.clamp(min=0)
    lengths = part.processes.sums(parts.double().square().sum(1))[0].sqrt()
    return parts, lengths
