"""How the programs in Triton are launched, and when: seen without running them."""

import sys
from types import SimpleNamespace

import pytest
import torch

from diffnmf.errors import DeviceWarning
from diffnmf.kernels.cuda import calling, hals, trying

MOST = 65_535  # programs in the second and third dimension of a grid


class Recorded:
    """Stands for the programs of a module, and keeps the grids that they are launched on."""

    def __init__(self):
        self.grids = []

    def __getitem__(self, grid):
        self.grids.append(grid)
        return lambda *arguments, **options: None


@pytest.fixture
def launched(monkeypatch):
    """The grids, with modules of recorders in the place of those that import Triton."""
    recorded = Recorded()
    names = {"programs": ("gram", "prepare", "search", "gradients"), "sweeping": ("half",)}
    for module, programs in names.items():
        fake = SimpleNamespace(**dict.fromkeys(programs, recorded))
        monkeypatch.setitem(sys.modules, f"diffnmf.kernels.cuda.{module}", fake)
        monkeypatch.setattr(f"diffnmf.kernels.cuda.{module}", fake, raising=False)
    return recorded.grids


class TestGrids:
    """A grid of two dimensions would end at 65,535 parts of a problem."""

    def test_a_million_columns(self, launched, monkeypatch):
        monkeypatch.setattr(calling, "_capability", lambda device: (8, 9))
        m = 16 * (MOST + 1)
        none = torch.zeros(()).double()
        calling.direct(
            torch.ones(1, 1, 1),
            torch.ones(1, 1, 1).expand(1, 1, m),
            none.expand(1, 1, 1),
            none.expand(1, 1, m),
            None,
            0.0,
        )
        assert launched == [(MOST + 1,), (1,), (m,)]

    def test_millions_of_rows(self, launched):
        n = 64 * (MOST + 1)
        H, Y = torch.ones(()).expand(1, n, 1), torch.ones(()).expand(1, n, 1)
        W = torch.ones(1, 1, 1).double()
        calling.gradients(H, Y, W, W, wants_H=True, wants_Y=False)
        assert launched == [(MOST + 1,)]

    def test_a_wide_factor(self, launched):
        X = torch.zeros(()).double().expand(2, 128, 4 * (MOST + 1))
        hals.half_(X, X, X, 1, 0.0, None, None)
        assert launched == [(2 * (MOST + 1),)]


class TestTrying:
    """Whether programs run is tried once for a device and a number of components, and kept."""

    @pytest.fixture
    def tried(self, monkeypatch):
        tries = []
        monkeypatch.setattr(calling, "DEVICES", {"cpu"})
        monkeypatch.setattr(calling, "runs", lambda attempt, device, k: tries.append(k) or True)
        return tries

    def test_not_under_a_transform(self, tried):
        seen = []
        torch.func.vmap(lambda x: seen.append(calling.available(3, x)) or x)(torch.ones(2, 3))
        assert seen == [False]
        assert not tried

    def test_not_while_operations_are_recorded(self, tried):
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False):
            assert not calling.available(3, torch.ones(2, 3))
        assert not tried

    def test_not_with_a_tangent(self, tried):
        with torch.autograd.forward_ad.dual_level():
            x = torch.autograd.forward_ad.make_dual(torch.ones(2, 3), torch.ones(2, 3))
            assert not calling.available(3, x)
        assert not tried

    def test_not_in_gradients_of_a_batch(self, tried):
        seen = []

        class Looking(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, grad):
                seen.append(calling.available(3, grad))
                return grad

        x = torch.ones(2, 3, requires_grad=True)
        torch.autograd.grad(Looking.apply(x), x, torch.ones(4, 2, 3), is_grads_batched=True)
        assert seen == [False]
        assert not tried

    def test_otherwise(self, tried):
        assert calling.available(3, torch.ones(2, 3))
        assert tried == [3]


class TestRuns:
    """What is remembered of an attempt."""

    GPU = torch.device("cuda", 0)

    @pytest.fixture
    def recording(self, monkeypatch):
        """Whether a CUDA graph is recorded, on a machine that has a GPU for all that ``runs`` can see."""
        recording = []
        monkeypatch.setattr(trying, "_seen", {})
        monkeypatch.setattr(trying, "_is_wanted", lambda: True)
        monkeypatch.setattr(trying, "_is_new_enough", lambda device: True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: bool(recording))
        return recording

    def test_once_for_every_number_of_components(self, recording):
        tries = []

        def attempt(device, k):
            tries.append(k)
            return True

        assert all(trying.runs(attempt, self.GPU, k) for k in (3, 4, 3))
        assert tries == [3, 4]

    @pytest.mark.parametrize("fault", [False, RuntimeError("PassManager::run failed\nat line 3"), AssertionError()])
    def test_a_failure_is_said_once_and_torch_goes_on(self, recording, fault):
        def attempt(device, k):
            if fault:
                raise fault
            return False

        said = "PassManager::run failed" if isinstance(fault, RuntimeError) else "AssertionError" if fault else "wrong"
        with pytest.warns(
            DeviceWarning, match=f"k = 7 cannot be run on cuda:0, operations of torch are used: .*{said}"
        ):
            assert not trying.runs(attempt, self.GPU, 7)
        assert not trying.runs(attempt, self.GPU, 7)

    def test_nothing_is_tried_and_nothing_remembered_while_a_graph_is_recorded(self, recording):
        def attempt(device, k):
            return True

        recording.append(True)
        assert not trying.runs(attempt, self.GPU, 3)
        recording.clear()
        assert trying.runs(attempt, self.GPU, 3)
        recording.append(True)
        assert trying.runs(attempt, self.GPU, 3)


@pytest.mark.skipif(not hasattr(torch.Tag, "cudagraph_unsafe"), reason="needs torch 2.8")
@pytest.mark.parametrize("name", ["nnls_solution", "constrained_nnls_solution", "basis_start"])
def test_what_reads_from_the_device_is_left_out_of_cuda_graphs(name):
    import diffnmf.models  # noqa: F401 - the start of its generator is one of them

    assert torch.Tag.cudagraph_unsafe in getattr(torch.ops.diffnmf, name).default.tags
