"""The HTML page of a report: what can be said of it without a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import diffnmf.studies.page
from diffnmf.studies.page import LONG_CELL, page_of
from diffnmf.studies.report import markdown_table

STYLE = (Path(diffnmf.studies.page.__file__).parent / "page.css").read_text(encoding="utf-8")
REPORT = f"""# The report

Of k = 30 and m = 40: 0.219 ± 0.001, in `0.1 ± 0.2` and **-1.5e-07 ± nan**, in print 1.533 / 9.794.

## First part, k = 30

{markdown_table(["method", "error", "in words"], [["HALS", "0.219 ± 0.001", "x" * (LONG_CELL + 1)], ["MU", 0.5, "x"]])}

### Inside it

![A picture at k = 30](a.png)

## Second part

> {markdown_table(["a", "b"], [[1, 2]]).replace(chr(10), chr(10) + "> ")}
"""


class Tree(HTMLParser):
    """The tags of a page with their attributes, the tags around each, and the text in each."""

    EMPTY = ("meta", "img", "br", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[dict] = []
        self.tags: list[dict] = []
        self.feed(page)
        assert self.open == []  # every tag is closed

    def handle_starttag(self, tag, attributes):
        entry = {"tag": tag, "around": list(self.open), "text": "", **dict(attributes)}
        self.tags.append(entry)
        if tag not in self.EMPTY:
            self.open.append(entry)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for entry in self.open:
            entry["text"] += data

    def all(self, tag):
        return [entry for entry in self.tags if entry["tag"] == tag]


@pytest.fixture
def page(tmp_path):
    Image.new("L", (4, 3), 128).save(tmp_path / "a.png")
    return page_of(tmp_path, "report", REPORT)


@pytest.fixture
def tree(page):
    return Tree(page)


def test_every_table_scrolls_in_a_frame_of_its_own(tree):
    frames = [table["around"][-1] for table in tree.all("table")]
    assert [(frame["tag"], frame["class"], frame["tabindex"]) for frame in frames] == [("div", "wide", "0")] * 2
    assert [frame["style"] for frame in frames] == ["--columns: 3", "--columns: 2"]
    assert [frame["aria-label"] for frame in frames] == ["First part, k = 30", "Second part"]
    assert re.search(r"\.wide \{ overflow-x: auto;", STYLE)
    assert re.search(r"th:first-child, td:first-child \{ position: sticky; left: 0;", STYLE)


def test_a_cell_with_much_text_has_room(tree):
    assert [cell["text"] for cell in tree.all("td") if cell.get("class") == "prose"] == ["x" * (LONG_CELL + 1)]


def test_no_number_breaks(tree):
    whole = [span["text"] for span in tree.all("span") if span["class"] == "unbroken"]
    first = ["k = 30", "m = 40", "0.219 ± 0.001", "-1.5e-07 ± nan", "1.533 / 9.794"]
    assert whole == ["k = 30", *first, "k = 30", "0.219 ± 0.001"]  # the contents come first
    assert ".unbroken { white-space: nowrap; }" in STYLE
    (code,) = tree.all("code")
    assert code["text"] == "0.1 ± 0.2"
    (picture,) = tree.all("img")
    assert picture["alt"] == "A picture at k = 30"


def test_the_contents_lead_to_the_headings(tree):
    (contents,) = tree.all("nav")
    links = [link for link in tree.all("a") if contents in link["around"]]
    assert [link["text"] for link in links] == ["First part, k = 30", "Inside it", "Second part"]
    headings = {entry["id"]: entry["text"] for tag in ("h1", "h2", "h3") for entry in tree.all(tag)}
    assert [headings[link["href"].removeprefix("#")] for link in links] == [link["text"] for link in links]
    depths = [sum(around["tag"] == "ul" for around in link["around"]) for link in links]
    assert depths == [1, 2, 1]
    assert tree.tags.index(tree.all("h1")[0]) < tree.tags.index(contents) < tree.tags.index(tree.all("p")[0])


@pytest.mark.parametrize("text", ["no heading", "# One", "# One\n\n## Two\n\ntext"])
def test_a_short_page_needs_no_contents(text, tmp_path):
    assert Tree(page_of(tmp_path, "report", text)).all("nav") == []


def test_the_page_needs_nothing_from_anywhere(page, tree):
    assert "://" not in page
    assert not tree.all("link")
    assert all("src" not in script for script in tree.all("script"))
    for entry in tree.tags:
        assert entry.get("src", "data:").startswith("data:")
        assert entry.get("href", "#").startswith("#")
    assert not re.search(r"@import|url\(", STYLE)


def test_a_dollar_is_a_dollar(tmp_path):
    assert "costs $1, $body" in page_of(tmp_path, "report", "costs $1, $body")


def test_pictures_enlarge(page, tree):
    (dialog,) = tree.all("dialog")
    assert dialog["text"] == ""
    assert 'document.querySelectorAll("main img")' in page
    (picture,) = tree.all("img")
    assert any(around["tag"] == "main" for around in picture["around"])


def colours(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


LIGHT, DARK = (colours(block) for block in re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL))


def luminance(colour):
    """Relative luminance as in WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [("ink", "paper"), ("ink", "soft"), ("ink", "alarm-paper"), ("link", "paper"), ("link", "soft")],
)
def test_text_has_contrast(scheme, text, ground):
    """At least 4.5:1, as WCAG 2.2 asks for in success criterion 1.4.3."""
    brighter, darker = sorted((luminance(scheme[text]), luminance(scheme[ground])), reverse=True)
    assert (brighter + 0.05) / (darker + 0.05) >= 4.5


def test_the_dark_scheme_is_for_screens_and_has_every_colour():
    assert set(LIGHT) == set(DARK)
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
    assert not re.search(r"#(?!ffffff)[0-9a-f]{3,6}", re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL))


def test_paper_does_not_scroll():
    printed = STYLE.partition("@media print {")[2]
    assert ".wide { overflow: visible; }" in printed
    assert "var(--columns)" in printed
    assert "position: static" in printed
    assert re.search(r"tr, img, [^{]*\{ break-inside: avoid; \}", printed)
