"""Processes of their own: killed with SIGKILL and resumed, and two that train together."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import curves
from run_processes import DIGITS, OPTIONS, assert_same_run, go_on, kill, killed_after, killed_at, run, start, warm_up

ONE, TWO = (*OPTIONS, "--batch-size", "4"), (*OPTIONS, "--batch-size", "2")  # four groups a step, either way
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
THREADS_AT_EXIT = """
import atexit, pathlib, sys
names = lambda: [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
say = lambda: sys.stderr.write(" ".join(["left behind:", *(name for name in names() if "gloo" in name)]) + "\\n")
atexit.register(say)
from diffnmf.cli import main
main()
"""
# Where a run is killed: a function, and in which of its calls. Four steps in each of three epochs; one checkpoint after
# every step and one after every epoch.
AIMS = {
    "before anything is written": ("diffnmf.runs.run_folder.RunFolder.create", 1),
    "before the first step": ("diffnmf.training.trainer.Trainer.step", 1),
    "in the last step of an epoch": ("diffnmf.training.trainer.Trainer.step", 8),
    "in the last step": ("diffnmf.training.trainer.Trainer.step", 12),
    "scoring the first epoch": ("diffnmf.runs.experiment.score_generator", 1),
    "scoring the average": ("diffnmf.runs.experiment.score_generator", 4),
    "scoring the last epoch": ("diffnmf.runs.experiment.score_generator", 5),
    "scoring at the end": ("diffnmf.runs.scores.score_generator", 2),
    "scoring the rivals": ("diffnmf.runs.scores.score_rivals", 1),
    "writing the curves": ("diffnmf.runs.run_folder.write_curves", 2),
    "writing the weights": ("diffnmf.runs.recorder.save_weights", 5),
    "writing the first checkpoint": ("diffnmf.runs.checkpoints.to_disk", 1),
    "between the moves of a checkpoint": ("diffnmf.runs.checkpoints.to_disk", 9),
    "writing for TensorBoard": ("diffnmf.runs.recorder.Recorder._tensorboard", 2),
    "drawing after an epoch": ("diffnmf.runs.experiment.save_epoch_picture", 1),
    "before the last checkpoint": ("diffnmf.runs.checkpoints.Checkpoints.save", 15),
    "before the best weights": ("diffnmf.runs.recorder.Recorder.best", 2),
    "writing the metrics": ("diffnmf.runs.run_folder.write_json", 1),
    "drawing at the end": ("diffnmf.runs.experiment.save_final_pictures", 1),
}
TOGETHER = ["scoring the last epoch", "between the moves of a checkpoint", "in the last step"]  # also of two processes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped, and how long it took; tests only read it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, timed(*ONE, "--output", folder, log=folder.parent / "log")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The same of two processes."""
    folder = tmp_path_factory.mktemp("together") / "run"
    return folder, timed(*TWO, "--output", folder, log=folder.parent / "log", processes=2)


def timed(*arguments, **options):
    warm_up()
    start = time.perf_counter()
    run(*arguments, **options)
    return time.perf_counter() - start


def assert_survives(aim, whole, tmp_path, options=ONE, processes=1):
    folder, log = tmp_path / "run", tmp_path / "log"
    killed_at(aim, *options, "--output", folder, log=log, processes=processes)
    go_on(folder, options, log, processes)
    assert_same_run(folder, whole)
    assert not list(folder.rglob(".*")), "neither half a file nor a lock is left"


class TestKilled:
    def test_while_scoring(self, whole, tmp_path):
        """The checkpoint after the last step of an epoch leaves none to be made."""
        assert_survives(AIMS["scoring the last epoch"], whole[0], tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("aim", AIMS)
    def test_where_it_is_aimed_at(self, whole, tmp_path, aim):
        assert_survives(AIMS[aim], whole[0], tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("aim", TOGETHER)
    def test_two_processes_where_they_are_aimed_at(self, together, tmp_path, aim):
        assert_survives(AIMS[aim], together[0], tmp_path, TWO, processes=2)

    @pytest.mark.slow
    @pytest.mark.parametrize(("processes", "kills"), [(1, 40), (2, 20)])
    def test_at_random(self, whole, together, tmp_path, processes, kills):
        """Every run is killed twice: once on its way, and once more on its way on."""
        folder_whole, seconds = whole if processes == 1 else together
        options, rng = (ONE if processes == 1 else TWO), random.Random(0)
        killed = number = 0
        while killed < kills:
            folder, log, number = tmp_path / f"run{number}", tmp_path / f"log{number}", number + 1
            first = [*options, "--output", folder]
            for arguments in (first, ["train", "--resume", folder, "--device", "cpu"]):
                if arguments is first or (folder / "config.yaml").exists():
                    moment = rng.uniform(0, seconds)
                    killed += killed_after(moment, *arguments, log=log, processes=processes)
            go_on(folder, options, log, processes)
            assert_same_run(folder, folder_whole)
            assert not list(folder.rglob(".*"))
        print(f"{killed} kills of {number} runs of {processes} processes, {seconds:.1f} s each")


class TestTwoProcesses:
    """gloo on the CPU; 13 groups in steps of 4, so that the last step leaves one process without a group."""

    def test_are_one_with_the_doubled_batch(self, whole, together):
        (folder, _), log = together, together[0].parent / "log"
        assert str(folder) in log.read_text().splitlines()
        assert log.read_text().count("GAN-UNET (test)") == 1, "one process speaks for all"
        for mine, expected in zip(curves(folder), curves(whole[0]), strict=True):
            for name in ("reconstruction_loss", "critic_loss", "adversarial_loss", "test_relative_error"):
                assert mine[name] == pytest.approx(expected[name], abs=1e-5), (mine["epoch"], name)

    def test_when_one_dies_the_other_says_so_in_a_line(self, tmp_path):
        folder, log = tmp_path / "run", tmp_path / "log"
        aim = AIMS["in the last step of an epoch"]
        started = start(*TWO, "--output", folder, log=log, processes=2, aim=aim)
        try:
            started[1].join(300)
            assert started[1].exitcode == 1, log.read_text()
        finally:
            kill(started)
        *_, last = log.read_text().splitlines()
        assert last.startswith("Error: another process has ended or cannot be reached")
        assert last.endswith(f"Go on with: diffnmf train --resume {folder}")
        assert "Traceback" not in log.read_text()

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_resumed_by_one(self, together, tmp_path):
        """A cluster that has fewer machines today: the groups of a step stay as many."""
        folder, log = tmp_path / "run", tmp_path / "log"
        killed_at(AIMS["in the last step of an epoch"], *TWO, "--output", folder, log=log, processes=2)
        refused = subprocess.run(
            [sys.executable, "-m", "diffnmf.cli", "train", "--resume", str(folder), "--device", "cpu"],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
        )
        assert refused.returncode == 2
        assert "expected 4 groups a step" in refused.stderr
        assert "got 2 × 1 × 1" in refused.stderr
        run("train", "--resume", folder, "--device", "cpu", "--accumulate", "2", log=log)
        for mine, expected in zip(curves(folder), curves(together[0]), strict=True):
            assert mine["reconstruction_loss"] == pytest.approx(expected["reconstruction_loss"], abs=1e-5)


def test_the_processes_of_this_module_run_this_checkout():
    import diffnmf

    program = "import diffnmf; print(diffnmf.__file__)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT)
    assert Path(result.stdout.strip()) == Path(diffnmf.__file__)
