"""One process at a time on a folder of results.

The lock is one of the operating system, which lets go of it however its process ends.
"""

import os
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from diffnmf.errors import RunFolderError
from diffnmf.files import check_output, remove_unfinished

if sys.platform == "win32":
    import errno
    import msvcrt

    FAR = 1 << 20  # Windows locks bytes, and nobody could read those at the start

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                raise BlockingIOError from error
            raise
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


LOCK = ".lock"  # no file of a run: it is there only while a process works on the run, or where one was killed


@contextmanager
def locked(folder: Path, argument: str = "output") -> Iterator[None]:
    """Hold the lock of a folder, which is made where it does not exist; ``argument`` names it in messages.

    What counts is the lock on the open file, not that there is a file: one that a killed process left behind is in
    nobody's way. The file says whose lock it is.

    Raises:
        RunFolderError: another process holds it, or the folder cannot be written.
    """
    file = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(file)
    except OSError as error:
        raise RunFolderError(f"{argument}: cannot write to {folder}: {error}") from error
    try:
        yield
    finally:
        _release(file, descriptor)


@contextmanager
def locked_output(folder: Path, argument: str = "output") -> Iterator[None]:
    """``locked`` for the results of a command, of which nothing is left, the folder included, where it writes none.

    Raises:
        RunFolderError: another process holds the lock, or the folder cannot be written.
    """
    check_output(folder, argument)
    is_new = not folder.exists()
    try:
        with locked(folder, argument):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # results are in it
                folder.rmdir()


def check_free(output: Path, names: Sequence[str], overwrite: bool) -> None:
    """Raise where a folder cannot be written to, or holds files that may not be replaced."""
    check_output(output)
    found = [name for name in names if (output / name).exists()]
    if found and not overwrite:
        raise RunFolderError(f"{output}: holds {', '.join(found)} already; take another --output, or --overwrite")


@contextmanager
def free_folder(output: Path, names: Sequence[str], overwrite: bool) -> Iterator[None]:
    """``check_free``, and nobody else's until the end: two at once would leave files of both there."""
    check_free(output, names, overwrite)
    with locked_output(output):
        check_free(output, names, overwrite)  # another may have ended meanwhile
        remove_unfinished(output)
        yield


def _open_locked(file: Path) -> int:
    """The open file, locked, with the name of this process in it."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file, descriptor)
            if _is_still(file, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the process that held it has removed the file meanwhile: the name is free again


def _lock(file: Path, descriptor: int) -> None:
    try:
        _take(descriptor)
    except BlockingIOError:
        holder = os.read(descriptor, 1000).decode(errors="replace") or "another process"
        raise RunFolderError(
            f"{file.parent}: in use by {holder}: two processes would overwrite each other's files (wait until it has "
            "ended, stop it, or take another folder)"
        ) from None
    except OSError as error:  # some network disks have no locks
        message = f"{file.parent}: cannot be locked ({error.strerror}): see to it that no other process works on it"
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether the open file is the one that has the name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _release(file: Path, descriptor: int) -> None:
    """Remove the file while it is locked, so that nobody else's is removed; Windows wants it closed first."""
    with suppress(OSError):
        file.unlink()
    os.close(descriptor)
    if sys.platform == "win32":
        with suppress(OSError):  # another process may have it open by now
            file.unlink()
