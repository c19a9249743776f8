"""Trained models that come with the library: registry.json says what each is, weights lie beside it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from diffnmf.checks import check_name
from diffnmf.errors import RunFolderError
from diffnmf.models.generator_config import GeneratorConfig

FOLDER = Path(__file__).parent
REGISTRY = "registry.json"
WITH_WEIGHTS = ("digits-k16", "mnist-k10", "mnist-k30", "fashion-k30")


def registry() -> dict[str, dict[str, Any]]:
    """Name -> what is known of the model.

    Each entry has ``model`` (the options of its ``GeneratorConfig``), ``data`` (``dataset``, ``group_size``,
    ``order``), ``command`` and ``seed`` of its training, ``metrics`` (means over unseen groups, of the weights as they
    are stored, beside merging on the same groups), ``data_licence``, and ``sha256`` of its weights; None there says
    that no weights are given away.
    """
    return dict(json.loads((FOLDER / REGISTRY).read_text(encoding="utf-8")))


def is_pretrained(run: str | Path) -> bool:
    """Whether ``run`` is the name of a pretrained model, and not a folder that happens to be called like one."""
    return str(run) in registry() and not Path(run).exists()


def pretrained_config(name: str) -> GeneratorConfig:
    """The options of a pretrained model; errors as ``pretrained_state``."""
    return GeneratorConfig(**_entry(name)["model"])


def pretrained_state(name: str) -> Mapping[str, Tensor]:
    """The weights of a pretrained model in float32. They are stored in half precision.

    Raises:
        TypeError, ValueError: no model has that name, or it is one without weights; the message says which have some.
        RunFolderError: its file is missing or damaged.
    """
    entry, file = _entry(name), FOLDER / f"{name}.safetensors"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{file}: expected the weights of {name!r}; {error} (install diffnmf again)") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise RunFolderError(f"{file}: damaged, its sha256 is not that of {REGISTRY} (install diffnmf again)")
    try:
        return {key: tensor.to(torch.float32) for key, tensor in safetensors.load(content).items()}
    except SafetensorError as error:
        raise RunFolderError(f"{file}: not the weights of a model: {error}") from error


def _entry(name: str) -> dict[str, Any]:
    """What the registry says of a model with weights."""
    known = registry()
    if isinstance(name, str) and name in known and name not in WITH_WEIGHTS:
        raise ValueError(
            f"name: expected a pretrained model with weights, {', '.join(WITH_WEIGHTS)}; got {name!r}, whose images "
            f"are for research only (train it: {known[name]['command']})"
        )
    return known[check_name("name", name, WITH_WEIGHTS)]
