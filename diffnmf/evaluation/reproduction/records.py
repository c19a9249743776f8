"""What has been measured, a file each, so that a reproduction goes on where it stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffnmf.errors import RunFolderError
from diffnmf.training.run_folder import write_json

Record = dict[str, Any]


class Records:
    """Measurements below one folder, as JSON.

    Arguments:
        folder: where they are.
        measure: False reads what is there, and measures nothing.
        announce: told what is about to be measured.
    """

    def __init__(self, folder: Path, *, measure: bool, announce: Callable[[str], None]) -> None:
        self.folder, self.measure, self.announce = folder, measure, announce
        self.missing: list[str] = []  # what was asked for and is not there

    def get(self, name: str, compute: Callable[[], Record | None]) -> Record | None:
        """The record of that name: read, or else computed and written; None where neither is possible.

        Raises:
            RunFolderError: the file is damaged; it names it.
        """
        file = self.folder / f"{name}.json"
        if file.exists():
            try:
                return json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise RunFolderError(f"{file}: damaged: {error} (delete it, and it is measured again)") from error
        record = None
        if self.measure:
            self.announce(f"measuring {name}")
            record = compute()
        if record is None:
            if name not in self.missing:
                self.missing.append(name)
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, record)
        return record
