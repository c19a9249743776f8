"""The ladder of imports, and what importing the library loads."""

import ast
import re
from pathlib import Path

import pytest

import diffnmf

PACKAGE = Path(diffnmf.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"


def ladder() -> list[str]:
    """The first column of the table under "The ladder": a part imports only from those above it, or from itself."""
    section = PAGE.read_text(encoding="utf-8").split("## The ladder")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


LADDER = ladder()
FORBIDDEN = {("models", "data")}  # allowed by the ladder, and unwanted all the same
HEAVY = ["cvxpy", "cvxpylayers", "diffcp", "torchvision", "sklearn", "matplotlib", "accelerate", "PIL", "tensorboard"]
HEAVY += ["scipy", "markdown", "pandas", "torch._dynamo"]


def module_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_modules(path: Path) -> set[str]:
    """The modules of diffnmf that a file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "diffnmf"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.split(".")[0] == "diffnmf":
                found.add(node.module)
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_part_is_on_the_ladder():
    parts = {module_name(path).split(".")[1] for path in module_files()}
    assert parts == set(LADDER)


@pytest.mark.parametrize("path", module_files(), ids=module_name)
def test_imports_go_up_the_ladder(path):
    own = module_name(path).split(".")[1]
    for target in imported_modules(path):
        assert target != "diffnmf", f"{path}: imports the package itself, which imports everything"
        part = target.split(".")[1]
        assert LADDER.index(part) <= LADDER.index(own), f"{path} ({own}) imports {target}"
        assert (own, part) not in FORBIDDEN


def test_only_the_commands_import_the_studies():
    importers = {
        path for path in module_files() if any(t.startswith("diffnmf.studies") for t in imported_modules(path))
    }
    assert {module_name(path).split(".")[1] for path in importers} == {"studies", "cli"}


def test_every_file_that_the_page_names_exists():
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 15
    root = PAGE.parent.parent
    missing = [name for name in named if not (PACKAGE / name).is_file() and not (root / name).is_file()]
    assert missing == []


def test_no_import_cycles():
    modules = {module_name(path): path for path in module_files()}
    edges = {
        # A package stands for its __init__.py, which its own files do not import.
        name: {t for t in imported_modules(path) if t in modules and t != name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name in done:
            return
        for target in edges[name]:
            visit(target, (*trail, name))
        done.add(name)

    for name in edges:
        visit(name, ())


@pytest.mark.parametrize(
    "statement",
    [
        "import diffnmf",
        "from diffnmf.layers import NNLSLayer",
        "from diffnmf.models import Generator",
        "from diffnmf.data import load_dataset",
        "import diffnmf.runs",
        "import diffnmf.studies.paper",
        "import diffnmf.cli",
    ],
)
def test_importing_loads_nothing_heavy(statement, fresh_processes):
    program = f"import sys; {statement}; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = fresh_processes.run(program)
    assert result.stdout.strip() == "[]", result.stderr
