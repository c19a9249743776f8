"""Compiling the kernels: by hand, and into wheels and source archives; and going without where that fails."""

import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from diffnmf.kernels import library

ROOT = Path(__file__).parent.parent.parent
PACKED = ["diffnmf", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"]

spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
hatch_build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hatch_build)

LIBRARY = hatch_build.LIBRARY.as_posix()
SOURCE = "diffnmf/kernels/version.c"


def there_is_a_compiler() -> bool:
    try:
        return shutil.which(hatch_build.compiler()[0]) is not None
    except hatch_build.CompilationError:
        return False


needs_compiler = pytest.mark.skipif(not there_is_a_compiler(), reason="needs a C compiler")
posix = pytest.mark.skipif(os.name != "posix", reason="the compilers of these tests are shell scripts")


@pytest.fixture
def whole_checkout(tmp_path):
    """A copy to build in: failures remove the library, which the checkout itself needs."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    built = shutil.ignore_patterns(Path(LIBRARY).name, "__pycache__")
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=built)
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def checkout(whole_checkout):
    """One with a single C source, which compiles at once."""
    for path in (whole_checkout / "diffnmf" / "kernels").glob("*.c"):
        if path != whole_checkout / SOURCE:
            path.unlink()
    return whole_checkout


def script(path: Path, text: str) -> str:
    """A shell script in the place of a compiler."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def run(arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def by_hand(checkout: Path, **environment: str) -> subprocess.CompletedProcess:
    return run(["hatch_build.py"], checkout, **environment)


def build(target: str, checkout: Path, **environment: str) -> tuple[Path, str]:
    """A wheel or sdist without network, and what was printed on the way."""
    result = run(["-m", "hatchling", "build", "--target", target, "--directory", "out"], checkout, **environment)
    (archive,) = (checkout / "out").iterdir()
    return archive, result.stdout + result.stderr


def variants_in(path: Path) -> list[str]:
    """The sets of instructions that a library was compiled for."""
    loaded = ctypes.CDLL(str(path))
    return [name for name in hatch_build.VARIANTS if hasattr(loaded, f"diffnmf_kernel_version_{name}")]


def test_both_sides_name_the_same_file():
    assert library.PATH.parts[-3:] == hatch_build.LIBRARY.parts


def test_both_sides_name_the_same_instructions():
    assert set(hatch_build.VARIANTS) in ({"plain"}, {"plain", *library.VARIANTS["AVX512"]})
    assert set(library.variants()) <= set(hatch_build.VARIANTS)


@needs_compiler
def test_there_is_a_variant_for_this_processor(checkout):
    by_hand(checkout)
    assert set(library.variants()) <= set(variants_in(checkout / LIBRARY))


@needs_compiler
def test_by_hand_it_needs_no_hatchling(checkout):
    result = run(["-S", "hatch_build.py"], checkout)
    assert result.stdout.strip() == str(checkout / LIBRARY)
    assert [path.name for path in (checkout / LIBRARY).parent.glob(".*")] == []


@needs_compiler
def test_a_running_process_keeps_its_library(checkout):
    by_hand(checkout)
    before = (checkout / LIBRARY).stat().st_ino
    with (checkout / LIBRARY).open("rb"):  # open, so that the number is not given away
        by_hand(checkout)
        assert (checkout / LIBRARY).stat().st_ino != before


@needs_compiler
@posix
def test_the_library_of_older_sources_goes_when_compiling_fails(checkout):
    by_hand(checkout)
    (checkout / SOURCE).write_text("this is not C")
    result = by_hand(checkout)
    assert "computes with torch" in result.stderr
    assert "error:" in result.stderr
    assert not (checkout / LIBRARY).exists()


@posix
def test_a_library_that_cannot_be_loaded_is_not_kept(checkout, tmp_path):
    writes_text = script(tmp_path / "cc", 'while [ "$1" != -o ]; do shift; done; echo "no library" > "$2"')
    result = by_hand(checkout, CC=writes_text)
    assert "computes with torch" in result.stderr
    assert not (checkout / LIBRARY).exists()


