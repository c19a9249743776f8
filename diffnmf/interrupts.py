"""Ctrl-C: heard wherever a program is, also where a library swallows it, and answered by one line and no trace."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # the exit code that shells give for Ctrl-C

_pressed = False


@contextmanager
def heard() -> Iterator[None]:
    """Let Ctrl-C come out as KeyboardInterrupt, whatever a library makes of it on the way.

    torch imports some of its parts when they are first used, and catches every error there: Ctrl-C leaves a module
    half imported, and what comes out, if anything does, is an AttributeError somewhere else.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed inside; it carries the notes of what came out instead.
    """
    global _pressed
    before = signal.getsignal(signal.SIGINT)
    # Signals belong to the main thread; and a process in the background was told to ignore this one.
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield
        return
    signal.signal(signal.SIGINT, _note)
    try:
        yield
        check_interrupted()
    except (Exception, SystemExit) as error:
        if not _pressed:
            raise
        interrupt = KeyboardInterrupt()
        for note in getattr(error, "__notes__", ()):
            interrupt.add_note(note)
        raise interrupt from error
    finally:
        _pressed = False
        signal.signal(signal.SIGINT, before)


def check_interrupted() -> None:
    """Raise KeyboardInterrupt where Ctrl-C was pressed inside ``heard`` and something has swallowed it."""
    if _pressed:
        raise KeyboardInterrupt


@contextmanager
def interruptible(hint: str | None = None) -> Iterator[None]:
    """For a whole program: Ctrl-C ends it with one line and exit code 130.

    Arguments:
        hint: how to go on; by default what the interrupted part itself says about that, if anything.
    """
    try:
        with heard():
            yield
    except KeyboardInterrupt as error:
        print(stopped(error, hint), file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def stopped(error: KeyboardInterrupt, hint: str | None = None) -> str:
    """The line for the user: the hint, or else the notes of the error, which say how to go on."""
    hints = getattr(error, "__notes__", []) if hint is None else [hint]
    return " ".join(["Stopped.", *hints])


def _note(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt
