"""Classical NMF of a file larger than memory, or by several processes: what the command ``nmf`` does with one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffnmf.checks import check_count
from diffnmf.factorization import Blocks
from diffnmf.files import explained_errors, write_json
from diffnmf.runs.nmf_files import FILES, Announce, TableFactors, check_free, remove_others, save_named

ENDINGS = (".npy", ".zarr", ".h5", ".hdf5")


def is_large(data: str | Path, max_memory: float) -> bool:
    """Whether a file is read in blocks: there are several processes, or it is larger than what they may use.

    A folder of .npy shards, .zarr and HDF5 always are: nothing else reads them.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        return path.suffix.lower() == ".zarr" or any(path.glob("*.npy"))
    suffix = path.suffix.lower()
    if suffix not in ENDINGS or not path.exists():
        return False
    return suffix != ".npy" or process_count() > 1 or path.stat().st_size > max_memory


def process_count() -> int:
    """How many processes ``torchrun`` has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def factorize_large_file(
    data: str | Path,
    output: str | Path,
    k: int,
    *,
    max_memory: float,
    overwrite: bool = False,
    announce: Announce | None = None,
    **options: Any,
) -> TableFactors:
    """As ``factorize_table``, of a file that is read in blocks; under ``torchrun`` every process reads its part.

    A run that has been interrupted goes on from ``output/checkpoint`` when it is called again.

    Arguments:
        data: a .npy, .zarr, .h5 or .hdf5 file, or a folder of .npy shards, with a sample in each row.
        output: the folder: components.csv, weights.npy (N, k) and summary.json.
        k: components.
        max_memory: bytes that blocks and factors may take in each process.
        overwrite: whether what ``nmf`` wrote there earlier may be replaced.
        announce: told what is about to be done, in the first process.
        options: parameters of ``NMF``.

    Raises:
        ValueError, RunFolderError: as ``factorize_table``.
        ProcessLostError: another process has ended.
    """
    from diffnmf.factorization.estimator import NMF
    from diffnmf.factorization.large.checkpoint import remove_checkpoint
    from diffnmf.factorization.large.processes import Processes, share
    from diffnmf.factorization.large.samples import Sharing, fit_blocks

    k = check_count("k", k, at_least=1)
    output = Path(output)
    files = [output / name for name in ("components.csv", "weights.npy", "summary.json")]
    options = {name: value for name, value in options.items() if name != "missing"}
    with _group(options.pop("device", None)) as (group, device):
        X = Blocks(data, max_memory=max_memory, device=device)
        processes = Processes(group, X.device)
        first = processes.rank == 0
        if first:
            check_free(output, FILES, overwrite)
        count, features = X.shape
        if first and announce is not None:
            announce(f"{data}: {count} samples of {features} features, in blocks, by {processes.size} processes")
        model = NMF(k, **options)
        checkpoint = output / "checkpoint"
        fit = fit_blocks(model, X, None, None, None, Sharing(group, checkpoint, progress=announce is not None))
        components = fit.H.T.cpu().numpy()
        weights = _save_weights(files[1], fit.W.T.cpu().numpy(), share(count, processes)[0], count, processes)
        converged = fit.complaint is None
        frobenius = options.get("beta_loss", "frobenius") == "frobenius"
        relative = fit.distance / (fit.norm or 1.0) if frobenius else float("nan")
        if first:
            names = [f"component_{i + 1}" for i in range(k)]
            with explained_errors(files[0]):
                save_named(files[0], components, names, None)
            summary = {"data": str(data), "shape": [count, features], "k": k, "iterations": fit.iterations}
            summary |= {"converged": converged, "loss": fit.distance, "relative_error": relative}
            write_json(files[2], summary | {"processes": processes.size})
            remove_others(files)
            remove_checkpoint(checkpoint)
        processes.wait()
    return TableFactors(weights, components, relative, fit.distance, converged, files)


@contextmanager
def _group(device: str | None) -> Iterator[tuple[Any, torch.device]]:
    """The processes of ``torchrun`` and the device of this one."""
    chosen = torch.device(device or "cpu")
    if process_count() == 1:
        yield None, chosen
        return
    import torch.distributed as distributed

    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield distributed.group.WORLD, chosen
    finally:
        distributed.destroy_process_group()


def _save_weights(path: Path, own: np.ndarray, start: int, count: int, processes: Any) -> np.ndarray:
    """Every process writes its rows into one .npy file, which appears when it is whole; opened as a memory map."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    if processes.rank == 0:
        with explained_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(unfinished, "w+", own.dtype, (count, own.shape[1])).flush()
    processes.wait()
    mapped = np.lib.format.open_memmap(unfinished, "r+")
    mapped[start : start + len(own)] = own
    mapped.flush()
    del mapped
    processes.wait()
    if processes.rank == 0:
        unfinished.replace(path)
    processes.wait()
    return np.load(path, mmap_mode="r")
