"""The unit that samples are measured in, so that a system learns the same from samples of any scale."""

from typing import Any

import torch
from torch import Tensor, nn

from diffnmf.solvers.norms import one_where_zero


def register_size(model: nn.Module) -> None:
    """Give a model the buffer ``size``: 1 until ``fit`` sets it, and where an older state_dict has none."""
    model.register_buffer("size", torch.ones(()))
    model.register_load_state_dict_pre_hook(_add_size)


def size_of(X: Tensor) -> Tensor:
    """The largest entry of samples ≥ 0; 1 where all are zero."""
    return one_where_zero(X.amax())


def _add_size(model: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    state.setdefault(prefix + "size", torch.ones_like(model.size))
