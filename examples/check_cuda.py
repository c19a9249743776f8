"""All that only a GPU can tell, in a few minutes: is it right there, what does it take, and does it wait?

    python examples/check_cuda.py --device cuda --output cuda_check
    python examples/check_cuda.py --device cpu --output tried         # tries the program itself, on small problems

Writes check_cuda.json and check_cuda.md, anew after every row, so that a run that is cut off leaves what it has seen;
ends with 1 where something is wrong there or could not be run. After an error that the device does not recover from,
such as an illegal memory access, all that follows fails: run the rest by itself, with --sections and another --output.
"""

import argparse
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cuda_layer
import cuda_models
import torch
from cuda_measuring import Row, Section, milliseconds

from diffnmf.errors import ConvergenceWarning
from diffnmf.hardware import AUTO, DEVICE_HELP, device_option, hardware
from diffnmf.kernels.cuda import calling


def machine(device: torch.device) -> Section:
    """The card and its ceilings: what reading and writing, and products in two precisions, can take at best."""
    return {"machine": partial(_machine, device)}


def _machine(device: torch.device) -> Row:
    about: Row = {"name": hardware(device), "torch": str(torch.__version__), "cuda": torch.version.cuda}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        about |= {"multiprocessors": card.multi_processor_count, "capability": f"{card.major}.{card.minor}"}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            runs = calling.available(30, torch.zeros(1, device=device))
        about |= {
            "GiB": card.total_memory >> 30,
            "kernels in Triton": "; ".join(["yes" if runs else "no", *(str(warning.message) for warning in said)]),
            "ok": runs or card.major < 8,
        }
    x = torch.rand(2**26 if device.type == "cuda" else 2**20, device=device)
    about["GB a second"] = round(8e-6 * x.numel() / milliseconds([x.clone], device))
    batch = 256 if device.type == "cuda" else 2
    for dtype in (torch.float32, torch.float64):
        a = torch.rand(batch, 784, 30, device=device, dtype=dtype)
        about[f"Gram matrices, {dtype}, ms"] = milliseconds([partial(torch.matmul, a.mT, a)], device)
    return about


SECTIONS: dict[str, Callable[[torch.device], Section]] = {
    "machine": machine,
    "the same as on the CPU": cuda_layer.agreement,
    "the layer": cuda_layer.layer,
    "beside others": cuda_layer.rivals,
    "compiled and recorded": cuda_layer.graphs,
    "sweeps of HALS": cuda_models.sweeps,
    "factorize": cuda_models.factorizations,
    "not known or not stored": cuda_models.incomplete,
    "training steps": cuda_models.training_steps,
    "two processes": cuda_models.two_processes,
    "warps": cuda_layer.warps,  # compiles most, and nothing hangs on it
}


def run(device: torch.device, names: list[str], output: Path) -> dict[str, Any]:
    """The sections by name, each with its rows, its seconds, and the error that it ended with, if any; written, too."""
    output.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    for name in names:
        start = time.perf_counter()
        entry: dict[str, Any] = {"rows": {}}
        result[name] = entry
        try:
            section = SECTIONS[name](device)
        except Exception as error:  # a failure is a result, too
            section = {}
            entry.update(_failure(error))
        for row, measure in section.items():
            entry["rows"][row] = _measured(measure)
            _write(result, device, output)
        entry["seconds"] = round(time.perf_counter() - start, 1)
        _write(result, device, output)
        print(f"{name}: {entry['seconds']} s, {'; '.join(problems({name: entry})) or 'fine'}", flush=True)
    return result


def _write(result: dict[str, Any], device: torch.device, output: Path) -> None:
    (output / "check_cuda.json").write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
    (output / "check_cuda.md").write_text(table(result, device), encoding="utf-8")


def _measured(measure: Callable[[], Row]) -> Row:
    """A row, or how it failed: the others are measured all the same."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return measure()
    except Exception as error:
        return {"ok": False, **_failure(error)}


def _failure(error: Exception) -> Row:
    first = (str(error).splitlines() or [""])[0][:200]
    return {"error": f"{type(error).__name__}: {first}", "trace": traceback.format_exception(error)}


def problems(result: dict[str, Any]) -> list[str]:
    """What is wrong, in words."""
    found = []
    for name, entry in result.items():
        if "error" in entry:
            found.append(f"{name}: {entry['error']}")
        wrong = {row: values for row, values in entry["rows"].items() if values.get("ok") is False}
        found += [f"{name}, {row}: {values.get('error', values)}" for row, values in wrong.items()]
    return found


def table(result: dict[str, Any], device: torch.device) -> str:
    """One table in Markdown: what was measured, and whether it is right."""
    lines = [f"# Check of {hardware(device)}", "", "| section | what | measured | right |", "| --- | --- | --- | --- |"]
    for name, entry in result.items():
        if "error" in entry:
            lines.append(f"| {name} | | {entry['error'].replace('|', '/')} | **no** |")
        for row, values in entry["rows"].items():
            right = {True: "yes", False: "**no**", None: ""}[values.get("ok")]
            shown = {key: x for key, x in values.items() if key not in ("ok", "trace") and x is not None}
            cells = "; ".join(f"{key}: {_short(x)}" for key, x in shown.items()).replace("|", "/")
            lines.append(f"| {name} | {row} | {' '.join(cells.split())} | {right} |")
    return "\n".join([*lines, ""])


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(x)}" for key, x in value.items() if not isinstance(x, dict))
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=device_option, default=AUTO, help=DEVICE_HELP)
    parser.add_argument("--output", type=Path, default=Path("cuda_check"), help="The folder for the results.")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="By default all.")
    options = parser.parse_args()
    device = options.device
    if device.index is not None:
        torch.cuda.set_device(device)  # events, streams and the profiler are those of the current device
    result = run(device, options.sections, options.output)
    wrong = problems(result)
    print(*wrong, f"{len(wrong)} problems; {options.output}", sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
