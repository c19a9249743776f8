"""Whole models under torch.compile, torch.export and other transforms: one graph, and the same numbers."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, stack_module_state, vmap

from diffnmf.models import GANUNMF
from diffnmf.models.basis_start import _found

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
M, K = 6, 3
Y = torch.rand(4, 64, M, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def model(**options):
    torch.manual_seed(0)
    made = GANUNMF((8, 8), M, K, width=8, **options).double()
    made.generator.set_slots(Y)
    for parameter in made.parameters():  # a network from merging is zero at the start, and corrects nothing
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return made


def assert_same(found, expected):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"basis_init": "merge"}, {"basis_init": "spa"}, {"basis_init": "merge", "w_solver": "fc"}, {"mixture": True}],
    ids=str,
)
def test_a_compiled_model_is_one_graph(options):
    made = model(**options)
    compiled = torch.compile(made, fullgraph=True, backend="eager")
    assert_same(compiled(Y), made(Y))
    parameters = list(made.parameters())
    gradients = (torch.autograd.grad(run(Y).Y_hat.square().sum(), parameters) for run in (compiled, made))
    assert_same(*gradients)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"w_solver": "fc"}, {"mixture": True}], ids=str)
def test_the_way_back_can_be_compiled_ahead(options):
    """The pixels of an image lie apart in memory, which a view asks for."""
    made = model(**options)
    parameters = list(made.parameters())
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    gradients = (torch.autograd.grad(run(Y).Y_hat.square().sum(), parameters) for run in (compiled, made))
    assert_same(*gradients)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"basis_init": "merge"}, {"basis_init": "spa"}, {"w_solver": "fc"}], ids=str)
def test_an_exported_model_takes_any_number_of_groups_and_goes_into_a_file(tmp_path, options):
    made = model(**options).eval()
    groups = torch.export.Dim("groups", min=2, max=64)
    program = torch.export.export(made, (Y[:2],), dynamic_shapes=({0: groups},))
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        assert_same(loaded(Y), made(Y))


@pytest.mark.parametrize("k", [3, 8])  # columns are merged, or rows, since there are more than six parts
@pytest.mark.parametrize("slots", [False, True])
def test_the_operator_of_the_start_keeps_its_promises(k, slots):
    prototypes = torch.eye(64, k).double() if slots else torch.zeros(64, k)
    torch.library.opcheck(_found, (Y, prototypes, "merge", k))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of the checks of shapes
@pytest.mark.parametrize("basis_init", ["merge", "spa"])
def test_a_trace_is_not_bound_to_its_numbers(basis_init):
    made = model(basis_init=basis_init)
    traced = torch.jit.trace(made, (Y,), check_trace=False)
    assert_same(traced(1 - Y), made(1 - Y))


def test_shapes_without_numbers():
    made = model(basis_init="merge")
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert made(mode.from_tensor(Y)).H.shape == (4, 64, K)
    assert made.to("meta")(Y.to("meta")).W.shape == (4, K, M)


def test_an_ensemble_of_models_is_each_of_them():
    """Prototypes are mapped, too: every model has its own."""
    torch.manual_seed(0)
    made = [GANUNMF((8, 8), M, K, width=8, basis_init="merge").double() for _ in range(2)]
    for number, one in enumerate(made):
        one.generator.set_slots(Y.roll(number, 0) ** (1 + number))
    together = vmap(lambda *state: functional_call(made[0], state, (Y,)))(*stack_module_state(made))
    for number, one in enumerate(made):
        assert_same((x[number] for x in together), one(Y))
