"""Ctrl-C: one line, exit code 130, and never swallowed."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from diffnmf.interrupts import check_interrupted, heard, interruptible

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def handler():
    """Whatever a test does, the next one finds the handler of Python."""
    yield signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def press():
    signal.raise_signal(signal.SIGINT)


def swallow():
    """What a library does that catches everything around an import."""
    with suppress(BaseException):
        press()


class TestHeard:
    def test_comes_out(self, handler):
        with pytest.raises(KeyboardInterrupt), heard():
            press()
        assert signal.getsignal(signal.SIGINT) is handler

    def test_comes_out_where_it_was_swallowed(self):
        with pytest.raises(KeyboardInterrupt), heard():
            swallow()

    def test_comes_out_instead_of_what_was_made_of_it(self):
        with pytest.raises(KeyboardInterrupt) as caught, heard():
            swallow()
            error = AttributeError("half a module")
            error.add_note("Go on with: ...")
            raise error
        assert caught.value.__notes__ == ["Go on with: ..."]

    def test_is_found_out_on_the_way(self):
        reached = []
        with pytest.raises(KeyboardInterrupt), heard():
            check_interrupted()
            reached.append(1)
            swallow()
            check_interrupted()
            reached.append(2)
        assert reached == [1]

    def test_without_it_everything_is_as_it_is(self):
        with pytest.raises(AttributeError), heard():
            raise AttributeError
        with pytest.raises(SystemExit), heard():
            raise SystemExit(3)
        with pytest.raises(KeyboardInterrupt), heard():
            swallow()
        check_interrupted()  # an old one is forgotten

    def test_a_process_that_ignores_it_goes_on_ignoring_it(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with heard():
            press()

    def test_in_another_thread_there_are_no_signals(self):
        done = []

        def work():
            with heard():
                done.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert done == [True]


class TestInterruptible:
    @pytest.mark.parametrize(
        ("hint", "line"), [(None, "Stopped. Go on with: this"), ("Once more.", "Stopped. Once more.")]
    )
    def test_one_line_and_130(self, capsys, hint, line):
        with pytest.raises(SystemExit) as caught, interruptible(hint):
            error = KeyboardInterrupt()
            error.add_note("Go on with: this")
            raise error
        assert caught.value.code == 130
        assert capsys.readouterr() == ("", f"{line}\n")


EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    "start",
    [
        "from diffnmf.start import main; main()",
        *(
            f"import runpy; runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')"
            for name in ("train_mnist.py", "compare_w_solvers.py")
        ),
    ],
    ids=["command", "training example", "comparing example"],
)
def test_during_the_imports_of_a_program_it_ends_the_process(start):
    """Also where what is being imported swallows it."""
    program = f"""
import signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:
                print("still there")
sys.meta_path.insert(0, Finder())
{start}
"""
    command = [sys.executable, "-c", program, "--help"]  # which is over soon where Ctrl-C is not heard
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "Stopped.\n")


def test_before_them_next_to_nothing_is_imported():
    program = "import sys; import diffnmf.start; print([name for name in ('torch', 'typing') if name in sys.modules])"
    root = EXAMPLES.parent  # without site-packages the package is found only in the folder where Python starts
    result = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=root)
    assert result.stdout.strip() == "[]", result.stderr


DIGITS = ["--dataset", "digits", "--limit-groups", "2", "--k", "3"]
START = [sys.executable, "-c", "from diffnmf.start import main; main()"]


def interrupted(arguments, folder, when):
    """The lines on the standard error of a program that Ctrl-C stopped as soon as one of them began like that."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=ENVIRONMENT
    )
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip())
        if line.startswith(when):
            process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(300) == 130, lines
    assert not any("Traceback" in line for line in lines), lines
    return lines


@pytest.mark.parametrize("moment", [0.3, 0.9])
def test_while_torch_is_being_loaded(tmp_path, moment):
    process = subprocess.Popen(
        [*START, "train", *DIGITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT
    )
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    # Before Python itself listens, the signal ends the process.
    assert (process.returncode, out) in ((130, b""), (-signal.SIGINT, b""))
    assert b"Traceback" not in err


@pytest.mark.slow
def test_training_names_the_run(tmp_path):
    command = [*START, "train", *DIGITS, "--epochs", "1000"]
    lines = interrupted(command, tmp_path, "epoch   2")
    folder = lines[0].removeprefix("run folder: ")
    assert lines[-1] == f"Stopped. Go on with: diffnmf train --resume {folder}"
    lines = interrupted([*START, *lines[-1].split()[5:], "--epochs", "1000"], tmp_path, "epoch   4")
    assert lines[-1] == f"Stopped. Go on with: diffnmf train --resume {folder}"


AGAIN = "Stopped. The same command goes on from here."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "when", "last"),
    [
        ([*START, "compare", "--output", "here", *DIGITS], "training", AGAIN),
        ([*START, "reproduce", "--output", "here", "--preset", "smoke"], "training", AGAIN),
        ([sys.executable, EXAMPLES / "compare_w_solvers.py", "--k", "3"], "training", AGAIN),
        ([sys.executable, EXAMPLES / "train_mnist.py", *DIGITS], "epoch   1", "Stopped. Go on with: diffnmf train"),
    ],
    ids=["compare", "reproduce", "comparing example", "training example"],
)
def test_what_goes_on_says_so(tmp_path, command, when, last):
    lines = interrupted(list(map(str, command)), tmp_path, when)
    assert lines[-1].startswith(last)
