"""Writing files so that a failure never destroys what was there."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".unfinished-"


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to instead of ``target``, moved there at the end: a write that fails leaves the old file whole.

    The temporary file lies in the same folder, where moving it is atomic, and keeps the suffix that tells its format.
    It is on the disk before it is moved, so that not even a power cut leaves half a file under the name.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{UNFINISHED}{secrets.token_hex(4)}-{target.name}")
    try:
        yield unfinished
        to_disk(unfinished)
        unfinished.replace(target)
        to_disk(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed while writing has left in a folder."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if path.is_dir():
        with suppress(OSError):  # some systems cannot open a folder; the file itself is safe there, too
            _sync(path)
    else:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
