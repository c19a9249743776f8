"""The site: ``make docs``. Warnings are errors there, and readers load nothing from a network."""

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

HERE = Path(__file__).parent
logger = logging.getLogger(__name__)
sys.path.insert(0, str(HERE))

from public_api import write_pages  # noqa: E402
from result_tables import write_tables  # noqa: E402

import diffnmf  # noqa: E402

project = "diffnmf"
author = "The diffnmf developers"
version = release = diffnmf.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
highlight_language = "none"  # indented blocks are formulas; the others name their language
exclude_patterns = ["results/*.csv", "gallery/*.ipynb"]

html_theme = "furo"
html_title = f"diffnmf {version}"
html_math_renderer = "mathml"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["numbers.css"]
copyright = "the diffnmf developers"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
myst_update_mathjax = False  # there is none

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature has them; what they cannot say is in the docstring
napoleon_use_ivar = True
napoleon_custom_sections = [("Shapes", "notes_style"), ("Options", "params_style")]

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "show_memory": False,
    "remove_config_comments": True,  # such as the one that says which picture stands for a page
}

# The examples say themselves where something has not converged; two threads help no matrix of this size.
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore", message=".*is non-interactive.*", category=UserWarning)


def write_generated_pages(app: Sphinx) -> None:
    write_pages(HERE / "api")
    write_tables(HERE / "tables")
    sources = {path.stem for path in (HERE.parent / "examples" / "gallery").glob("*.py")}
    for path in (HERE / "gallery").glob("plot_*"):  # of pages that have another name now: they would be in no contents
        if path.name.split(".")[0] not in sources:
            path.unlink()


def always_read_the_index(app: Sphinx, *changes: Any) -> list[str]:
    """Its text depends on which other pages there are."""
    return ["index"]


def list_the_other_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Pages that index.md does not name come where it says OTHER PAGES: a new page is in the contents at once."""
    if docname == "index":
        named = set(re.findall(r"^[\w/]+$", source[0], flags=re.MULTILINE))
        others = sorted(path.stem for path in HERE.glob("*.md") if path.stem not in {*named, "index"})
        source[0] = source[0].replace("OTHER PAGES", "\n".join(others))


LITERAL = re.compile(r"(``.*?``|`[^`]+`)")
# What reStructuredText would take for markup: a star or bar before a word, an underscore after one.
MARKUP = re.compile(r"(?<![\\*\w])(\*{1,2})(?=[^\s*])|(?<=\w)(_)(?!\w)|(\|)")


def _escaped(line: str) -> str:
    parts = LITERAL.split(line)
    return "".join(p if LITERAL.fullmatch(p) else MARKUP.sub(lambda m: re.sub(r"(.)", r"\\\1", m[0]), p) for p in parts)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_formula(lines: list[str], i: int) -> bool:
    """Whether a block begins here that is indented further than the text before it, and is no section."""
    before = next((line for line in reversed(lines[:i]) if line.strip()), "")
    if i == 0 or lines[i - 1].strip() or not before or _indent(lines[i]) <= _indent(before):
        return False
    return not re.fullmatch(r"\s*\w+(?: \w+)*::?|\s*-+", before)


def as_restructured_text(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written to be read as they are: escape what is no markup, set indented formulas as they stand.

    Runs before napoleon. Examples, which begin with ``>>>`` and end with an empty line, stay as they are.
    """
    result: list[str] = []
    example, formula = False, -1  # the indent of the text around a formula, -1 outside of one
    for i, line in enumerate(lines):
        if formula >= 0 and line.strip() and _indent(line) <= formula:
            formula = -1
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if formula < 0 and line.strip() and not example and _is_formula(lines, i):
            formula = _indent(next(text for text in reversed(lines[:i]) if text.strip()))
            result += [" " * formula + "::", ""]
        result.append(line if example or formula >= 0 else _escaped(line))
    lines[:] = result


def skip_what_others_wrote(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out scikit-learn's ``set_..._request``, and "Alias for field number 0": docstrings describe the fields."""
    alias = (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")
    return True if alias or name.endswith("_request") else None


def mathml(node: nodes.Node, display: str) -> str:
    """A formula in MathML; a command of LaTeX that the converter does not know is a warning, and so an error."""
    result = convert(node.astext(), display=display)
    if "\\" in result:
        logger.warning("a command that has no MathML: %s", node.astext(), location=node)
    return str(result)


def inline_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block_math(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    # MathML: browsers draw it themselves, so that no script has to be loaded for formulas.
    app.add_html_math_renderer("mathml", inline_renderers=(inline_math, None), block_renderers=(block_math, None))
    app.connect("builder-inited", write_generated_pages, priority=100)
    app.connect("env-get-outdated", always_read_the_index)
    app.connect("source-read", list_the_other_pages)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
    app.connect("autodoc-skip-member", skip_what_others_wrote)
