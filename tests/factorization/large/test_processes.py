"""Several processes that share a matrix: the factors that one of them finds, and what becomes of a lost one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed
from torch.utils._python_dispatch import TorchDispatchMode

from diffnmf import Blocks
from diffnmf.errors import ProcessLostError
from diffnmf.factorization import HALS, MU, factorize
from diffnmf.factorization.large import checkpoint, entry
from diffnmf.factorization.large.processes import Processes, share

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
METHODS = ["hals", "anls", "mu", MU("kullback-leibler")]
OPTIONS = {"max_iter": 20, "tol": 0.0}


def data(dtype=np.float64):
    random = np.random.default_rng(0)
    return (random.random((91, 5)) @ random.random((5, 40)) + 0.2 * random.random((91, 40))).astype(dtype)


def spawn(function, count, folder):
    torch.multiprocessing.spawn(_joined, (function, count, str(folder)), nprocs=count)


def _joined(rank, function, count, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=count)
    try:
        function(Path(folder))
    finally:
        distributed.destroy_process_group()


def gathered(found, split):
    """H and W of all processes, whole; and whether the shared one is the same in all, to the bit."""
    everybody = [None] * distributed.get_world_size()
    distributed.all_gather_object(everybody, (found.H, found.W))
    if split == "columns":
        H, W = everybody[0][0], torch.cat([W for _, W in everybody], 1)
        return H, W, all(torch.equal(H, other) for other, _ in everybody)
    H, W = torch.cat([H for H, _ in everybody]), everybody[0][1]
    return H, W, all(torch.equal(W, other) for _, other in everybody)


def _same_as_alone(folder):
    X = torch.from_numpy(data())
    size, rank = distributed.get_world_size(), distributed.get_rank()
    cuts = [len(X) * i // size for i in range(size + 1)]
    cases = [(method, "random") for method in METHODS]
    cases += [("hals", init) for init in ("auto", "merge", "nndsvda")] + [(HALS(shuffle=True), "random")]
    for split in ("columns", "rows"):
        for method, init in cases:
            own = X[cuts[rank] : cuts[rank + 1]]
            Y, own = (X.mT, own.mT) if split == "columns" else (X, own)
            blocks = Blocks(X.numpy(), max_memory=20e3)
            blocks = blocks.mT if split == "columns" else blocks
            options = {"method": method, "init": init, **OPTIONS}
            alone = factorize(Y, 4, **options)
            for part in (own, blocks):
                found = factorize(part, 4, group=distributed.group.WORLD, split=split, **options)
                H, W, same = gathered(found, split)
                assert same
                torch.testing.assert_close(H, alone.H, rtol=0, atol=1e-9 * float(alone.H.max()))
                torch.testing.assert_close(W, alone.W, rtol=0, atol=1e-9 * float(alone.W.max()))
                torch.testing.assert_close(found.errors, alone.errors, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_same_as_alone(tmp_path, count):
    spawn(_same_as_alone, count, tmp_path)


def _float32(folder):
    X = torch.from_numpy(data(np.float32))
    rank = distributed.get_rank()
    own = X[:50] if rank == 0 else X[50:]
    options = {"method": HALS(extrapolate=False), "init": "random", "max_iter": 50, "tol": 0.0}
    alone = factorize(X.mT, 4, **options)
    H, W, _ = gathered(factorize(own.mT, 4, group=distributed.group.WORLD, **options), "columns")
    assert float((H @ W - alone.H @ alone.W).abs().max()) < 1e-5 * float(X.max())
    # A component that has died comes back from the worst column of all, whoever has it.
    H0, W0 = alone.H.clone(), alone.W.clone()
    W0[2] = 0.0
    options = {"max_iter": 40, "tol": 0.0, "H0": H0}
    alone = factorize(X.mT, 4, W0=W0, **options)
    mine = W0[:, :50] if rank == 0 else W0[:, 50:]
    found = factorize(own.mT, 4, W0=mine, group=distributed.group.WORLD, **options)
    assert float(found.errors[-1]) == pytest.approx(float(alone.errors[-1]), rel=1e-4)
    assert float(found.H.amax(0).min()) > 0


def _messages(folder):
    """One message an iteration, of k² + kF + 1 numbers in float64, as the documentation says."""
    X, k = data(), 4
    counts = []
    plain = Processes._reduce

    def counted(self, x, operation):
        counts.append(x.numel() * x.element_size())
        plain(self, x, operation)

    Processes._reduce = counted
    try:
        for iterations in (5, 9):
            counts.append("run")
            options = {"init": "random", "max_iter": iterations, "tol": 0.0}
            factorize(Blocks(X, max_memory=20e3).mT, k, group=distributed.group.WORLD, **options)
    finally:
        Processes._reduce = plain
    runs = " ".join(map(str, counts)).split("run")[1:]
    first, second = (run.split() for run in runs)
    more = second[len(first) :]
    assert more == [str(8 * (k * k + k * 40 + 1))] * 4


def _errors(folder):
    X = torch.from_numpy(data())
    rank = distributed.get_rank()
    world = distributed.group.WORLD
    with pytest.raises(ValueError, match="same number of rows"):
        factorize(X[:, : 30 + rank].mT, 4, group=world)
    with pytest.raises(ValueError, match="not empty"):
        factorize(X[: 30 * rank].mT, 4, group=world)
    with pytest.raises(ValueError, match="split: expected one of"):
        factorize(X.mT, 4, group=world, split="both")
    with pytest.raises(ValueError, match="one process a row"):
        factorize(Blocks(X[:1].numpy()), 4, group=world)
    bad = X.clone()
    if rank == 1:
        bad[7, 3] = torch.nan
    with pytest.raises(ValueError, match="row 98"):  # in both: the seventh of the second one's
        factorize(bad.mT, 4, group=world)


def _stop_at(folder, name, stop, options):
    def callback(iteration, H, W):
        if iteration == stop:
            raise KeyboardInterrupt

    entry.Checkpoints = lambda where, run: checkpoint.Checkpoints(where, run, every=0.0)
    blocks = Blocks(data(), max_memory=20e3).mT
    group = distributed.group.WORLD if distributed.is_initialized() else None
    return factorize(blocks, 4, group=group, checkpoint=folder / name, callback=callback, **options)


def _interrupted(folder):
    options = {"init": "random", "max_iter": 30, "tol": 0.0}
    with pytest.raises(KeyboardInterrupt):
        _stop_at(folder, "a", 13, options)
    whole = _stop_at(folder, "b", None, options)
    again = _stop_at(folder, "a", None, options)
    assert all(torch.equal(x, y) for x, y in zip(whole, again, strict=True))
    with pytest.raises(KeyboardInterrupt):
        _stop_at(folder, "c", 13, options)


def _all_of_it(folder):
    """What needs two processes, in one pair of them: to start them is what takes time."""
    for part in (_float32, _messages, _errors, _interrupted):
        part(folder)


@pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")
def test_two_processes(tmp_path, monkeypatch):
    spawn(_all_of_it, 2, tmp_path)
    # What two processes have begun one goes on with.
    monkeypatch.setattr(entry, "Checkpoints", entry.Checkpoints)
    options = {"init": "random", "max_iter": 30, "tol": 0.0}
    found = _stop_at(tmp_path, "c", None, options)
    alone = factorize(torch.from_numpy(data()).mT, 4, **options)
    torch.testing.assert_close(found.H, alone.H, rtol=0, atol=1e-9 * float(alone.H.max()))
    torch.testing.assert_close(found.W, alone.W, rtol=0, atol=1e-9 * float(alone.W.max()))


def _one_is_lost(folder):
    def callback(iteration, H, W):
        if iteration == 5 and distributed.get_rank() == 1:
            os._exit(0)

    entry.Checkpoints = lambda where, run: checkpoint.Checkpoints(where, run, every=0.0)
    options = {"init": "random", "max_iter": 30, "tol": 0.0, "checkpoint": folder / "lost", "callback": callback}
    with pytest.raises(ProcessLostError, match="with any number of processes"):
        factorize(Blocks(data(), max_memory=20e3).mT, 4, group=distributed.group.WORLD, **options)
    (folder / "told").write_text("yes")
    os._exit(0)  # there is nobody left to say goodbye to


def test_a_lost_process(tmp_path):
    spawn(_one_is_lost, 2, tmp_path)
    assert (tmp_path / "told").exists()
    assert json.loads((tmp_path / "lost" / "latest.json").read_text())["iteration"] >= 3


def test_shares():
    class Fake:
        def __init__(self, rank, size):
            self.rank, self.size = rank, size

    parts = [share(10, Fake(rank, 4)) for rank in range(4)]
    assert parts == [(0, 2), (2, 5), (5, 7), (7, 10)]


@pytest.mark.slow
def test_command(tmp_path):
    """Two processes write what one does; and a command that is given again goes on."""
    np.save(tmp_path / "x.npy", data(np.float32))
    command = ["nmf", "x.npy", "--k", "4", "--max-iter", "30", "--max-memory", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for start, output in ((TORCHRUN, "two"), ([], "one")):
        arguments = [sys.executable, *start, "-m", "diffnmf", *command, "--output", output]
        done = subprocess.run(arguments, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("relative error") == 1
    two, one = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("two", "one"))
    assert two["processes"] == 2 and not (tmp_path / "two" / "checkpoint").exists()
    assert two["relative_error"] == pytest.approx(one["relative_error"], rel=1e-4)
    weights = np.load(tmp_path / "two" / "weights.npy")
    assert weights.shape == (91, 4) and weights.min() >= 0
    components = np.loadtxt(tmp_path / "two" / "components.csv", delimiter=",", skiprows=1, usecols=range(1, 41))
    error = np.linalg.norm(data() - weights @ components) / np.linalg.norm(data())
    assert error == pytest.approx(two["relative_error"], rel=1e-4)
    again = [sys.executable, "-m", "diffnmf", *command, "--output", "two"]
    done = subprocess.run(again, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "--overwrite" in done.stderr


def _started(folder, iterations):
    X = torch.from_numpy(data())
    generator = torch.Generator().manual_seed(0)
    H0, W0 = (torch.rand(*shape, generator=generator, dtype=X.dtype) for shape in ((X.shape[1], 4), (4, len(X))))
    options = {"H0": H0, "tol": 0.0, "max_iter": iterations, "checkpoint": folder / "run"}
    if not distributed.is_initialized():
        return factorize(X.mT, 4, W0=W0, **options)
    rows = slice(0, 50) if distributed.get_rank() == 0 else slice(50, None)
    return factorize(X[rows].mT, 4, W0=W0[:, rows], group=distributed.group.WORLD, **options)


def _given_start(folder):
    for iterations in (3, 5):
        assert _started(folder, iterations).iterations == iterations


@pytest.mark.filterwarnings("ignore::diffnmf.errors.ConvergenceWarning")
@pytest.mark.slow
def test_a_run_from_given_factors_goes_on_with_another_number_of_processes(tmp_path):
    """Each process has a part of one of them: what they are known by must not depend on the parts."""
    spawn(_given_start, 2, tmp_path)
    assert _started(tmp_path, 7).iterations == 7
    whole = _started(tmp_path / "other", 7)
    assert float(whole.errors[-1]) == pytest.approx(float(_started(tmp_path, 7).errors[-1]), rel=1e-9)


class Operations(TorchDispatchMode):
    """The names of the operations inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.names.append(operator.overloadpacket.__name__)
        return operator(*args, **(kwargs or {}))


def test_who_waits_reads_a_number(monkeypatch):
    """NCCL sums on the device while the host goes on: files of other processes would not be there yet."""
    processes = Processes()
    processes.size = 2
    with Operations() as operations:
        monkeypatch.setattr(processes, "_reduce", lambda x, operation: operations.names.append("all_reduce"))
        processes.wait()
    assert operations.names[-2:] == ["all_reduce", "_local_scalar_dense"]
