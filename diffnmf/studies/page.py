"""Markdown as one HTML page that needs no other file: readable on a telephone, in the dark and on paper.

Tables scroll inside a frame of their own and keep their first column, pictures are part of the page and enlarge when
they are clicked, a list of the contents stands on top, and no number breaks across lines.
"""

import base64
import html
import mimetypes
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element

if TYPE_CHECKING:
    from markdown import Markdown

LONG_CELL = 40  # characters: a cell with more of them is text, which wants room
NUMBER = r"(?:[-−+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?|nan|inf)"
UNBROKEN = rf"(\b\w+ = {NUMBER}(?: ± {NUMBER})?|{NUMBER} ± {NUMBER}|{NUMBER} / {NUMBER})"


def page_of(folder: Path, name: str, markdown: str) -> str:
    """The HTML page; see ``write_report`` for the arguments and the errors."""
    converter = _converter()
    body = converter.convert(markdown)
    headings = converter.toc_tokens  # type: ignore[attr-defined]  # the extension adds it
    title = headings[0]["name"] if headings else html.escape(name)
    start, heading, rest = body.rpartition("</h1>")
    files = Path(__file__).parent
    return Template((files / "page.html").read_text(encoding="utf-8")).substitute(
        title=title,
        style=(files / "page.css").read_text(encoding="utf-8"),
        body=_with_pictures(f"{start}{heading}{_contents(headings)}{rest}", folder),
    )


def _converter() -> "Markdown":
    from markdown import Markdown  # optional at import: only reports need it
    from markdown.inlinepatterns import InlineProcessor
    from markdown.treeprocessors import Treeprocessor
    from markdown.util import AtomicString

    class Unbroken(InlineProcessor):
        def handleMatch(  # type: ignore[override]  # the annotations of markdown are those of its older patterns
            self, m: re.Match[str], data: str
        ) -> tuple[Element, int, int]:
            span = Element("span", {"class": "unbroken"})
            span.text = AtomicString(m[1])  # done with: no pattern looks at it again
            return span, m.start(), m.end()

    class Frames(Treeprocessor):
        def run(self, root: Element) -> None:
            _frame_tables(root)

    converter = Markdown(extensions=["tables", "fenced_code", "toc"], output_format="html")
    # Last of the patterns: what is code, an address or the description of a picture has been taken before.
    converter.inlinePatterns.register(Unbroken(UNBROKEN, converter), "unbroken", 1)
    converter.treeprocessors.register(Frames(converter), "frames", 1)
    return converter


def _frame_tables(root: Element) -> None:
    """Put each table in a box of its own that scrolls sideways, also with the keyboard; mark its cells of text."""
    heading = "Table"
    for parent in list(root.iter()):
        for place, child in enumerate(list(parent)):
            if re.fullmatch("h[1-6]", child.tag):
                heading = "".join(child.itertext())
            if child.tag != "table":
                continue
            frame = Element("div", {"class": "wide", "tabindex": "0", "role": "region", "aria-label": heading})
            frame.set("style", f"--columns: {sum(cell.tag == 'th' for cell in child.iter())}")
            frame.append(child)
            parent[place] = frame
            for cell in child.iter("td"):
                if len("".join(cell.itertext())) > LONG_CELL:
                    cell.set("class", "prose")


def _contents(headings: Iterable[Mapping[str, Any]]) -> str:
    """The list of the headings below the first ones, where there are at least two; nothing otherwise."""

    def listed(entries: Iterable[Mapping[str, Any]]) -> str:
        lines = (
            f'<li><a href="#{entry["id"]}">{_unbroken(entry["name"])}</a>{listed(entry["children"])}</li>'
            for entry in entries
        )
        return f"<ul>{''.join(lines)}</ul>" if entries else ""

    entries = [child for heading in headings for child in heading["children"]]
    return f"\n<nav aria-label='Contents'><strong>Contents</strong>{listed(entries)}</nav>" if len(entries) > 1 else ""


def _unbroken(text: str) -> str:
    return re.sub(UNBROKEN, r'<span class="unbroken">\1</span>', text)


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
