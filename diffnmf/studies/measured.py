"""What a study has measured so far: a file of rows, with the settings behind them, from which the same call goes on."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from diffnmf.errors import RunFolderError
from diffnmf.files import explained_reading, read_json, write_json
from diffnmf.options import differences


class Measured:
    """The rows of a study, by name; those that an earlier call has measured are there.

    Arguments:
        file: where they are kept, JSON.
        settings: plain values; those of the earlier call must be the same.
        what: is in the file, as a message says it, and ``subject``, what was measured.
        newer: settings that older files do not have: they are taken on trust.
        optional: settings of rows that not every call measures: None agrees with every value, which is kept.
        check_row: told every row of the file; raises, as ``check_scores`` does, where it is none.

    Raises:
        RunFolderError: the file holds measurements with other settings, or is damaged.
    """

    def __init__(
        self,
        file: Path,
        settings: Mapping[str, Any],
        what: str,
        *,
        subject: str = "",
        newer: Collection[str] = (),
        optional: Collection[str] = (),
        check_row: Callable[[Any], object] = lambda row: None,
    ) -> None:
        self.file, self.settings = file, dict(settings)
        self.rows: dict[str, Any] = {}
        if not file.exists():
            return
        with explained_reading(file, what):
            content = read_json(file)
            saved, self.rows = dict(content["settings"]), dict(content["rows"])
            for row in self.rows.values():
                check_row(row)
        # None became NaN on its way through the file.
        saved = {name: None if value != value else value for name, value in saved.items()}
        saved = {name: settings[name] for name in newer} | saved
        for name in optional:
            saved[name] = settings[name] if saved.get(name) is None else saved[name]
            self.settings[name] = saved[name] if settings[name] is None else settings[name]
        self.check(subject, self.settings, saved)

    def check(self, subject: str, now: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
        """Raise RunFolderError where settings in the file are not those of now."""
        if others := "; ".join(differences(now, saved)):
            was = f"{subject} was".lstrip()
            raise RunFolderError(f"{self.file}: {was} measured with other settings: {others} (take another folder)")

    def save(self) -> None:
        """Write the rows that there are now."""
        write_json(self.file, {"settings": self.settings, "rows": self.rows})


def check_scores(scores: Any, needed: Iterable[str]) -> None:
    """Raise a LookupError, TypeError or AttributeError unless this has these names, and holds numbers alone.

    For what was read from a file: else it is noticed when the tables are made, by an error that names no file.
    """
    for name in needed:
        scores[name]
    for value in scores.values():
        math.isnan(value)
