"""Writing into a run folder, where a failure has to say what happened and what is left."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffnmf.errors import RunFolderError
from diffnmf.files import replacing


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
