"""Classical NMF of a file larger than memory, or by several processes: what the command ``nmf`` does with one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffnmf.checks import check_count
from diffnmf.factorization import Blocks
from diffnmf.files import UNFINISHED, explained_errors, from_home, replacing_together, to_disk, write_json
from diffnmf.runs.nmf_files import FILES, Announce, TableFactors, free_folder, remove_others, save_named

ENDINGS = (".npy", ".zarr", ".h5", ".hdf5")


def is_large(data: str | Path, max_memory: float) -> bool:
    """Whether a file is read in blocks: there are several processes, or it is larger than what they may use.

    A folder of .npy shards, .zarr and HDF5 always are: nothing else reads them.
    """
    path = from_home(data)
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
    with _group(options.pop("device", None)) as (group, device):
        X = Blocks(data, max_memory=max_memory, device=device)
        processes = Processes(group, X.device)
        first = processes.rank == 0
        with free_folder(output, FILES, overwrite) if first else nullcontext():
            count, features = X.shape
            if first and announce is not None:
                announce(f"{data}: {count} samples of {features} features, in blocks, by {processes.size} processes")
            model = NMF(k, **options)
            checkpoint = output / "checkpoint"
            fit = fit_blocks(model, X, None, None, None, Sharing(group, checkpoint, progress=announce is not None))
            converged = fit.complaint is None
            frobenius = options.get("beta_loss", "frobenius") == "frobenius"
            relative = fit.distance / (fit.norm or 1.0) if frobenius else float("nan")
            summary = {"data": str(data), "shape": [count, features], "k": k, "iterations": fit.iterations}
            summary |= {"converged": converged, "loss": fit.distance, "relative_error": relative}
            _save(files, fit, share(count, processes)[0], summary, processes)
            if first:
                remove_others(files)
                remove_checkpoint(checkpoint)
            processes.wait()
    components = fit.H.T.cpu().numpy()
    return TableFactors(np.load(files[1], mmap_mode="r"), components, relative, fit.distance, converged, files)


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


def _save(files: list[Path], fit: Any, start: int, summary: dict[str, Any], processes: Any) -> None:
    """All files, or none; every process writes its rows, from ``start`` on, into one .npy file."""
    unfinished = files[1].with_name(f"{UNFINISHED}{files[1].name}")
    own = np.ascontiguousarray(fit.W.T.cpu().numpy())
    if processes.rank == 0:
        with explained_errors(files[1]), _removed_on_failure(unfinished), unfinished.open("wb") as stream:
            like = {"descr": own.dtype.str, "fortran_order": False, "shape": (summary["shape"][0], own.shape[1])}
            np.lib.format.write_array_header_1_0(stream, like)
    processes.wait()
    # Not through a memory map: where the disk is full, the system kills whoever writes into one.
    with explained_errors(files[1]), _removed_on_failure(unfinished), unfinished.open("r+b") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        stream.seek(start * own.itemsize * own.shape[1], os.SEEK_CUR)
        stream.write(own.data)
        stream.flush()
        to_disk(unfinished)
    processes.wait()
    if processes.rank == 0:
        components = fit.H.T.cpu().numpy()
        names = [f"component_{i + 1}" for i in range(len(components))]
        folder = files[0].parent
        with explained_errors(folder), replacing_together(folder) as together:
            save_named(together / files[0].name, components, names, None)
            write_json(together / files[2].name, summary | {"processes": processes.size})
            unfinished.replace(together / files[1].name)
    processes.wait()


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        file.unlink(missing_ok=True)  # it would take what is left of a full disk
        raise
