"""The sections of ``check_cuda.py`` about factorisation and training."""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

import torch
from cuda_measuring import Row, Section, images_like, kernels, milliseconds, off_by, waits, without_triton
from torch import Tensor

from diffnmf.data import GroupSampler, ImageSet
from diffnmf.factorization import Factors, factorize
from diffnmf.factorization.hals import sweep_
from diffnmf.models import Critic, Generator, GeneratorConfig
from diffnmf.training import Trainer, TrainingConfig
from diffnmf.training.engine import make_accelerator
from diffnmf.training.randomness import seeded

ALLOWED_ERROR = 1e-2  # by which the error of the same method may differ: iterates part in rounding
MAX_WAITS = 2  # of a training step: that of its solve, and of its batches now and then


def factorizations(device: torch.device) -> Section:
    """Errors against the CPU, with TF32 allowed and not, and the time of an iteration and of a whole run."""
    rows: Section = {
        f"{method}, {precision}": partial(_factorization, device, method, precision)
        for method in ("hals", "anls", "mu")
        for precision in ("highest", "high")
    }
    groups = 1355 if device.type == "cuda" else 2
    return rows | {f"hals, {groups} groups, tol = 0.01": partial(_whole_run, device, groups)}


def _factorization(device: torch.device, method: str, precision: str) -> Row:
    batch, k = (256, 30) if device.type == "cuda" else (2, 5)
    Y = images_like(batch)[1].float()
    expected = _error(factorize(Y[:2], k, method=method, max_iter=30, tol=1e-3))
    torch.set_float32_matmul_precision(precision)
    try:
        found = factorize(Y.to(device), k, method=method, max_iter=30, tol=1e-3)
        each = _ms_an_iteration(Y.to(device), k, method, device)
    finally:
        torch.set_float32_matmul_precision("highest")
    error = _error(found)
    return {
        "relative error": error,
        "on the CPU": expected,
        "converged": int(found.converged.sum()),
        "ms an iteration": each,
        "ok": abs(error - expected) <= ALLOWED_ERROR * expected,
    }


def _whole_run(device: torch.device, groups: int) -> Row:
    """The second of two: the first one compiles, and asks the device for memory."""
    Y = images_like(groups)[1].float().to(device)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        found = factorize(Y, 30 if device.type == "cuda" else 5, tol=1e-2)
        error = float(found.errors[-1].mean())  # waits for it
        seconds.append(round(time.perf_counter() - start, 3))
    first, second = seconds
    return {"s": second, "first s": first, "iterations": int(found.iterations.max()), "relative error": error}


def _error(factors: Factors) -> float:
    return float(factors.errors[-1][:2].mean())


def _ms_an_iteration(Y: Tensor, k: int, method: str, device: torch.device) -> float:
    """From runs of ten and of thirty iterations: what they have in common is no part of it."""
    calls = (partial(factorize, Y, k, method=method, init="random", max_iter=n, tol=0) for n in (10, 30))
    few, many = (milliseconds([call], device, 3) for call in calls)
    return round((many - few) / 20, 4)


def incomplete(device: torch.device) -> Section:
    """Entries that count less, or are not known, or not stored: errors against the CPU, and times."""
    n, m = (4000, 2000) if device.type == "cuda" else (60, 40)
    g = torch.Generator().manual_seed(0)
    H, W = (torch.rand(*shape, generator=g) for shape in ((n, 20), (20, m)))
    Y, chance = H @ W, torch.rand(n, m, generator=g)
    stored = torch.where(chance < 0.05, Y, 0.0).to_sparse_csr()
    given: dict[str, tuple[Tensor, dict[str, Any]]] = {
        "weights": (Y, {"weights": chance}),
        "mask": (Y, {"mask": chance < 0.5}),
        "sparse": (stored, {}),
        "sparse, the rest not known": (stored, {"mask": "stored"}),
    }
    return {name: partial(_incomplete, device, data, options) for name, (data, options) in given.items()}


def _incomplete(device: torch.device, Y: Tensor, options: dict[str, Any]) -> Row:
    k = 20 if device.type == "cuda" else 5
    there: dict[str, Any] = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in options.items()}
    run = partial(factorize, init="random", max_iter=10, tol=0)
    expected = float(run(Y, k, **options).errors[-1])
    Y = Y.to(device)
    error = float(run(Y, k, **there).errors[-1])
    each = milliseconds([partial(run, Y, k, **there)], device, 3) / 10
    row: Row = {"relative error": error, "on the CPU": expected, "ms an iteration": each}
    return row | {"ok": abs(error - expected) <= ALLOWED_ERROR * expected}


