"""The files of a model: model.yaml, which says what it is, and its weights as safetensors."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from diffnmf.checks import check_name
from diffnmf.errors import RunFolderError
from diffnmf.files import replacing
from diffnmf.models.generator_config import GeneratorConfig
from diffnmf.options import options_of

CONFIG_FILE = "model.yaml"
WEIGHTS = ("best", "generator", "ema")  # in the order in which they are looked for


def default_weights(folder: Path) -> str:
    """The best weights that a folder has."""
    return next((name for name in WEIGHTS if (folder / f"{name}.safetensors").exists()), "generator")


def check_no_run(folder: Path) -> None:
    """Raise RunFolderError where a folder has weights of a training run: ``load`` would take them, not those saved."""
    others = [name for name in WEIGHTS if name != "generator" and (folder / f"{name}.safetensors").exists()]
    if others:
        raise RunFolderError(
            f"path: expected a folder without a training run; {folder} holds its {others[0]}.safetensors, which load"
            " would prefer (take another folder)"
        )


def save_config(config: GeneratorConfig, folder: Path) -> None:
    """Write model.yaml."""
    content = {**asdict(config), "image_shape": list(config.image_shape)}  # YAML has no tuples
    with replacing(folder / CONFIG_FILE) as file:
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def load_config(folder: Path) -> GeneratorConfig:
    """Read model.yaml; RunFolderError where it is missing or holds something else."""
    file = folder / CONFIG_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"path: expected the folder of a model; {folder} has no {CONFIG_FILE}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise RunFolderError(f"{file}: expected the configuration of a model in YAML; {error}") from error
    known = [option.name for option in options_of(GeneratorConfig)]
    if not isinstance(content, Mapping) or not {"image_shape", "m", "k"} <= content.keys() <= set(known):
        raise RunFolderError(f"{file}: expected the entries {', '.join(known)}; got {content!r}")
    try:
        return GeneratorConfig(**content)
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{file}: {error}") from error


def save_weights(state: dict[str, Tensor], file: Path, metadata: dict[str, Any] | None = None) -> None:
    """Write a state dict as safetensors, as a whole or not at all.

    Arguments:
        state: tensors by name.
        file: its name ends in .safetensors.
        metadata: plain values kept in the header, as text.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    content = safetensors.save(tensors, {name: str(value) for name, value in (metadata or {}).items()} or None)
    with replacing(file) as unfinished:
        unfinished.write_bytes(with_sorted_metadata(content))


def with_sorted_metadata(content: bytes) -> bytes:
    """The bytes of a safetensors file with its metadata in the order of their names.

    The library that makes them keeps metadata in a hash table, so that equal files differ in their headers.
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # what follows is aligned
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def load_weights(generator: nn.Module, folder: Path, weights: str | None = None) -> None:
    """Give a generator the weights of a folder, in their dtype.

    Arguments:
        generator: made by the configuration of the folder.
        folder: that of a model or a run.
        weights: one of ``WEIGHTS``; by default the first of them that is there.

    Raises:
        RunFolderError: they are missing, damaged, not finite, or of another generator; the message names the file.
        ValueError: ``weights`` is unknown.
    """
    name = default_weights(folder) if weights is None else check_name("weights", weights, WEIGHTS)
    file = folder / f"{name}.safetensors"
    try:
        generator.load_state_dict(safetensors.load_file(file), assign=True)  # in their dtypes, not in float32
    except FileNotFoundError as error:
        raise RunFolderError(f"{file}: expected the weights of a model; there is no such file") from error
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{file}: not the weights of a model, or damaged: {error}") from error
    except RuntimeError as error:
        raise RunFolderError(f"{file}: does not fit {folder / CONFIG_FILE}: {error}") from error
    if spoiled := [name for name, tensor in generator.state_dict().items() if not tensor.isfinite().all()]:
        raise RunFolderError(
            f"{file}: expected finite weights; got NaN or infinity in {spoiled[0]} (take other weights of the run)"
        )
