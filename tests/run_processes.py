"""Runs in processes of their own that start at once, so that many can be killed: forked from one that has imported all.

One tiny run serves all tests of interrupted runs; ``assert_same_run`` compares what two of them have left.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from helpers import curves
from PIL import Image
from tqdm import tqdm

import diffnmf.cli
import diffnmf.runs.pictures
from diffnmf.files import replacing
from diffnmf.lock import locked

DIGITS = ["train", "--dataset", "digits", "--k", "4", "--width", "8", "--critic-width", "8", "--limit-groups", "13"]
# 13 groups in steps of 4: a checkpoint after every step, and so after the last one of an epoch, too.
OPTIONS = [*DIGITS, "--preset", "scratch", "--epochs", "3", "--checkpoint-every", "1", "--flip-probability", "0.5"]
OPTIONS += ["--device", "cpu"]
OPTIONS += ["--limit-test-groups", "2", "--picture-every", "2"]
HEAVY = ["diffnmf.cli", "accelerate", "sklearn.datasets", "torch._dynamo", "torch.utils.tensorboard", "PIL.Image"]

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(HEAVY)


def command(arguments, log, environment, aim):
    """The command line in this process; says what it has to say to a file, and kills itself where it is aimed at."""
    os.environ |= environment
    os.setsid()
    with log.open("ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own lock is for several processes, and a killed one does not give it back
    for name in ("save_image_grid", "save_decomposition", "save_curves"):
        setattr(diffnmf.runs.pictures, name, save_stand_in)
    if aim is not None:
        kill_at(*aim)
    sys.argv = ["diffnmf", *map(str, arguments)]
    diffnmf.cli.main()


def save_stand_in(file, content, *args, **kwargs):
    """Instead of a picture, which takes most of the time of a tiny run: pixels that depend on what would be drawn."""
    drawn = content if isinstance(content, torch.Tensor) else torch.zeros(8, 8)  # curves are compared by themselves
    pixels = np.frombuffer(hashlib.sha256(drawn.numpy().tobytes()).digest(), dtype=np.uint8).reshape(4, 8)
    with replacing(file) as unfinished:
        Image.fromarray(pixels).save(unfinished)


def kill_at(name, call):
    """Kill this process without warning in that call of a function, before it does anything."""
    module, _, function = name.rpartition(".")
    owner = sys.modules.get(module)
    if owner is None:  # a method
        module, _, owner_name = module.rpartition(".")
        owner = getattr(sys.modules[module], owner_name)
    whole, calls = getattr(owner, function), []

    def counted(*args, **kwargs):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args, **kwargs)

    setattr(owner, function, counted)


def start(*arguments, log, processes=1, aim=None):
    """Start the command line, in one process or in several that train together; the main one is the first."""
    environments = [{}]
    if processes > 1:
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
        environments = [
            {**together, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
            for rank in range(processes)
        ]
    started = [
        FORK.Process(target=command, args=(arguments, log, environment, aim if rank == 0 else None))
        for rank, environment in enumerate(environments)
    ]
    for process in started:
        process.start()
    return started


def warm_up():
    """Wait until the process has imported all that the others are forked from."""
    process = FORK.Process(target=int)
    process.start()
    process.join()


def hold_lock(folder, held):
    """In a process of its own: take the lock of a run, say so, and wait to be killed."""
    with locked(folder):
        held.set()
        signal.pause()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill(processes):
    """End them all without warning."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def run(*arguments, log, processes=1):
    """Run to the end."""
    started = start(*arguments, log=log, processes=processes)
    try:
        for process in started:
            process.join(300)
        assert [process.exitcode for process in started] == [0] * processes, log.read_text()
    finally:
        kill(started)


def killed_at(aim, *arguments, log, processes=1):
    """Run until the main process has killed itself where it is aimed at; the others are killed then."""
    started = start(*arguments, log=log, processes=processes, aim=aim)
    try:
        started[0].join(300)
        assert started[0].exitcode == -signal.SIGKILL, f"{aim}: {log.read_text()}"
    finally:
        kill(started)


def killed_after(seconds, *arguments, log, processes=1):
    """Kill after some time; whether there was something left to kill."""
    started = start(*arguments, log=log, processes=processes)
    time.sleep(seconds)
    alive = started[0].is_alive()
    kill(started)
    return alive


def go_on(folder, options, log, processes=1):
    """What a user does after a run was killed: resume it, or say the same again where it had not begun."""
    if (folder / "config.yaml").exists():
        run("train", "--resume", folder, "--device", "cpu", log=log, processes=processes)
    else:
        run(*options, "--output", folder, log=log, processes=processes)


def assert_same_run(first, second):
    """To the bit: weights, pictures, metrics and all that a checkpoint holds; curves without their times."""
    assert curves(first) == curves(second)
    files = [bytes_of(folder) for folder in (first, second)]
    assert files[0].keys() == files[1].keys()
    assert [name for name in files[0] if files[0][name] != files[1][name]] == []
    assert json.loads((first / "metrics.json").read_text()) == json.loads((second / "metrics.json").read_text())
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (first, second)]
    assert same(*states)


def bytes_of(folder):
    """A digest of every file that is the same in equal runs: not of curves and events, which have times in them.

    Checkpoints are compared by what they hold: the one before the last is another where a run was stopped at its end.
    """
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.suffix not in (".csv", ".pt") and "tfevents" not in path.name
    }


def same(first, second):
    """Whether nested states hold the same, bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
