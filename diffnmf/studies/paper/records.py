"""Measurements, one file each, so that an interrupted reproduction continues where it stopped."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from diffnmf.errors import RunFolderError
from diffnmf.files import read_json, write_json
from diffnmf.hardware import hardware
from diffnmf.metrics.names import with_both_names
from diffnmf.studies.progress import Announce

Record = dict[str, Any]
UNKNOWN_MAKER = "by an older version, which did not say when and where"


class Records:
    """Measurements inside one folder, as JSON.

    Arguments:
        folder: contains the files.
        measure: False reads the records that exist, and measures nothing.
        begin: told what is about to be measured.
        device: where it is measured; saved with every record, with the date and the version of torch.
    """

    def __init__(self, folder: Path, *, measure: bool, begin: Announce, device: torch.device | str) -> None:
        self.maker = f"{datetime.now():%Y-%m-%d}, {hardware(device)}, torch {torch.__version__}"
        self.folder, self.measure, self.begin = folder, measure, begin
        self.missing: list[str] = []  # names of records that were asked for and do not exist
        self._read: dict[str, Record] = {}  # tables, claims and pictures ask for the same ones
        self.made: set[str] = set()  # when and where the records that were asked for were measured

    def get(self, name: str, compute: Callable[[], Record | None], check: Callable[[Record], object]) -> Record | None:
        """The record of that name: read, or else computed and written; None if neither is possible.

        Arguments:
            name: of the record, and of its file.
            compute: makes it; None if it cannot be made.
            check: told what was read; raises, as ``check_scores`` does, where it is no such record.

        Raises:
            RunFolderError: the file is damaged; the message names it.
        """
        if name in self._read:
            return self._read[name]
        file = self.folder / f"{name}.json"
        if file.exists():
            try:
                content = read_json(file)
                saved = _current(content["record"])
                check(saved)
                self.made.add(content.get("made", UNKNOWN_MAKER))
                return self._read.setdefault(name, saved)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                raise RunFolderError(f"{file}: damaged: {error!r} (delete it to measure again)") from error
        record = None
        if self.measure:
            self.begin(f"measuring {name}")
            record = compute()
        if record is None:
            if name not in self.missing:
                self.missing.append(name)
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"made": self.maker, "record": record})
        self.made.add(self.maker)
        return record


def _current(record: Record) -> Record:
    """The scores of a record, or of each of its protocols, with those that an older version called otherwise."""
    return with_both_names(
        {name: _current(entry) if isinstance(entry, dict) else entry for name, entry in record.items()}
    )
