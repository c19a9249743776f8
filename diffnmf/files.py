"""Writing files so that a failure never destroys what was there."""

import csv
import json
import math
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffnmf.errors import RunFolderError

UNFINISHED = ".unfinished-"


def from_home(path: str | os.PathLike[str]) -> Path:
    """A path with a ~ or ~name at its beginning as a shell has it: somebody's home, or part of a name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # nobody's
        return Path(path)


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
def replacing_together(folder: Path) -> Iterator[Path]:
    """A folder to write several files into, which are moved into ``folder`` when all of them are there.

    A failure, or a kill before that, leaves none of the new files beside old ones.
    """
    unfinished = folder / f"{UNFINISHED}{secrets.token_hex(4)}"
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in unfinished.iterdir():
            path.replace(folder / path.name)
        to_disk(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def explained_errors(path: Path, advice: str | None = None) -> Iterator[None]:
    """Turn an OSError while writing (a full disk, say) into a RunFolderError.

    Arguments:
        path: what is written.
        advice: what to do; unless given, to go on with the run where it is a file of one, or else to begin again.
    """
    try:
        yield
    except OSError as error:
        path = Path(*(part for part in path.parts if not part.startswith(UNFINISHED)))  # where it would have gone
        run = next((folder for folder in (path, *path.parents[:2]) if (folder / "config.yaml").exists()), None)
        again = "run the same command again" if run is None else f"go on with --resume {shlex.quote(str(run))}"
        advice = advice or f"free space or mend the folder, then {again}"
        raise RunFolderError(
            f"{path}: could not be written ({error.strerror or error}); all that was written before is intact: {advice}"
        ) from error


@contextmanager
def explained_reading(path: Path, what: str) -> Iterator[None]:
    """Turn what reading a damaged file of ours raises into a RunFolderError: "not the curves of a run, or damaged"."""
    try:
        yield
    except (OSError, csv.Error, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RunFolderError(f"{path}: not {what}, or damaged: {error!r}") from error


def check_output(folder: Path, argument: str = "output") -> None:
    """Raise RunFolderError unless results can be written into a folder, which need not exist; nothing is touched.

    For what would else be noticed when the work is done. ``argument`` names the folder in messages.
    """
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise RunFolderError(f"{argument}: cannot write to {folder}: {error.strerror} (take another folder)") from error
    if not there.exists():  # nothing can be made under the name of a link
        raise RunFolderError(
            f"{argument}: expected a folder; {there} is a link to {there.readlink()}, which does not exist (make that "
            "folder, or take another)"
        )
    if not there.is_dir():
        raise RunFolderError(f"{argument}: expected a folder; {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunFolderError(f"{argument}: cannot write to {folder}: nothing may be written into {there}")


def check_utf8(argument: str, path: str | os.PathLike[str]) -> None:
    """Raise ValueError where a path is not UTF-8, in which weights are named and pictures are labelled.

    For what would else be noticed when the work is done.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{argument}: expected a name in UTF-8; got {os.fspath(path)!r} (take another name)"
        ) from error


@contextmanager
def explained_replacing(path: Path, advice: str | None = None) -> Iterator[Path]:
    """``replacing`` with ``explained_errors``."""
    with explained_errors(path, advice), replacing(path) as file:
        yield file


def write_json(path: Path, content: dict[str, Any], advice: str | None = None) -> None:
    """Write plain values, readable for people, too. NaN and infinity become null: JSON knows neither.

    Arguments:
        path: the file.
        content: plain values.
        advice: what to do where it cannot be written; as in ``explained_errors``.
    """
    with explained_replacing(path, advice) as file:
        file.write_text(json.dumps(_finite_or_none(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """What ``write_json`` has written, with NaN where there is null.

    Raises:
        ValueError, RecursionError: the file holds something else.
    """
    return _nan_for_none(json.loads(path.read_text(encoding="utf-8")))


def _nan_for_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _nan_for_none(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_nan_for_none(entry) for entry in value]
    return math.nan if value is None else value


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite_or_none(entry) for name, entry in value.items()}
    return [_finite_or_none(entry) for entry in value] if isinstance(value, list | tuple) else value


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
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
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
