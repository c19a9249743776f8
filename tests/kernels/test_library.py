"""Which kernels are used: the library or torch, by what is there and by DIFFNMF_KERNEL."""

import ctypes
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from diffnmf.kernels import Kernel, library
from diffnmf.solvers import kernel

needs_library = pytest.mark.skipif(library.library() is None, reason=library.reason())


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    monkeypatch.delenv("DIFFNMF_KERNEL", raising=False)
    library.forget()
    yield
    library.forget()


@pytest.fixture
def missing(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "PATH", tmp_path / "_kernels.so")


@needs_library
def test_the_library_is_used_where_it_is_there():
    variant = library.library().variant
    assert kernel() == Kernel("c", f"loaded from {library.PATH}, instructions: {variant}")
    assert library.library().function("diffnmf_kernel_version")() == library.VERSION


@needs_library
@pytest.mark.parametrize("name", ["c", "torch"])
def test_the_environment_chooses(name, monkeypatch):
    monkeypatch.setenv("DIFFNMF_KERNEL", name)
    assert kernel().name == name


@needs_library
def test_an_empty_variable_is_as_none(monkeypatch):
    monkeypatch.setenv("DIFFNMF_KERNEL", "")
    assert kernel().name == "c"


def test_asking_for_torch_loads_no_library(monkeypatch):
    monkeypatch.setenv("DIFFNMF_KERNEL", "torch")
    monkeypatch.setattr(ctypes, "CDLL", lambda path: pytest.fail("loaded"))
    assert kernel() == ("torch", "DIFFNMF_KERNEL is torch")


def test_another_word_is_an_error_every_time(monkeypatch):
    monkeypatch.setenv("DIFFNMF_KERNEL", "C")
    for _ in range(2):
        with pytest.raises(ValueError, match="DIFFNMF_KERNEL: expected one of c, torch; got 'C'"):
            kernel()


def test_the_variable_is_read_once(monkeypatch):
    monkeypatch.setenv("DIFFNMF_KERNEL", "torch")
    first = kernel()
    monkeypatch.setenv("DIFFNMF_KERNEL", "C")
    assert kernel() is first


def test_without_a_library_torch_is_used(missing):
    assert library.library() is None
    assert kernel() == ("torch", library.reason())
    assert f"{library.PATH} does not exist" in library.reason()


def test_asking_for_a_library_that_is_not_there_says_what_to_do(missing, monkeypatch):
    monkeypatch.setenv("DIFFNMF_KERNEL", "c")
    with pytest.raises(RuntimeError, match=r"does not exist .*Install a C compiler .* or unset DIFFNMF_KERNEL"):
        kernel()


def test_a_file_that_is_no_library_counts_as_missing(missing):
    library.PATH.write_text("not a library")
    assert kernel().name == "torch"
    assert f"{library.PATH} cannot be used" in kernel().reason


@needs_library
def test_a_library_of_another_version_counts_as_missing(monkeypatch):
    monkeypatch.setattr(library, "VERSION", 1000)
    assert kernel().name == "torch"
    assert "this diffnmf needs 1000" in kernel().reason


def test_a_library_without_a_version_counts_as_missing(missing, monkeypatch):
    library.PATH.touch()
    monkeypatch.setattr(ctypes, "CDLL", lambda path: object())
    assert kernel().name == "torch"
    assert "no attribute 'diffnmf_kernel_version_plain'" in kernel().reason


@pytest.mark.parametrize(
    ("processor", "compiled", "expected"),
    [
        ("AVX512", ["plain", "avx2", "avx512"], "avx512"),
        ("AVX512", ["plain", "avx2"], "avx2"),
        ("AVX2", ["plain", "avx2", "avx512"], "avx2"),
        ("AVX2", ["plain", "avx512"], "plain"),
        ("DEFAULT", ["plain", "avx2", "avx512"], "plain"),
        ("SVE256", ["plain"], "plain"),
    ],
)
def test_the_processor_and_the_compiler_choose_the_instructions(monkeypatch, missing, processor, compiled, expected):
    library.PATH.touch()
    functions = {f"diffnmf_kernel_version_{name}": lambda: library.VERSION for name in compiled}
    monkeypatch.setattr(ctypes, "CDLL", lambda path: SimpleNamespace(**functions))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    assert kernel().name == "c"
    assert library.library().variant == expected
    assert kernel().reason.endswith(f"instructions: {expected}")


@needs_library
def test_what_torch_may_not_use_is_not_used():
    program = "from diffnmf.kernels import library; print(library.library().variant)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "plain"


def test_threads_load_it_once(monkeypatch, missing):
    library.PATH.touch()
    loads, together = [], threading.Barrier(8)

    class Slow:
        def __init__(self, path: str) -> None:
            loads.append(path)

        def diffnmf_kernel_version_plain(self) -> int:
            threading.Event().wait(0.01)  # long enough for every thread to ask
            return library.VERSION

    def ask() -> None:
        together.wait()
        library.library()

    monkeypatch.setattr(ctypes, "CDLL", Slow)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_importing_loads_no_library(fresh_processes):
    program = (
        "import diffnmf.layers; from diffnmf.kernels import library;"
        "print(library._load.cache_info().currsize, library._chosen)"
    )
    result = fresh_processes.run(program)
    assert result.stdout.strip() == "0 None", result.stderr
