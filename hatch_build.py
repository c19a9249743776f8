"""Compiles the C of ``diffnmf/kernels`` into one shared library: for hatchling, and by hand in a checkout.

``python hatch_build.py`` rebuilds the library in place. Nothing fails where there is no compiler: diffnmf is installed
without the library then, and computes with torch.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

KERNELS = Path("diffnmf", "kernels")
# The same name stands in diffnmf/kernels/library.py, which cannot be imported before diffnmf is installed.
LIBRARY = KERNELS / ("_kernels" + {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so"))

# Without errno and traps, loops become vector instructions. Not -ffast-math: NaN and infinity keep their meaning.
FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math"]
LIBRARIES: list[str] = []
if sys.platform != "win32":  # where the compiler does both by itself
    FLAGS += ["-fPIC"]
    LIBRARIES += ["-lm"]
# Not -march=native: a wheel runs on other machines too. Every source is compiled for each of these sets of instructions
# under names of its own, and diffnmf/kernels/library.py chooses by the processor where it runs.
PLAIN = "plain"
VARIANTS: dict[str, list[str]] = {PLAIN: []}
if platform.machine().lower() in ("x86_64", "amd64"):
    VARIANTS |= {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f"]}


class CompilationError(Exception):
    """There is no library; the message says why in one line."""


def compiler() -> list[str]:
    """The C compiler with its arguments: ``$CC``, the one that built Python, or the first that is found."""
    chosen = _words(os.environ.get("CC"))
    if chosen:
        return chosen  # found or not: another one is not what was asked for
    for words in (_words(sysconfig.get_config_var("CC")), ["cc"], ["gcc"], ["clang"]):
        if words and shutil.which(words[0]):
            return words
    raise CompilationError("no C compiler was found (set CC, or install gcc or clang)")


def compile_library(root: Path) -> Path:
    """Compile all C sources below ``root`` into one library, and return its path.

    Raises:
        CompilationError: there is no compiler, or its result cannot be used. A library of older sources is gone then.
    """
    library = root / LIBRARY
    # Beside its destination, so that it can be moved there at once: a running process never sees half a library.
    unfinished = library.with_name(f".{os.getpid()}{library.name}")
    try:
        command = compiler()
        with tempfile.TemporaryDirectory() as folder:
            objects = _compile(command, root, Path(folder))
            _link(command, objects, unfinished)
        unfinished.replace(library)
    except (CompilationError, OSError) as error:
        _remove(library)
        raise CompilationError(str(error)) from error
    finally:
        _remove(unfinished)
    return library


def _words(command: str | None) -> list[str]:
    return shlex.split(command or "", posix=os.name == "posix")


def _remove(path: Path) -> None:
    with suppress(OSError):  # not there, in use, or in a folder that may not be written to
        path.unlink()


def _compile(command: list[str], root: Path, folder: Path) -> list[Path]:
    """The object files of all variants but those that the compiler cannot make, one process a core."""
    sources = sorted((root / KERNELS).glob("*.c"))
    objects: list[Path] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = {
            name: [pool.submit(_compile_source, [*command, *FLAGS, *flags], name, path, folder) for path in sources]
            for name, flags in VARIANTS.items()
        }
        for name, files in made.items():
            try:
                objects += [file.result() for file in files]
            except CompilationError as error:
                if name == PLAIN:
                    pool.shutdown(cancel_futures=True)
                    raise
                print(f"diffnmf goes without its kernels for {name}: {error}", file=sys.stderr)
    return objects


def _compile_source(command: list[str], variant: str, source: Path, folder: Path) -> Path:
    compiled = folder / f"{source.stem}_{variant}.o"
    _run([*command, f"-DVARIANT={variant}", "-c", "-o", str(compiled), str(source)])
    return compiled


def _link(command: list[str], objects: list[Path], library: Path) -> None:
    """Link, and load the result once: one for another processor must not be installed."""
    _run([*command, "-shared", "-o", str(library), *[str(path) for path in objects], *LIBRARIES])
    # In a process of its own, which may crash.
    _run([sys.executable, "-I", "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(library)])


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise CompilationError(f"{command[0]}: {error.strerror}") from error
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        # Compilers end with a count of their errors; Python ends with its error.
        line = next((line for line in lines if "error:" in line), lines[-1])
        raise CompilationError(f"{command[0]}: {line.strip()}")


def _without(error: CompilationError) -> str:
    return f"diffnmf goes without its compiled kernels and computes with torch: {error}"


def get_build_hook() -> type:
    """What hatchling asks for; imported here, because by hand hatchling is not needed."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    from packaging.tags import platform_tags

    class KernelBuildHook(BuildHookInterface):
        """Puts the library into the wheel, which is one for this platform and every Python then."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            try:
                compile_library(Path(self.root))
            except CompilationError as error:
                self.app.display_warning(_without(error))
                return
            # Those tags promise to run on older systems; this library was compiled for the one at hand.
            platform = next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
            build_data["artifacts"].append(f"/{LIBRARY.as_posix()}")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"

    return KernelBuildHook


if __name__ == "__main__":
    try:
        print(compile_library(Path(__file__).parent))
    except CompilationError as error:
        print(_without(error), file=sys.stderr)
