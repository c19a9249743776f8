"""The weights of a run as files: what one holds, and what to do about one that is gone or damaged."""

import shlex
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from diffnmf.errors import RunFolderError
from diffnmf.models import GANUNMF
from diffnmf.models.saved_model import default_weights
from diffnmf.runs.run_folder import RunFolder


def load_trained(path: str | Path, weights: str | None, device: torch.device | str = "cpu") -> GANUNMF:
    """``GANUNMF.load``, whose error says of weights that are gone or damaged how they come back."""
    try:
        return GANUNMF.load(path, weights=weights, device=device)
    except RunFolderError as error:
        folder = Path(path)
        name = default_weights(folder) if weights is None else weights
        file = folder / f"{name}.safetensors"
        if str(file) not in str(error) or tensors_of(file) is not None:  # the fault is elsewhere
            raise
        raise RunFolderError(f"{error} ({_remedy(folder, name)})") from error


def tensors_of(file: Path) -> dict[str, Tensor] | None:
    """What is in a file of weights, on the CPU; None where there is no such file, or it is damaged."""
    try:
        return safetensors.load_file(file)
    except (OSError, SafetensorError):
        return None


def holds(file: Path, state: dict[str, Tensor]) -> bool:
    """Whether a file has just these weights, bit for bit."""
    saved = tensors_of(file)
    return (
        saved is not None
        and saved.keys() == state.keys()
        and all(saved[name].dtype == x.dtype and torch.equal(saved[name], x.cpu()) for name, x in state.items())
    )


def _remedy(path: Path, name: str) -> str:
    try:
        folder, config = RunFolder.open(path)
    except RunFolderError:  # a model that was saved alone
        return "put a copy of it back"
    if not any(file.exists() for file in (folder.checkpoints.last, folder.checkpoints.previous)):
        return "put a copy of it back"
    if name == "ema" and not config.training.ema_decay:
        return "this run was trained without a moving average; take --weights best or generator"
    resume = f"diffnmf train --resume {shlex.quote(str(path))}"
    if name == "best":  # the checkpoint has the weights of its own epoch only
        return f"take --weights generator, or delete it; {resume} writes it again where the last epoch was the best"
    return f"{resume} writes it again from the checkpoint"