def sweeps(device: torch.device) -> Section:
    """Both half-steps of HALS against the CPU, and their times in one launch and without Triton."""
    batch = 256 if device.type == "cuda" else 2
    return {
        f"k = {k}, {width} columns, {dtype}": partial(_half_step, device, batch, k, width, dtype)
        for dtype, k in ((torch.float32, 10), (torch.float32, 30), (torch.float32, 128), (torch.float64, 30))
        for width in (784, 40)
    }


def _half_step(device: torch.device, batch: int, k: int, width: int, dtype: torch.dtype) -> Row:
    g = torch.Generator().manual_seed(0)
    M, C, start, past = (torch.rand(batch, k, width, generator=g, dtype=dtype) for _ in range(4))
    parts = [M @ M.mT, C * width / 4, start, past, torch.full((batch, 1, 1), 0.3, dtype=dtype)]
    there = [x.to(device) for x in parts]

    def step(A: Tensor, C: Tensor, X: Tensor, past: Tensor, beta: Tensor) -> Tensor:
        sweep_(A, C, X, 3, past, beta)
        return X

    error = off_by(step(*(x.clone() for x in there)), step(*(x.clone() for x in parts)))
    row: Row = {
        "X": error,
        "ms": milliseconds([partial(step, *there)], device),
        "launched": kernels(partial(step, *there), device),
        "ok": error <= (1e-4 if dtype == torch.float32 else 1e-11),
    }
    with without_triton():
        return {**row, "ms without Triton": milliseconds([partial(step, *there)], device)}


def training_steps(device: torch.device) -> Section:
    """The default model on noise: both precisions, every start, channels last, deterministic."""
    every: dict[str, dict[str, Any]] = {
        "float32": {},
        "bfloat16": {"precision": "bfloat16"},
        "fc": {"w_solver": "fc"},
        "mixture": {"mixture": True},
        "merge": {"basis_init": "merge"},
        "channels last": {"channels_last": True},
        "bfloat16, channels last": {"precision": "bfloat16", "channels_last": True},
        "deterministic": {"deterministic": True, "mixture": True},
    }
    return {name: partial(_training_step, device, **options) for name, options in every.items()}


def _training_step(
    device: torch.device,
    *,
    precision: str = "float32",
    channels_last: bool = False,
    deterministic: bool = False,
    **options: object,
) -> Row:
    small = device.type != "cuda"
    shape, m, k, width = ((8, 8), 12, 5, 8) if small else ((28, 28), 40, 30, 48)
    with seeded(0, deterministic=deterministic):
        pixels = images_like(1, shape[0] * shape[1], m=60 * m)[1][0].mT.clamp(0, 1).float()
        images = ImageSet("noise", pixels.reshape(-1, *shape).to(device), None)
        generator = Generator(GeneratorConfig(shape, m, k, width=width, **options))  # type: ignore[arg-type]
        critic = Critic(shape, m, width=width)
        accelerator = make_accelerator(device, precision)
        config = TrainingConfig(batch_size=4, precision=precision)
        trainer = Trainer(generator, critic, GroupSampler(images, m), config, accelerator)
        if channels_last:
            for model in (trainer.generator, critic):
                model.to(memory_format=torch.channels_last)
        plan = trainer._plan(1)
        batches = [plan.batch(*part) for part in plan.slices(0)]
        step = partial(trainer.step, batches)
        each = milliseconds([step], device, 10)
        where = waits(step, device)
        loss = float(trainer.step(batches)["reconstruction_loss"])
        return {
            "ms a step": each,
            "groups a second": round(1e3 * config.batch_size / each),
            "waits": where,
            "launched": kernels(step, device),
            "ok": loss == loss and (where is None or len(where) <= MAX_WAITS),  # not NaN
        }


def two_processes(device: torch.device) -> Section:
    """A training on two GPUs with NCCL, from the command line."""
    return {"two processes": partial(_two_processes, device)}


def _two_processes(device: torch.device) -> Row:
    cards = torch.cuda.device_count()
    if device.type != "cuda" or cards < 2:
        return {"not run": f"torch sees {cards} CUDA devices, and two are needed"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "diffnmf.cli", "train"]
        command += ["--dataset", "digits", "--epochs", "1", "--width", "8", "--k", "5", "--output", f"{folder}/run"]
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, timeout=240, check=False)
    row: Row = {"s": round(time.perf_counter() - start, 1), "ok": run.returncode == 0}
    return row if run.returncode == 0 else row | {"error": run.stderr[-500:]}
