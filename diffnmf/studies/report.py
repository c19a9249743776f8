"""Reports: Markdown tables, and an HTML page that contains its pictures."""

import base64
import html
import mimetypes
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from diffnmf.errors import RunFolderError
from diffnmf.files import explained_errors, replacing

MISSING = "–"

STYLE = """
:root { color-scheme: light; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff;
       font: 16px/1.55 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.25; margin: 1.8em 0 0.6em; }
a { color: #0b57a4; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #bbb; padding: 0.35rem 0.7rem; vertical-align: top; }
th { background: #f1f3f5; text-align: left; }
code { background: #f1f3f5; padding: 0.1em 0.3em; }
pre { background: #f1f3f5; padding: 0.8rem; overflow-x: auto; }
pre code { padding: 0; }
blockquote { margin: 1rem 0; padding: 0.1rem 1rem; border-left: 4px solid #b3261e; background: #fdecea; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def check_folder(output: Path) -> None:
    """Raise RunFolderError if ``output`` cannot be a folder for results; called before anything is computed."""
    if output.exists() and not output.is_dir():
        raise RunFolderError(f"output: expected a folder; {output} is a file")
    with explained_errors(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)


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
    for file, text in zip(files, (markdown, _page(folder, name, markdown)), strict=True):
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


def _page(folder: Path, name: str, text: str) -> str:
    from markdown import Markdown  # optional at import: only reports need it

    converter = Markdown(extensions=["tables", "fenced_code", "toc"], output_format="html")
    body = converter.convert(text)
    headings = converter.toc_tokens  # type: ignore[attr-defined]  # the extension adds it
    title = headings[0]["name"] if headings else html.escape(name)
    return PAGE.format(title=title, style=STYLE, body=_with_pictures(_scrolling_tables(body), folder))


def _scrolling_tables(body: str) -> str:
    """Put each table in a box of its own that scrolls sideways, also with the keyboard."""
    return body.replace("<table>", '<div class="wide" tabindex="0">\n<table>').replace("</table>", "</table>\n</div>")


def _with_pictures(body: str, folder: Path) -> str:
    """Replace the path of each picture by its data.

    Code has been escaped before, so that an ``<img>`` in a code example is left alone.
    """
    source = re.compile(r"""(<img\b[^>]*?\ssrc=)(["'])(.*?)\2""")
    paths = {text: _picture_file(folder, text) for _, _, text in source.findall(body) if not text.startswith("data:")}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"markdown: pictures that do not exist: {', '.join(missing)}")
    inlined = {text: _data_uri(path) for text, path in paths.items()}
    return source.sub(lambda found: f'{found[1]}"{inlined.get(found[3], found[3])}"', body)


def _picture_file(folder: Path, source: str) -> Path:
    path = unquote(html.unescape(source))
    if "://" in path or path.startswith("//"):
        raise ValueError(
            f"markdown: expected pictures that are files, so that the page works offline; got {path} (download it)"
        )
    return folder / path


def _data_uri(path: Path) -> str:
    kind, _ = mimetypes.guess_type(path.name)
    if kind is None or not kind.startswith("image/"):
        raise ValueError(f"markdown: expected a picture with the suffix of an image, such as .png; got {path}")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
