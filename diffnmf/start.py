"""The command ``diffnmf``: hears Ctrl-C while the rest of the package, and torch, are still being loaded."""

import signal

from diffnmf.interrupts import ended_at_once


def main() -> None:
    """Entry point of the command ``diffnmf``."""
    with ended_at_once():
        from diffnmf.cli import main as run  # here, and not above: this takes the seconds that are meant
    try:
        run()
    finally:
        # No KeyboardInterrupt any more: only the end of the interpreter is left, and its traces help nobody.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
