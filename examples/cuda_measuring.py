"""How the check of a GPU measures: times by events, waits by file and line, kernels by the profiler, peak memory."""

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.kernels.cuda import calling

Row = dict[str, Any]  # what was measured; with "ok" where it can be wrong
Section = dict[str, Callable[[], Row]]  # its rows, each measured by itself: one that fails costs no other


def images_like(B: int, n: int = 784, k: int = 30, m: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """H (B, n, k) with sparse parts, and Y (B, n, m), mixtures of a few of them with noise, in float64 on the CPU."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    H = draw(B, n, k) * (draw(B, n, k) < 0.25) + 0.01 * draw(B, n, k)
    W = draw(B, k, m) * (draw(B, k, m) < 0.3)
    return H, H @ W + 0.05 * draw(B, n, m)


def milliseconds(calls: Sequence[Callable[[], object]], device: torch.device, repeats: int = 20) -> float:
    """The median over calls on rotated inputs, after each has been made twice; on a GPU by events."""
    for call in (*calls, *calls):
        call()
    times = []
    for i in range(repeats if device.type == "cuda" else 3):
        call = calls[i % len(calls)]
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(device)
            start.record()
            call()
            end.record()
            torch.cuda.synchronize(device)
            times.append(start.elapsed_time(end))
        else:
            begun = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - begun))
    return round(statistics.median(times), 4)


def waits(call: Callable[[], object], device: torch.device) -> list[str] | None:
    """Where the host waits for the device, file and line; None where that cannot be seen."""
    if device.type != "cuda":
        return None
    call()
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


def kernels(call: Callable[[], object], device: torch.device) -> Row | None:
    """How many kernels are launched, what they take on the device, and the longest of them, in µs."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        call()
        torch.cuda.synchronize(device)
    # Spans that a program has named, such as the step of an optimiser, are no kernels.
    there = [e for e in profiler.events() if e.device_type.name == "CUDA" and not e.is_user_annotation]
    totals: dict[str, float] = {}
    for event in there:
        totals[event.name[:50]] = totals.get(event.name[:50], 0.0) + event.time_range.elapsed_us()
    longest = dict(sorted(totals.items(), key=lambda entry: -entry[1])[:6])
    return {"kernels": len(there), "device_us": round(sum(totals.values())), "longest_us": longest}


def peak_mib(call: Callable[[], object], device: torch.device) -> int | None:
    """What a call needs beside what is there, in MiB."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    return (torch.cuda.max_memory_allocated(device) - before) >> 20


def off_by(value: Tensor, expected: Tensor) -> float:
    """The largest difference in units of the largest entry; infinite where only one of them is NaN."""
    value, expected = value.detach().cpu().double(), expected.detach().cpu().double()
    if not torch.equal(value.isnan(), expected.isnan()):
        return float("inf")
    value, expected = value.nan_to_num(), expected.nan_to_num()
    return float((value - expected).abs().max() / expected.abs().max().clamp(min=1e-300))


@contextmanager
def without_triton() -> Iterator[None]:
    """With operations of torch alone, for what the kernels are worth."""
    before = set(calling.DEVICES)
    calling.DEVICES.clear()
    try:
        yield
    finally:
        calling.DEVICES.update(before)
