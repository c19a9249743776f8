"""What is published runs: the Python of README and docs, the examples in docstrings, the wheel outside the checkout."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

import diffnmf

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The compiled library has the suffix of a module and is none.
MODULES = [
    "diffnmf",
    *(m.name for m in pkgutil.walk_packages(diffnmf.__path__, "diffnmf.") if m.name != "diffnmf.kernels._kernels"),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run_one_after_the_other(page):
    torch.manual_seed(0)  # a reader's draws are random; whether they converge must not be
    namespace: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def anchors_of(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them: small letters, hyphens for spaces, no other punctuation."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)  # a comment is no heading
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_one(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert anchor in anchors_of(there), f"{target}#{anchor}"


def examples_of(name: str) -> list[doctest.DocTest]:
    """Those of a module, its classes and its functions; ``doctest.testmod`` would pass over what has a decorator."""
    module = importlib.import_module(name)
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", None) == name}
    found = doctest.DocTestFinder(recurse=False).find(module)
    for key, value in own.items():
        if inspect.isroutine(value) or inspect.isclass(value):
            found += doctest.DocTestFinder().find(value, f"{name}.{key}", module=False, globs=vars(module))
    return [test for test in found if test.examples]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent.name == "results" and p.stem != "index"], ids=lambda p: p.stem
)
def test_results_are_dated_and_say_how_they_were_had(page):
    text = page.read_text(encoding="utf-8")
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", text)
    assert re.search(r"^\W*(python|make|diffnmf|torchrun|\.bench-venv/bin/python) \S", text, re.M)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    torch.manual_seed(0)
    runner = doctest.DocTestRunner()
    for test in examples_of(name):
        runner.run(test)
    assert runner.failures == 0


def test_examples_under_a_decorator_are_found():
    assert "diffnmf.metrics.bounds.excess_over_svd" in {test.name for test in examples_of("diffnmf.metrics.bounds")}


def test_the_readme_names_every_solver_and_data_set():
    from diffnmf.data import DATASETS
    from diffnmf.models import W_SOLVERS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (*DATASETS, *W_SOLVERS):
        assert re.search(rf"[`\" ,]{name}[`\" ,.]", text), name


def test_one_version():
    """The package, the way to cite it and the list of changes speak of the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == diffnmf.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == diffnmf.__version__
    assert diffnmf.__version__ in (ROOT / "CHANGELOG.md").read_text()


LIGHT = """
import sys
for name in {others}:
    sys.modules[name] = None  # as if it were not installed
import torch
from diffnmf import Blocks, NNLSLayer, factorize, nnls
H, Y = torch.rand(30, 4, requires_grad=True), torch.rand(30, 5)
NNLSLayer()(H, Y).sum().backward()
assert nnls(H, Y).converged
factorize(torch.rand(3, 20, 15), 4, tol=0, max_iter=5)
factorize(Blocks(Y.numpy()).mT, 2, tol=0, max_iter=5)
import diffnmf
try:
    diffnmf.NMF
except ImportError as error:
    print(error)
try:
    nnls(H, Y, solver="cvxpylayer")
except diffnmf.errors.SolverError as error:
    print(error)
"""


def test_the_layer_needs_torch_and_numpy_alone():
    """What README says of an installation without dependencies, and what one is told there."""
    others = ("cvxpy", "cvxpylayers", "diffcp", "accelerate", "tensorboard", "typer", "markdown", "torchvision")
    others += ("matplotlib", "sklearn", "scipy", "tqdm", "yaml", "safetensors", "PIL")
    done = subprocess.run([sys.executable, "-c", LIGHT.format(others=others)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0] == "diffnmf.NMF needs a package that is not installed: pip install scikit-learn"
    assert "pip install cvxpy cvxpylayers" in told[1]


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("diffnmf-*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True)
    program = (
        "import diffnmf, torch; from diffnmf.layers import NNLSLayer; print(diffnmf.__file__);"
        "print(tuple(NNLSLayer()(torch.rand(2, 5, 3), torch.rand(2, 5, 4)).shape));"
        "from diffnmf.models import GANUNMF; print(GANUNMF.pretrained('digits-k16').config.k)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    path, shape, k = result.stdout.split("\n")[:3]
    assert k == "16"
    assert Path(path).is_relative_to(tmp_path)
    assert shape == "(2, 3, 4)"
