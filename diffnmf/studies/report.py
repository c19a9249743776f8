"""Reports: Markdown tables, and what writes a report as Markdown and as an HTML page."""

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from diffnmf.files import check_output, explained_errors, replacing
from diffnmf.metrics.names import definitions
from diffnmf.studies.page import page_of

MISSING = "–"


def check_folder(output: Path) -> None:
    """Raise RunFolderError if ``output`` cannot be a folder for results; called before anything is computed."""
    check_output(output)
    with explained_errors(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)


def explained_results(output: Path) -> AbstractContextManager[None]:
    """``explained_errors`` of a study, which keeps what it has measured."""
    return explained_errors(output, "free disk space or make the folder writable, then run the same command again")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown: floats with three decimals, None as a dash, columns of numbers aligned to the right.

    Raises:
        ValueError: a row and the header differ in their number of cells.
    """
    body = [[_cell(value) for value in row] for row in rows]
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise ValueError(f"rows: expected {len(header)} cells as in the header; got {len(row)} in row {number}")
    rules = ["---:" if all(map(_is_number, column)) else "---" for column in zip(*body, strict=True)]
    lines = [[_cell(name) for name in header], rules or ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def definition_list(scores: Iterable[str]) -> str:
    """What the scores of a table are, as a list in Markdown; those without a definition are left out."""
    return "\n".join(f"- {line}" for line in definitions(scores))


def mean_std(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± sample standard deviation; a single value without a deviation, no value as a dash."""
    if len(values) == 0:
        return MISSING
    mean = float(np.mean(values))
    form = f".{digits}f"
    if 0 < abs(mean) < 5 * 10.0 ** -(digits + 1):
        form = ".1e"  # a number that is not zero must not look like zero
    with np.errstate(invalid="ignore"):  # the deviation of an infinite value is NaN
        return f"{mean:{form}}" if len(values) == 1 else f"{mean:{form}} ± {np.std(values, ddof=1):{form}}"


def write_report(folder: Path, name: str, markdown: str) -> tuple[Path, Path]:
    """Write ``name.md`` and ``name.html``. The HTML page contains its pictures and needs no other file.

    Arguments:
        folder: where both files go; paths of pictures are relative to it.
        name: of the files, without their suffix.
        markdown: may have tables and fenced code; its first heading is the title of the page. Pictures are files
            (``![what it shows](pictures/bars.png)``). Leave an empty line before a list or a table.

    Returns:
        The Markdown file and the page.

    Raises:
        FileNotFoundError: pictures are missing; nothing is written.
        ValueError: a picture is a web address, or its suffix is not that of an image; nothing is written.
    """
    files = folder / f"{name}.md", folder / f"{name}.html"
    for file, text in zip(files, (markdown, page_of(folder, name, markdown)), strict=True):
        with replacing(file) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return files


def _cell(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float | np.floating):
        # A number that is not zero must not look like zero.
        number = float(value)
        return f"{number:.2e}" if 0 < abs(number) < 5e-4 else f"{number:.3f}"
    return " ".join(str(value).split()).replace("|", r"\|")  # a line break would end the row


def _is_number(cell: str) -> bool:
    return cell == MISSING or re.fullmatch(r"[-−+]?(\d[\d.,e+-]*|nan|inf)( ± .*)?", cell) is not None
