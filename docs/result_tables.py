"""Pages with every number of the benchmarks and comparisons, written from the CSV files that they left in docs/results.

conf.py writes them before Sphinx reads the sources; the pages of the results tell what they mean. Needs no Sphinx.
"""

import csv
from pathlib import Path

from generated import write_files

RESULTS = Path(__file__).parent / "results"
DIGITS = 4  # significant ones; the files have all of them


def shown(cell: str) -> str:
    """A cell as it is read: numbers with few digits, nothing for what was not measured."""
    try:
        number = float(cell)
    except ValueError:
        return cell.replace("|", "\\|")
    if number.is_integer() and abs(number) < 1e6:
        return f"{number:.0f}"
    return f"{number:.{DIGITS}g}"


def name_of(path: Path) -> str:
    """What the page of a file is called: its place below the results."""
    return "_".join(path.relative_to(RESULTS).with_suffix("").parts)


def page(path: Path) -> str:
    """A table of a CSV file in Markdown, under a link to the page that explains it."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    about = path.with_suffix(".md") if path.with_suffix(".md").exists() else path.parent / "report.md"
    link = about.relative_to(RESULTS.parent).as_posix()
    numeric = [all(_is_number(row[i]) for row in rows if row[i]) for i in range(len(header))]
    rule = ["---:" if number else "---" for number in numeric]
    lines = [header, rule, *([shown(cell) for cell in row] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = f"What they are, and how they were had: [{about.stem}](../{link})."
    return f"# {name_of(path).replace('_', ' ')}: every number\n\n{told}\n\n{table}\n"


def write_tables(folder: Path) -> None:
    """Write a page for every CSV file of the results, and their index."""
    pages = {f"{name_of(path)}.md": page(path) for path in sorted(RESULTS.rglob("*.csv"))}
    names = "\n".join(name.removesuffix(".md") for name in pages)
    told = "Tables of what was measured, as the programs wrote it."
    pages["index.md"] = f"# Every number\n\n{told}\n\n```{{toctree}}\n{names}\n```\n"
    write_files(folder, pages, ".md")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
