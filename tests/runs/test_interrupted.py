"""Processes of their own: killed with SIGKILL and resumed, and two that train together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import curves
from safetensors.torch import load_file

DIGITS = ["train", "--dataset", "digits", "--k", "4", "--width", "8", "--critic-width", "8", "--limit-groups", "13"]
OPTIONS = [*DIGITS, "--epochs", "3", "--checkpoint-every", "1", "--flip-probability", "0.5", "--device", "cpu"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
THREADS_AT_EXIT = """
import atexit, pathlib, sys
names = lambda: [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
say = lambda: sys.stderr.write(" ".join(["left behind:", *(name for name in names() if "gloo" in name)]) + "\\n")
atexit.register(say)
from diffnmf.cli import main
main()
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments, processes=1):
    launcher = [] if processes == 1 else TORCHRUN
    return [sys.executable, *launcher, "-m", "diffnmf.cli", *map(str, arguments)]


def run(*arguments, processes=1):
    result = subprocess.run(
        command(*arguments, processes=processes), capture_output=True, text=True, env=ENVIRONMENT, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result


def kill_when(happened, *arguments, processes=1):
    """Start, and kill the whole process group without warning as soon as it has happened."""
    process = subprocess.Popen(
        command(*arguments, processes=processes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not happened():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def checkpoint_of(folder):
    """Position and modification time of the last checkpoint; None where there is none."""
    try:
        return torch.load(folder / "checkpoint.pt", weights_only=True)
    except (OSError, RuntimeError):  # between two moves, or not yet there
        return None


def has_reached(folder, epoch, step):
    """Whether a run has a checkpoint there, or later."""

    def reached():
        state = checkpoint_of(folder)
        return state is not None and (state["epoch"], state["step"]) >= (epoch, step)

    return reached


def assert_same_run(first, second):
    assert curves(first) == curves(second)
    for name in ("generator", "ema", "best"):
        mine, theirs = (load_file(folder / f"{name}.safetensors") for folder in (first, second))
        assert mine.keys() == theirs.keys()
        assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == [], name
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (first, second)]
    for part in ("generator_optimizer", "critic_optimizer"):
        moments = [state[part]["state"] for state in states]
        assert all(torch.equal(moments[0][i][key], moments[1][i][key]) for i in moments[0] for key in moments[0][i])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped; tests only read it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(*OPTIONS, "--batch-size", "2", "--output", folder)
    return folder


class TestKilled:
    def test_twice_inside_of_epochs(self, whole, tmp_path):
        """After some step of the first epoch, and after some step of the second."""
        folder = tmp_path / "run"
        kill_when(has_reached(folder, 0, 3), *OPTIONS, "--batch-size", "2", "--output", folder)
        assert not (folder / "metrics.json").exists()
        kill_when(has_reached(folder, 1, 2), "train", "--resume", folder, "--device", "cpu")
        assert not (folder / "metrics.json").exists()
        run("train", "--resume", folder, "--device", "cpu")
        assert_same_run(folder, whole)
        assert not list(folder.rglob(".unfinished*"))

    def test_while_writing(self, whole, tmp_path):
        """As soon as the file appears that a checkpoint is being written to."""
        folder = tmp_path / "run"

        def writing():
            return (folder / "checkpoint-previous.pt").exists() and any(folder.glob(".unfinished-*-checkpoint.pt"))

        kill_when(writing, *OPTIONS, "--batch-size", "2", "--output", folder)
        run("train", "--resume", folder, "--device", "cpu")
        assert_same_run(folder, whole)

    @pytest.mark.slow
    def test_before_the_first_checkpoint(self, whole, tmp_path):
        folder = tmp_path / "run"
        kill_when((folder / "model.yaml").exists, *OPTIONS, "--batch-size", "2", "--output", folder)
        run("train", "--resume", folder, "--device", "cpu")
        assert_same_run(folder, whole)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    """One process with the doubled batch."""
    folder = tmp_path_factory.mktemp("doubled") / "run"
    run(*OPTIONS, "--batch-size", "4", "--output", folder)
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Two processes, and what they said."""
    folder = tmp_path_factory.mktemp("together") / "run"
    return folder, run(*OPTIONS, "--batch-size", "2", "--output", folder, processes=2)


class TestTwoProcesses:
    """gloo on the CPU; 13 groups in steps of 4, so that the last step leaves one process without a group."""

    def test_are_one_with_the_doubled_batch(self, doubled, together):
        folder, result = together
        assert result.stdout.splitlines()[-1] == str(folder)
        assert result.stdout.count("GAN-UNET (test)") == 1, "one process speaks for all"
        for mine, expected in zip(curves(folder), curves(doubled), strict=True):
            for name in ("reconstruction_loss", "critic_loss", "adversarial_loss", "test_relative_error"):
                assert mine[name] == pytest.approx(expected[name], abs=1e-5), (mine["epoch"], name)

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs the threads of a process as files")
    def test_leave_no_thread_behind(self, tmp_path):
        """One of gloo that is at work while the interpreter ends aborts it, and torchrun then kills the others."""
        program = tmp_path / "program.py"
        program.write_text(THREADS_AT_EXIT)
        arguments = [*DIGITS, "--epochs", "1", "--device", "cpu", "--output", str(tmp_path / "run")]
        result = subprocess.run(
            [sys.executable, *TORCHRUN, str(program), *arguments],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=300,
        )
        assert result.returncode == 0, result.stderr
        assert [line for line in result.stderr.splitlines() if line.startswith("left behind:")] == ["left behind:"] * 2

    def test_killed_and_resumed(self, together, tmp_path):
        folder = tmp_path / "run"
        kill_when(has_reached(folder, 1, 1), *OPTIONS, "--batch-size", "2", "--output", folder, processes=2)
        run("train", "--resume", folder, "--device", "cpu", processes=2)
        assert_same_run(folder, together[0])

    @pytest.mark.slow
    def test_resumed_by_one(self, together, tmp_path):
        """A cluster that has fewer machines today: the groups of a step stay as many."""
        folder = tmp_path / "run"
        kill_when(has_reached(folder, 1, 1), *OPTIONS, "--batch-size", "2", "--output", folder, processes=2)
        refused = subprocess.run(
            command("train", "--resume", folder, "--device", "cpu"), capture_output=True, text=True, env=ENVIRONMENT
        )
        assert refused.returncode == 2
        assert "expected 4 groups a step" in refused.stderr
        assert "got 2 × 1 × 1" in refused.stderr
        run("train", "--resume", folder, "--device", "cpu", "--accumulate", "2")
        for mine, expected in zip(curves(folder), curves(together[0]), strict=True):
            assert mine["reconstruction_loss"] == pytest.approx(expected["reconstruction_loss"], abs=1e-5)


def test_the_commands_of_this_module_run_this_checkout():
    import diffnmf

    program = "import diffnmf; print(diffnmf.__file__)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT)
    assert Path(result.stdout.strip()) == Path(diffnmf.__file__)
