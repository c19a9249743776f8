"""Which device is meant by a name, what it is called, and the time when it is done."""

import argparse
import platform
import time

import torch

AUTO = "auto"
DEVICE_HELP = "auto (CUDA where there is one, else the CPU), cpu, cuda or cuda:N."


def device_named(name: str) -> torch.device:
    """The device that an option means: "auto" is CUDA where torch sees such a device, and the CPU elsewhere.

    Raises:
        ValueError: there is no such device here, or it does not compute in float64.

    Example:
        >>> from diffnmf.hardware import device_named
        >>> device_named("cpu")
        device(type='cpu')
    """
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N (the solvers compute in float64); got {name!r}")
    if device.type == "cpu":
        return torch.device("cpu")  # there is one, whatever number it is given
    if (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: torch sees {torch.cuda.device_count()} CUDA devices; got {name!r} (use --device cpu)"
        )
    return device


def device_option(name: str) -> torch.device:
    """``device_named`` as the ``type`` of an option of ``argparse``, which shows its message."""
    try:
        return device_named(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def now(device: torch.device) -> float:
    """Seconds of a clock, once a GPU has done what it was told until now."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def hardware(device: torch.device | str) -> str:
    """The name of a GPU, or the kind of processor and the threads that torch has there."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads a process"
    return str(device)
