"""What several test files share."""

import sys

import pytest
import torch
from fresh_processes import FreshProcesses

from diffnmf.kernels import calling, kernel, library


@pytest.fixture(autouse=True)
def the_same_numbers():
    """Else what a test draws depends on which tests ran before it, in the same process."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def forgetful_compiler():
    """Else the layers of other tests count among the eight compilations that one function may have."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture(scope="module")
def one_thread():
    """For tiny matrices threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def fresh_processes(tmp_path_factory):
    """For tests of what a program imports, which this process has imported already."""
    processes = FreshProcesses(tmp_path_factory.mktemp("processes"))
    yield processes
    processes.close()


@pytest.fixture
def without_pictures(monkeypatch):
    """For tests that are about something else: drawing takes most of the time of a small run."""
    for name in ("save_image_grid", "save_decomposition", "save_curves"):
        monkeypatch.setattr(f"diffnmf.runs.pictures.{name}", lambda *args, **kwargs: None)


@pytest.fixture
def torch_alone(monkeypatch):
    """Without the compiled kernels, as on other devices."""
    monkeypatch.setenv(library.VARIABLE, "torch")
    library.forget()
    yield
    monkeypatch.undo()
    library.forget()


@pytest.fixture
def compiled():
    """With the compiled kernels: a test that needs them is of no use where there is no compiler."""
    if kernel().name != "c":
        pytest.skip(f"needs the compiled kernels: {kernel().reason}")


@pytest.fixture(params=library.variants())
def every_variant(request, compiled, monkeypatch):
    """With the compiled kernels for each set of instructions that this processor has."""
    if not library.library().has(request.param):
        pytest.skip(f"the compiler that made the library does not know {request.param}")
    monkeypatch.setattr(library, "variants", lambda: (request.param,))
    monkeypatch.setattr(calling, "_functions", {})
    library.forget()
    yield request.param
    monkeypatch.undo()
    library.forget()
