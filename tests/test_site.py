"""The site: every public name is on a page of the API reference and says what it is; the gallery runs."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers import REAL_DATA, needs_data

from diffnmf.models.pretrained import registry

ROOT = Path(__file__).parent.parent
GALLERY = sorted((ROOT / "examples" / "gallery").glob("*.py"))


def load_from_docs(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(ROOT / "docs"))  # as conf.py does
API, TABLES = load_from_docs("public_api"), load_from_docs("result_tables")
NAMES = [(module, name) for module in API.public_modules() for name in import_module(module).__all__]


def test_the_packages_of_the_reference():
    known = {"", ".layers", ".solvers", ".factorization", ".models", ".data", ".metrics", ".evaluation", ".runs"}
    assert {f"diffnmf{name}" for name in known} <= set(API.public_modules())


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_name_is_on_its_page(module, name):
    page = API.page(module)
    home = API.home_of(module, name)
    if home == module:
        assert re.search(rf"^\.\. (autoclass|autofunction|py:data):: {re.escape(f'{module}.{name}')}$", page, re.M)
    else:
        assert f":py:obj:`{home}.{name}`" in page
        assert f":: {home}.{name}\n" in API.page(home)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_name_says_what_it_is(module, name):
    value = getattr(import_module(module), name)
    if callable(value):
        told = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__  # not that of a parent
    else:
        told = API.CONSTANTS.get(f"{module}.{name}")
    assert told and len(told.split()) >= 3


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_name_has_an_example(module, name):
    """One that runs: see ``test_docstring_examples``. What a constant holds, its package shows."""
    value = getattr(import_module(module), name)
    if callable(value):
        told = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__  # not that of a parent
        assert ">>> " in told
    else:
        lines = import_module(module).__doc__.splitlines()
        assert any(line.lstrip().startswith(">>> ") and name in line for line in lines)


def test_every_number_of_the_results_is_on_a_page(tmp_path):
    TABLES.write_tables(tmp_path)
    files = sorted((ROOT / "docs" / "results").rglob("*.csv"))
    assert {path.stem for path in tmp_path.iterdir()} == {*map(TABLES.name_of, files), "index"}
    for path in files:
        text = (tmp_path / f"{TABLES.name_of(path)}.md").read_text()
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) == len(path.read_text().splitlines()) + 1  # and the rule under the header
        (link,) = re.findall(r"\]\((.*?)\)", text)
        assert (ROOT / "docs" / "tables" / link).resolve().exists()


@pytest.mark.parametrize(
    ("cell", "shown"), [("0.00012345678", "0.0001235"), ("3.0", "3"), ("", ""), ("a|b", "a\\|b"), ("nan", "nan")]
)
def test_cells_are_shown_with_few_digits(cell, shown):
    assert TABLES.shown(cell) == shown


def test_pages_are_written_once(tmp_path):
    """What has not changed keeps its time, so that it is not built again; what is no package any more goes."""
    (tmp_path / "diffnmf.gone.rst").write_text("gone\n")
    API.write_pages(tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(API.public_modules())
    os.utime(tmp_path / "diffnmf.rst", (0, 0))
    (tmp_path / "diffnmf.layers.rst").write_text("old\n")
    API.write_pages(tmp_path)
    assert (tmp_path / "diffnmf.rst").stat().st_mtime == 0
    assert (tmp_path / "diffnmf.layers.rst").read_text(encoding="utf-8") == API.page("diffnmf.layers")


def test_the_table_of_pretrained_models():
    """A row for each, with the scores that the registry has, and no row more."""
    rows = set()
    for name, entry in registry().items():
        (height, width), k, m = entry["model"]["image_shape"], entry["model"]["k"], entry["model"]["m"]
        scores, merging = entry["metrics"], entry["metrics"]["merge"]
        both = (f"{scores[s]:.3f} ({merging[s]:.3f})" for s in ("relative_error", "hoyer_H"))
        cells = [f"`{name}`", f"{height}×{width}", f"{k} of {m}", *both, f"{scores['copying']:.3f}"]
        rows.add(f"| {' | '.join([*cells, str(scores['groups']), entry['data_licence']])} |")
    lines = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if line.startswith("| `")} == rows


@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_gallery_scripts_compile_and_begin_with_a_title(script):
    text = script.read_text(encoding="utf-8")
    docstring = compile(text, str(script), "exec").co_consts[0]
    title, line = docstring.strip().splitlines()[:2]
    assert line == "=" * len(title)
    assert script.name.startswith("plot_")


def run_gallery_script(script, folder, **variables):
    """What the script prints; it must draw, warn of nothing and leave nothing behind."""
    program = (
        "import runpy, sys, matplotlib.pyplot as plt; plt.show = lambda: None;"
        "runpy.run_path(sys.argv[1]); assert plt.get_fignums()"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(script)]
    environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", **variables}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert list(folder.iterdir()) == []
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_gallery_scripts_run_and_draw(script, tmp_path):
    run_gallery_script(script, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["", pytest.param(REAL_DATA, marks=needs_data)], ids=["drawn", "photographs"])
def test_the_page_of_faces_says_what_it_shows(data, tmp_path):
    (script,) = (script for script in GALLERY if script.stem.endswith("_faces"))
    told = run_gallery_script(script, tmp_path, DIFFNMF_DATA=data or "")
    assert ("Olivetti faces" in told, "faces drawn by this page, no photographs" in told) == (bool(data), not data)
