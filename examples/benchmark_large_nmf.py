"""NMF of a file larger than the memory it may use: time a pass, peak memory, rivals; one process against two.

    python examples/benchmark_large_nmf.py --folder /somewhere/with/space            # 200,000 × 4,000 float32, 3.2 GB
    python examples/benchmark_large_nmf.py --folder /tmp --rows 20000 --columns 400  # small, to see that it runs

Every measurement is a process of its own, so that its peak memory is its own. "Cold" means that the file has been put
out of the operating system's cache before (Linux only).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffnmf import Blocks
from diffnmf.factorization import factorize
from diffnmf.factorization.large.processes import Processes
from diffnmf.factorization.large.rows import SourceRows, rows_per_block

RANK, PASSES = 40, 5


def make_file(path: Path, rows: int, columns: int) -> None:
    """Non-negative data of rank 40 with noise, some rows at a time."""
    random = np.random.default_rng(0)
    H = random.gamma(0.5, 1, (RANK, columns)).astype(np.float32)
    file = np.lib.format.open_memmap(path, "w+", np.float32, (rows, columns))
    for start in range(0, rows, 5000):
        W = random.gamma(0.3, 1, (min(5000, rows - start), RANK)).astype(np.float32)
        noise = random.random((len(W), columns), dtype=np.float32)
        file[start : start + len(W)] = W @ H + noise
    file.flush()


def forget(path: Path) -> None:
    """Put a file out of the cache of the operating system."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def peak() -> float:
    """Megabytes that this process has had at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reading(path: Path, k: int, memory: float) -> dict[str, Any]:
    """Read the file block by block, and nothing else: cold, then from the cache."""
    seconds = []
    for cold in (True, False):
        if cold:
            forget(path)
        blocks = Blocks(path, max_memory=memory)
        begun = time.perf_counter()
        for _, _X in SourceRows(blocks, 0, blocks.shape[0], rows_per_block(blocks, k, 0)).blocks():
            pass
        seconds.append(time.perf_counter() - begun)
    return {"cold": seconds[0], "cached": seconds[1]}


def passes(path: Path, k: int, memory: float) -> dict[str, Any]:
    """Iterations of HALS in blocks, in every other one of which the file is cold."""
    before, last = peak(), 0.0
    times: dict[bool, list[float]] = {True: [], False: []}

    def callback(iteration: int, H: torch.Tensor, W: torch.Tensor) -> None:
        nonlocal last
        now = time.perf_counter()
        if iteration > 1:
            times[iteration % 2 == 0].append(now - last)
        if iteration % 2 == 1:
            forget(path)
        last = time.perf_counter()

    blocks = Blocks(path, max_memory=memory)
    options: dict[str, Any] = {"init": "random", "tol": 0.0, "max_iter": 2 * PASSES + 1, "callback": callback}
    errors = factorize(blocks.mT, k, **options).errors
    medians = {name: float(np.median(times[cold])) for cold, name in ((True, "cold"), (False, "cached"))}
    return {**medians, "peak_mb": peak(), "before_mb": before, "error": float(errors[-1])}


def in_memory(path: Path, k: int, memory: float) -> dict[str, Any]:
    """Iterations of HALS on a tenth of the rows, all in memory."""
    X = np.load(path, mmap_mode="r")
    part = torch.from_numpy(np.array(X[: len(X) // 10]))
    seconds = []
    for iterations in (1, PASSES + 1):
        begun = time.perf_counter()
        factorize(part.mT, k, init="random", tol=0.0, max_iter=iterations)
        seconds.append(time.perf_counter() - begun)
    return {"an_iteration_of_all": 10 * (seconds[1] - seconds[0]) / PASSES}


def to_equal_time(path: Path, k: int, memory: float) -> dict[str, Any]:
    """scikit-learn's MiniBatchNMF over the file, batch by batch, and HALS in blocks for no more than the same time."""
    import warnings

    from sklearn.decomposition import MiniBatchNMF

    warnings.simplefilter("ignore")
    X = np.load(path, mmap_mode="r")
    model = MiniBatchNMF(k, random_state=0, init="random")
    begun = time.perf_counter()
    for start in range(0, len(X), 4096):
        model.partial_fit(np.array(X[start : start + 4096]))
    theirs = time.perf_counter() - begun
    error = relative_error(path, model.components_, k, memory)
    begun = time.perf_counter()
    found = factorize(
        Blocks(path, max_memory=memory).mT,
        k,
        init="merge",
        tol=0.0,
        max_iter=1000,
        callback=lambda iteration, H, W: time.perf_counter() - begun > theirs,
    )
    ours = time.perf_counter() - begun
    own = {"ours_seconds": ours, "ours": float(found.errors[-1]), "ours_iterations": int(found.iterations)}
    return {"sklearn_seconds": theirs, "sklearn": error, **own}


