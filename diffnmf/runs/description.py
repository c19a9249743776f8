"""What there is, in words: a run, and the installation that would compute."""

import platform
from pathlib import Path
from typing import Any

import torch

from diffnmf.checks import check_name
from diffnmf.errors import RunFolderError
from diffnmf.hardware import AUTO, device_named, hardware
from diffnmf.kernels import kernel
from diffnmf.metrics.names import NAMES, with_current_names
from diffnmf.models.pretrained import registry
from diffnmf.runs.checkpoints import position
from diffnmf.runs.recorder import best_of
from diffnmf.runs.run_folder import RunFolder
from diffnmf.version import __version__

DIGITS = 4  # of the numbers of an epoch


def describe_installation() -> dict[str, Any]:
    """Versions, and the devices that ``--device auto`` has to choose from; plain values.

    Example:
        >>> import diffnmf
        >>> from diffnmf.runs import describe_installation
        >>> describe_installation()["diffnmf"] == diffnmf.__version__
        True
    """
    device = device_named(AUTO)
    gpus = [f"cuda:{i} ({hardware(f'cuda:{i}')})" for i in range(torch.cuda.device_count())]
    return {
        "diffnmf": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "torch": str(torch.__version__),
        "device": f"{device} ({hardware(device)}), which --device auto means here",
        "CUDA devices": gpus or "none that torch sees",
        "kernel on the CPU": f"{kernel().name} ({kernel().reason})",
    }


def describe_run(run: str | Path) -> dict[str, Any]:
    """What a run is, how far it is, and how well it does; plain values, nested.

    Raises:
        RunFolderError: there is no run, or its checkpoint is damaged or belongs to another one.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from diffnmf.runs import RunConfig, describe_run, run_experiment
        >>> config = RunConfig().with_options(dataset="digits", group_size=10, limit_groups=2, k=4, width=8, epochs=1)
        >>> with TemporaryDirectory() as folder:
        ...     result = run_experiment(config, f"{folder}/run", brief=True)
        ...     describe_run(result.folder)["checkpoint"]
        'after epoch 1 of 1'
    """
    folder, config = RunFolder.open(run)
    state = folder.checkpoints.load(config)
    done = 0 if state is None else state["epoch"]
    rows = folder.rows_until(state)
    try:
        parameters = 0 if state is None else sum(tensor.numel() for tensor in state["generator"].values())
    except (KeyError, AttributeError) as cause:
        raise RunFolderError(f"{folder.checkpoints.last}: not a checkpoint of this program: no weights") from cause
    about: dict[str, Any] = {
        "run": str(folder.path),
        "result": "none yet",
        "checkpoint": "none yet" if state is None else f"{position(state)} of {config.training.epochs}",
        "finished": folder.metrics_file.exists() and done == config.training.epochs,
        "parameters of the generator": f"{parameters:,}",
        "time of training": duration(sum(row.get("train_seconds", 0.0) for row in rows)),
    }
    if rows:
        error, weights, epoch = best_of(rows)
        about["result"] = f"{NAMES['relative_error']} {error:.2g} on unseen groups ({weights}, epoch {epoch})"
        about["last epoch"] = {name: _rounded(value) for name, value in with_current_names(rows[-1]).items()}
    return {**about, "configuration": config.to_dict()}


def describe_pretrained(name: str) -> dict[str, Any]:
    """What a pretrained model is, and how well it does; plain values, nested.

    Arguments:
        name: of the registry.

    Raises:
        ValueError: no model has that name.

    Example:
        >>> from diffnmf.runs import describe_pretrained
        >>> describe_pretrained("digits-k16")["result"]
        'relative error 0.23 on unseen groups (merging alone: 0.24)'
    """
    known = registry()
    entry = known[check_name("name", name, known)]
    error, of_merging = (scores["relative_error"] for scores in (entry["metrics"], entry["metrics"]["merge"]))
    return {
        "pretrained model": name,
        "result": f"{NAMES['relative_error']} {error:.2g} on unseen groups (merging alone: {of_merging:.2g})",
        "trained by": f"{entry['command']} --seed {entry['seed']}",
        "weights": "none, its images are for research" if entry["sha256"] is None else "in the library",
        "licence of its images": entry["data_licence"],
        "configuration": {"data": entry["data"], "model": entry["model"]},
    }


def duration(seconds: float) -> str:
    """A time as one says it.

    Example:
        >>> [duration(seconds) for seconds in (0.4, 1, 48, 720, 9000)]
        ['less than a second', '1 second', '48 seconds', '12 minutes', '2.5 hours']
    """
    if seconds < 0.5:
        return "less than a second"
    if seconds < 90:
        return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")
