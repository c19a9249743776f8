"""A picture of parts that are made of parts."""

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_matrix, check_same_rows
from diffnmf.figures.drawing import FigureFile
from diffnmf.figures.montages import save_panels, unit_peak


def save_hierarchy(
    path: FigureFile,
    fine: Tensor,
    mixing: Tensor,
    image_shape: tuple[int, int],
    *,
    children: int = 6,
    title: str = "",
) -> None:
    """Save one picture of the coarse parts fine @ mixing, each before the fine parts that it is made of.

    A row is a coarse part, scaled to a maximum of 1, and the fine parts with the most weight in it, each as bright as
    its share: the weight times the length of the part, the largest of a row being white.

    Arguments:
        path: the file; its ending says the format (.png, .pdf, .svg). An older file is replaced as a whole.
        fine: (n, k₀), the fine parts as columns.
        mixing: (k₀, k₁) ≥ 0, what the coarse parts are made of.
        image_shape: (height, width) of an image, height · width = n.
        children: fine parts in a row, at most k₀ of them are shown.
        title: a line above.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.
    """
    for name, matrix in (("fine", fine), ("mixing", mixing)):
        if check_matrix(name, matrix).ndim > 2:
            raise ValueError(f"{name}: expected a single matrix; got {tuple(matrix.shape)}")
    check_same_rows("fine.T", fine.T, "mixing", mixing)
    mixing = mixing.to(fine.dtype)
    shown = min(check_count("children", children, at_least=1), fine.shape[1])
    save_panels(
        path,
        {"A coarse part, and the fine parts that it is made of, as bright as their shares": _rows(fine, mixing, shown)},
        image_shape,
        title=title,
        columns_per_row=shown + 1,
    )


def _rows(fine: Tensor, mixing: Tensor, shown: int) -> Tensor:
    """(n, k₁ · (1 + shown)): each coarse part before its fine parts."""
    shares = mixing * torch.linalg.vector_norm(fine, dim=0).unsqueeze(-1)  # (k₀, k₁)
    rows = []
    for coarse, share in zip(unit_peak(fine @ mixing).T, shares.T, strict=True):
        order = share.argsort(descending=True)[:shown]
        brightness = share[order] / share.max().clamp(min=torch.finfo(share.dtype).tiny)
        rows += [coarse.unsqueeze(-1), unit_peak(fine[:, order]) * brightness]
    return torch.cat(rows, dim=1)