def relative_error(path: Path, components: np.ndarray, k: int, memory: float) -> float:
    """With the exact weights of all rows."""
    from diffnmf.factorization.large.samples import block_weights
    from diffnmf.factorization.reconstruction import Loss

    H = torch.from_numpy(np.ascontiguousarray(components.T, dtype=np.float32))
    _, far, norm = block_weights(H, Blocks(path, max_memory=memory), Loss(), Processes())
    return far / norm


def shared(path: Path, k: int, memory: float) -> dict[str, Any]:
    """Iterations on a quarter of the rows, in memory, by ``torchrun``'s processes or one; and their messages."""
    group, rank, size = None, int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        torch.distributed.init_process_group("gloo")
        group = torch.distributed.group.WORLD
    torch.set_num_threads(1)
    counted: list[int] = []
    plain = Processes._reduce

    def reduce(self: Processes, x: torch.Tensor, operation: str) -> None:
        counted.append(x.numel() * x.element_size())
        plain(self, x, operation)

    Processes._reduce = reduce  # type: ignore[method-assign]
    times: list[float] = []
    messages: list[list[int]] = []

    def callback(iteration: int, H: torch.Tensor, W: torch.Tensor) -> None:
        times.append(time.perf_counter())
        messages.append(list(counted))
        counted.clear()

    X = np.load(path, mmap_mode="r")
    count = len(X) // 4
    part = torch.from_numpy(np.array(X[count * rank // size : count * (rank + 1) // size]))
    options: dict[str, Any] = {"init": "random", "tol": 0.0, "max_iter": 4 * PASSES, "callback": callback}
    found = factorize(part.mT, k, group=group, progress=True, **options)
    median = float(np.median(np.diff(times)))
    result = {"iteration": median, "error": float(found.errors[-1])}
    result |= {"messages": len(messages[2]), "bytes": sum(messages[2])}
    if group is not None:
        torch.distributed.destroy_process_group()
    return result if rank == 0 else {}


PARTS = {"reading": reading, "passes": passes, "in_memory": in_memory, "to_equal_time": to_equal_time, "shared": shared}


def measured(
    part: str, path: Path, k: int, memory: float, processes: int = 1, threads: int | None = None
) -> dict[str, Any]:
    """One measurement in a process of its own, or in several."""
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *start, __file__, "--part", part, "--file", str(path), "--k", str(k)]
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([*command, "--memory", str(memory)], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(
    folder: Path, rows: int = 200_000, columns: int = 4_000, k: int = 32, memory: float = 500e6
) -> dict[str, dict[str, Any]]:
    """Make the file where there is none, measure everything, and print it."""
    path = folder / f"benchmark-{rows}x{columns}.npy"
    if not path.exists():
        make_file(path, rows, columns)
    size = path.stat().st_size
    found = {}
    print(f"{rows} × {columns} float32, {size / 1e9:.2f} GB, k = {k}, max_memory {memory / 1e6:.0f} MB", flush=True)
    for part in ("reading", "passes", "in_memory", "to_equal_time"):
        found[part] = measured(part, path, k, memory)
        print(part, json.dumps(found[part]), flush=True)
    for processes in (1, 2):
        found[f"shared by {processes}"] = measured("shared", path, k, memory, processes, threads=1)
        print(f"shared by {processes}", json.dumps(found[f"shared by {processes}"]), flush=True)
    ratios = {
        "a cold pass / reading alone": found["passes"]["cold"] / found["reading"]["cold"],
        "a cached pass / an iteration in memory": found["passes"]["cached"] / found["in_memory"]["an_iteration_of_all"],
        "two processes / one": found["shared by 1"]["iteration"] / found["shared by 2"]["iteration"],
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the file is made, and kept")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=4_000)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--memory", type=float, default=500e6, help="bytes")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        result = PARTS[options.part](options.file, options.k, options.memory)
        if result:  # of torchrun's processes the first one speaks
            print(json.dumps(result))
    else:
        main(options.folder, options.rows, options.columns, options.k, options.memory)
