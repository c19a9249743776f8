"""Writing files so that a failure never destroys what was there."""

import csv
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffnmf.errors import RunFolderError

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


@contextmanager
def explained_errors(path: Path, advice: str | None = None) -> Iterator[None]:
    """Turn an OSError while writing (a full disk, say) into a RunFolderError.

    Arguments:
        path: what is written.
        advice: what to do; unless given, that for a file of a run folder.
    """
    try:
        yield
    except OSError as error:
        advice = advice or f"free space or mend the folder, then go on with --resume {path.parent}"
        raise RunFolderError(
            f"{path}: could not be written ({error.strerror or error}); all that was written before is intact: {advice}"
        ) from error


@contextmanager
def explained_replacing(path: Path) -> Iterator[Path]:
    """``replacing`` with ``explained_errors``."""
    with explained_errors(path), replacing(path) as file:
        yield file


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain values, readable for people, too."""
    with explained_replacing(path) as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write all rows, with a column for every name in any of them, in order of appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


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
