"""One process at a time on a run: refused by name, and never by what a killed process has left."""

import os
import re
import socket

import pytest
from run_processes import FORK, OPTIONS, bytes_of, hold_lock, kill, start

from diffnmf.errors import RunFolderError
from diffnmf.lock import LOCK, locked
from diffnmf.runs import DataConfig, ModelConfig, RunConfig, RunFolder, resume_experiment, run_experiment
from diffnmf.training import TrainingConfig

CONFIG = RunConfig(
    DataConfig("digits", limit_groups=1), ModelConfig(k=3, width=8), TrainingConfig(epochs=1, picture_every=None)
)
THIS = re.escape(f"process {os.getpid()} on {socket.gethostname()}")

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_second_one_is_refused_by_name(tmp_path):
    with locked(tmp_path / "run"), pytest.raises(RunFolderError, match=f"in use by {THIS}"), locked(tmp_path / "run"):
        pass


def test_nothing_is_left_and_the_next_may(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            assert (tmp_path / "run" / LOCK).exists()
        assert list((tmp_path / "run").iterdir()) == []


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_one_who_waited_for_a_file_that_was_removed_locks_the_new_one(tmp_path, monkeypatch):
    """Between the opening and the locking the holder has let go, and the file has gone."""
    import diffnmf.lock

    whole, taken = diffnmf.lock._take, []

    def take(descriptor):
        if not taken:
            (tmp_path / LOCK).unlink()
        taken.append(descriptor)
        whole(descriptor)

    monkeypatch.setattr("diffnmf.lock._take", take)
    with locked(tmp_path), pytest.raises(RunFolderError, match="in use"), locked(tmp_path):
        pass
    assert len(taken) == 3


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch):
    def take(descriptor):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("diffnmf.lock._take", take)
    with pytest.warns(RuntimeWarning, match=r"cannot be locked \(Operation not supported\)"), locked(tmp_path):
        pass


def test_a_lock_that_a_killed_process_left_is_in_nobodys_way(tmp_path):
    held = FORK.Event()
    process = FORK.Process(target=hold_lock, args=(tmp_path, held))
    process.start()
    try:
        assert held.wait(120)
        other = f"process {process.pid} on {re.escape(socket.gethostname())}"
        with pytest.raises(RunFolderError, match=other), locked(tmp_path):
            pass
    finally:
        kill([process])
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run; tests only read it."""
    return run_experiment(CONFIG, tmp_path_factory.mktemp("finished") / "run", brief=True).folder


class TestRuns:
    def test_are_refused_while_another_works_on_them(self, finished):
        before = bytes_of(finished)
        with locked(finished):
            with pytest.raises(RunFolderError, match=THIS):
                resume_experiment(finished, epochs=2)
            with pytest.raises(RunFolderError, match=THIS):
                run_experiment(CONFIG, finished, overwrite=True)
        assert bytes_of(finished) == before

    def test_hold_it_all_the_time(self, tmp_path):
        refused = []

        def second(message):
            with pytest.raises(RunFolderError, match=THIS) as caught:
                resume_experiment(tmp_path / "run")
            refused.append(caught.value)

        run_experiment(CONFIG, tmp_path / "run", brief=True, announce=second)
        resume_experiment(tmp_path / "run", epochs=2, brief=True, announce=second)
        assert len(refused) == 6

    def test_a_lock_is_no_file_of_a_run(self, tmp_path):
        (tmp_path / LOCK).write_text("process 1 on elsewhere")
        RunFolder.check_free(tmp_path)
        run_experiment(CONFIG, tmp_path, brief=True)
        assert not (tmp_path / LOCK).exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_running_run_is_not_resumed_twice(tmp_path, processes):
    """Under torchrun the main process alone takes the lock; the second ones end with exit code 2."""
    folder, log = tmp_path / "run", tmp_path / "log"
    running = start(*OPTIONS, "--epochs", "1000", "--output", folder, log=log, processes=processes)
    try:
        while not (folder / "checkpoint.pt").exists():
            assert running[0].is_alive(), log.read_text()
        for arguments in (["train", "--resume", folder], [*OPTIONS, "--output", folder, "--overwrite"]):
            second = start(*arguments, log=tmp_path / "second", processes=processes)
            second[0].join(120)
            kill(second)
            assert second[0].exitcode == 2
            assert f"in use by process {running[0].pid} on" in (tmp_path / "second").read_text()
            (tmp_path / "second").unlink()
        assert running[0].is_alive()
    finally:
        kill(running)