@needs_compiler
@posix
def test_instructions_that_the_compiler_does_not_know_are_left_out(checkout, tmp_path):
    command = " ".join(hatch_build.compiler())
    old = script(tmp_path / "cc", f'case "$*" in *-mavx*) exit 1;; *) exec {command} "$@";; esac')
    result = by_hand(checkout, CC=old)
    assert result.stdout.strip() == str(checkout / LIBRARY)
    assert variants_in(checkout / LIBRARY) == ["plain"]
    assert all(f"without its kernels for {name}: " in result.stderr for name in hatch_build.VARIANTS if name != "plain")


@pytest.mark.parametrize(
    ("CC", "expected"), [("ccache gcc -m64", ["ccache", "gcc", "-m64"]), ("'/my tools/cc' -g", ["/my tools/cc", "-g"])]
)
@posix
def test_CC_may_hold_arguments(CC, expected, monkeypatch):
    monkeypatch.setenv("CC", CC)
    assert hatch_build.compiler() == expected


@posix
def test_the_compiler_of_python_is_asked_before_others(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hatch_build.sysconfig, "get_config_var", lambda name: "python-cc -pthread")
    with pytest.raises(hatch_build.CompilationError, match="no C compiler was found"):
        hatch_build.compiler()
    script(tmp_path / "clang", "")
    assert hatch_build.compiler() == ["clang"]
    script(tmp_path / "python-cc", "")
    assert hatch_build.compiler() == ["python-cc", "-pthread"]


@needs_compiler
def test_the_wheel_holds_library_and_sources_and_fits_every_python(checkout):
    wheel, _ = build("wheel", checkout)
    assert wheel.name.startswith("diffnmf-")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: false" in archive.read(about).decode()
    assert {LIBRARY, SOURCE} <= set(names)


@posix
@pytest.mark.parametrize("compiler", ["missing", "failing"])
def test_without_a_compiler_the_wheel_is_pure_and_complete(compiler, checkout, tmp_path):
    CC = "/nonexistent" if compiler == "missing" else script(tmp_path / "cc", "echo cc: error: no licence >&2; exit 1")
    (checkout / LIBRARY).write_text("left from before")
    wheel, printed = build("wheel", checkout, CC=CC)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "computes with torch: " + ("/nonexistent: No such file" if compiler == "missing" else CC) in printed
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("diffnmf/")}
    expected = {path.relative_to(checkout).as_posix() for path in (checkout / "diffnmf").rglob("*") if path.is_file()}
    assert names == expected
    assert LIBRARY not in names


@needs_compiler
def test_the_source_archive_builds_the_same_wheel(checkout, tmp_path):
    by_hand(checkout)
    archive, _ = build("sdist", checkout)
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    assert (unpacked / SOURCE).exists()
    assert not (unpacked / LIBRARY).exists()
    wheel, _ = build("wheel", unpacked)
    assert LIBRARY in zipfile.ZipFile(wheel).namelist()


@needs_compiler
def test_an_editable_install_compiles_in_the_checkout(checkout):
    hook = hatch_build.get_build_hook()(str(checkout), {}, None, None, "out", "wheel")
    hook.initialize("editable", {"artifacts": []})
    assert (checkout / LIBRARY).exists()


@pytest.mark.slow
@needs_compiler
@posix
def test_every_source_compiles_for_all_instructions_and_without_warnings(whole_checkout, tmp_path):
    command = " ".join(hatch_build.compiler())
    strict = script(tmp_path / "cc", f'exec {command} -Wall -Wextra -Werror "$@"')
    assert by_hand(whole_checkout, CC=strict).stderr == ""
    assert variants_in(whole_checkout / LIBRARY) == list(hatch_build.VARIANTS)


@pytest.mark.slow
@needs_compiler
def test_the_wheel_uses_its_library_outside_the_checkout(whole_checkout, tmp_path):
    wheel, _ = build("wheel", whole_checkout)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        "import json; from diffnmf.kernels.library import library; from diffnmf.solvers import kernel;"
        "print(json.dumps([*kernel(), library().variant, library().function('diffnmf_kernel_version')()]))"
    )
    name, reason, variant, version = json.loads(
        run(["-c", program], tmp_path, PYTHONPATH=str(tmp_path / "site"), DIFFNMF_KERNEL="").stdout
    )
    assert name == "c"
    assert reason == f"loaded from {tmp_path / 'site' / LIBRARY}, instructions: {variant}"
    assert variant in library.variants()
    assert version == library.VERSION
