"""All that only a GPU can tell, in a few minutes: is it right there, what does it take, and does it wait?

    python examples/check_cuda.py --device cuda --output cuda_check
    python examples/check_cuda.py --device cpu --output tried         # tries the program itself, on small problems

Writes check_cuda.json and check_cuda.md; ends with 1 where something is wrong there or could not be run.
"""

import argparse
import json
import sys
import time
import traceback
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import cuda_layer
import cuda_models
import torch
from cuda_measuring import Row, milliseconds

from diffnmf.errors import ConvergenceWarning
from diffnmf.hardware import AUTO, DEVICE_HELP, device_named, hardware
from diffnmf.kernels.cuda import calling

Section = dict[str, Row]


def machine(device: torch.device) -> Section:
    """The card and its ceilings: what reading and writing, and products in two precisions, can take at best."""
    about: Row = {"name": hardware(device), "torch": str(torch.__version__), "cuda": torch.version.cuda}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        about |= {"multiprocessors": card.multi_processor_count, "capability": f"{card.major}.{card.minor}"}
        about |= {
            "GiB": card.total_memory >> 30,
            "kernels in Triton": calling.available(30, torch.zeros(1, device=device)),
        }
    x = torch.rand(2**26 if device.type == "cuda" else 2**20, device=device)
    about["GB a second"] = round(8e-6 * x.numel() / milliseconds([x.clone], device))
    batch = 256 if device.type == "cuda" else 2
    for dtype in (torch.float32, torch.float64):
        a = torch.rand(batch, 784, 30, device=device, dtype=dtype)
        about[f"Gram matrices, {dtype}, ms"] = milliseconds([partial(torch.matmul, a.mT, a)], device)
    return {"machine": about}


SECTIONS = {
    "machine": machine,
    "the same as on the CPU": cuda_layer.agreement,
    "the layer": cuda_layer.layer,
    "beside others": cuda_layer.rivals,
    "warps": cuda_layer.warps,
    "compiled and recorded": cuda_layer.graphs,
    "sweeps of HALS": cuda_models.sweeps,
    "factorize": cuda_models.factorizations,
    "training steps": cuda_models.training_steps,
    "two processes": cuda_models.two_processes,
}


def run(device: torch.device, names: list[str]) -> dict[str, Any]:
    """The sections by name, each with its rows, its seconds, and the error that it ended with, if any."""
    result: dict[str, Any] = {}
    for name in names:
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                entry: dict[str, Any] = {"rows": SECTIONS[name](device)}
        except Exception as error:  # a failure is a result, too
            entry = {"rows": {}, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc(limit=-4)}
        entry["seconds"] = round(time.perf_counter() - start, 1)
        result[name] = entry
        print(f"{name}: {entry['seconds']} s, {'; '.join(problems({name: entry})) or 'fine'}", flush=True)
    return result


def problems(result: dict[str, Any]) -> list[str]:
    """What is wrong, in words."""
    found = []
    for name, entry in result.items():
        if "error" in entry:
            found.append(f"{name}: {entry['error'].splitlines()[0][:200]}")
        found += [f"{name}, {row}: {values}" for row, values in entry["rows"].items() if values.get("ok") is False]
    return found


def table(result: dict[str, Any], device: torch.device) -> str:
    """One table in Markdown: what was measured, and whether it is right."""
    lines = [f"# Check of {hardware(device)}", "", "| section | what | measured | right |", "| --- | --- | --- | --- |"]
    for name, entry in result.items():
        if "error" in entry:
            lines.append(f"| {name} | | {entry['error'].splitlines()[0][:200].replace('|', '/')} | **no** |")
        for row, values in entry["rows"].items():
            right = {True: "yes", False: "**no**", None: ""}[values.get("ok")]
            cells = "; ".join(f"{key}: {_short(x)}" for key, x in values.items() if key != "ok" and x is not None)
            lines.append(f"| {name} | {row} | {cells.replace('|', '/')} | {right} |")
    return "\n".join([*lines, ""])


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(x)}" for key, x in value.items() if not isinstance(x, dict))
    return str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=AUTO, help=DEVICE_HELP)
    parser.add_argument("--output", type=Path, default=Path("cuda_check"), help="The folder for the results.")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="By default all.")
    options = parser.parse_args()
    device = device_named(options.device)
    result = run(device, options.sections)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "check_cuda.json").write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
    (options.output / "check_cuda.md").write_text(table(result, device), encoding="utf-8")
    wrong = problems(result)
    print(*wrong, f"{len(wrong)} problems; {options.output}", sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
