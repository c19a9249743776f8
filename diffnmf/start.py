"""The command ``diffnmf``: hears Ctrl-C while the rest of the package, and torch, are still being loaded.

Imports as little as can be: until ``main`` runs, Ctrl-C gives a trace.
"""

import io
import os
import signal
import sys


class Loading:
    """While a program imports what takes seconds, Ctrl-C ends it with one line: ``with Loading(): import torch``."""

    def __enter__(self) -> "Loading":
        self.before = signal.getsignal(signal.SIGINT)
        self.listens = self.before is signal.default_int_handler  # a process in the background was told to ignore it
        if self.listens:
            signal.signal(signal.SIGINT, _end)
        return self

    def __exit__(self, *error: object) -> None:
        if self.listens:
            signal.signal(signal.SIGINT, self.before)


def main() -> None:
    """Entry point of the command ``diffnmf``."""
    with Loading() as loading:
        from diffnmf.cli import main as run  # here, and not above: this takes the seconds that are meant
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")  # a sign that its encoding lacks must not end a command that is done
    try:
        run()
    finally:
        if loading.listens:  # only the end of the interpreter is left, and its traces help nobody
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(number: int, frame: object) -> None:
    """End on the spot: imports have nothing to clean up, and would swallow a KeyboardInterrupt."""
    os.write(2, b"Stopped.\n")
    os._exit(130)
