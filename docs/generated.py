"""Writing the pages of the site that are made by programs."""

from collections.abc import Mapping
from pathlib import Path


def write_files(folder: Path, pages: Mapping[str, str], ending: str) -> None:
    """Write files, by name, into a folder, and remove those of that ending that are none of them.

    One that has not changed is left alone, so that it is not built again.
    """
    folder.mkdir(exist_ok=True)
    for path in folder.glob(f"*{ending}"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
