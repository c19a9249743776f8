"""A solver of a user's own works wherever those of the library do, whatever its class looks like."""

import copy
import gc
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from helpers import EXACT_TO_ROUNDING, slow
from nnls_problems import random_problem, scipy_nnls
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jvp, vmap

from diffnmf import nnls
from diffnmf.errors import ConvergenceWarning
from diffnmf.layers import NNLSLayer
from diffnmf.models import Generator, GeneratorConfig
from diffnmf.solvers import (
    SOLVERS,
    BlockPivoting,
    CoordinateDescent,
    FirstOrderSolver,
    NNLSSolver,
    Problem,
    ProjectedGradient,
    Solved,
)
from diffnmf.solvers.keys import constant, solver_key, solver_of_key

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


class Scipy(NNLSSolver):
    """W by scipy, no gradient of its own; no dataclass either, and its options can be changed."""

    exact, tolerance, backwards = True, 1e-10, ("detached",)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def solve(self, problem: Problem, backward: str) -> Solved:
        assert backward == "detached"
        found = [
            scipy_nnls(H, Y, ridge, l1) for H, Y, ridge, l1 in zip(*(x.detach() for x in problem.inputs), strict=True)
        ]
        return Solved(self.factor * torch.stack(found), torch.zeros(len(found), dtype=torch.int32))


@dataclass(frozen=True)
class FrozenScipy(Scipy):
    """The same as what the library asks for: a frozen dataclass of plain values."""

    factor: float = 1.0
    name: str = 'it\'s (a, "name")'
    more: tuple = (1, (None, -float("inf")))


@dataclass(eq=True)
class UnhashableScipy(Scipy):
    factor: float = 1.0
    notes: dict = field(default_factory=dict)


@dataclass(frozen=True)
class FrozenWithADict(Scipy):
    factor: float = 1.0
    notes: dict = field(default_factory=dict)


@dataclass(frozen=True)
class OwnInit(Scipy):
    factor: float = 1.0

    def __init__(self, percent: float = 100.0) -> None:
        object.__setattr__(self, "factor", percent / 100)


@dataclass(frozen=True)
class PlainGradient(FirstOrderSolver):
    """Projected gradient without momentum."""

    max_iter: int = 30

    def iterates(self, form, X0):
        X = X0
        for _ in range(self.max_iter):
            X = (X - (form.A @ X - form.C) / form.A.abs().sum(-1).amax(-1)[:, None, None]).clamp(min=0)
            yield X


class Undecorated(ProjectedGradient):
    pass


OWN = [Scipy, FrozenScipy, UnhashableScipy, FrozenWithADict, OwnInit, PlainGradient, Undecorated]


@pytest.fixture(params=OWN, ids=lambda cls: cls.__name__)
def layer(request):
    return made(request.param)


def made(cls):
    return NNLSLayer(cls(), ridge=0.1, l1=0.05)


@pytest.fixture
def problem():
    return random_problem(3, n=10, k=4, m=3)


reference = NNLSLayer(ridge=0.1, l1=0.05)


def reverse_gradient(layer, H, Y):
    H = H.clone().requires_grad_()
    return torch.autograd.grad(layer(H, Y).sin().sum(), H)[0]


def test_values_and_gradients(layer, problem):
    H, Y = problem
    torch.testing.assert_close(layer(H, Y), reference(H, Y), rtol=0, atol=1e-12)
    assert nnls(H, Y, solver=layer.solver).converged.all()
    torch.testing.assert_close(reverse_gradient(layer, H, Y), reverse_gradient(reference, H, Y))
    small = tuple(x.requires_grad_() for x in random_problem(1, n=6, k=3, m=2))
    assert gradcheck(layer, small) and gradgradcheck(layer, small)


def test_transforms(layer, problem):
    H, Y = problem
    expected = reference(H, Y)
    torch.testing.assert_close(vmap(layer)(H, Y), expected, rtol=0, atol=1e-12)
    gradients = vmap(grad(lambda h, y: layer(h, y).sin().sum()))(H, Y)
    torch.testing.assert_close(gradients, reverse_gradient(reference, H, Y))
    direction = torch.randn_like(H)
    _, tangent = jvp(lambda h: layer(h, Y).sin().sum(), (H,), (direction,))
    torch.testing.assert_close(tangent, (gradients * direction).sum())
    second, wanted = (hessian(lambda h, f=f: f(h, Y[0]).sin().sum())(H[0]) for f in (layer, reference))
    torch.testing.assert_close(second, wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("cls", [FrozenScipy, *slow(*(cls for cls in OWN if cls is not FrozenScipy))])
def test_compile_without_graph_breaks(cls, problem):
    H, Y = problem
    layer = made(cls)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(H, Y), reference(H, Y), rtol=0, atol=1e-12)
    torch.testing.assert_close(reverse_gradient(compiled, H, Y), reverse_gradient(reference, H, Y))


@pytest.mark.parametrize("cls", [Scipy, *slow(FrozenScipy, UnhashableScipy), FrozenWithADict])
def test_a_compiled_function_tells_solvers_apart(cls, problem):
    expected = nnls(*problem).W

    @torch.compile(fullgraph=True, backend="eager")
    def solve(solver):
        return NNLSLayer(solver, backward="detached")(*problem)

    for factor in (1.0, 2.0, 3.0, 2.0):
        torch.testing.assert_close(solve(cls(factor)), factor * expected, rtol=0, atol=1e-10)


def test_a_solver_that_is_changed_counts_as_it_is(problem):
    solver = Scipy(1.0)
    compiled = torch.compile(NNLSLayer(solver, backward="detached"), fullgraph=True, backend="eager")
    before = compiled(*problem)
    solver.factor = 2.0
    torch.testing.assert_close(compiled(*problem), 2 * before)


def test_what_is_made_inside_a_compiled_function(problem):
    def solve(cls):
        return torch.compile(
            lambda factor: NNLSLayer(cls(factor), backward="detached")(*problem), fullgraph=True, backend="eager"
        )

    expected = nnls(*problem).W
    for factor in (2.0, 3.0, 4.0):  # a float that becomes symbolic
        torch.testing.assert_close(solve(FrozenScipy)(factor), factor * expected, rtol=0, atol=1e-10)
    # torch.compile knows this one by a stand-in that nobody has initialised: better an error than another solver.
    with pytest.raises(Exception, match="UnhashableScipy to be made outside the compiled function"):
        solve(UnhashableScipy)(2.0)


class TestKeys:
    def test_a_key_is_the_expression_that_makes_the_solver(self):
        assert solver_key(CoordinateDescent(3, tol=0.5)) == (
            "diffnmf.solvers.coordinate_descent.CoordinateDescent(max_iter=3, tol=0.5, finish=True)"
        )

    @pytest.mark.parametrize(
        "solver",
        [
            *(SOLVERS[name]() for name in EXACT_TO_ROUNDING),
            ProjectedGradient(max_iter=np.int64(3), tol=np.float64(1e-3)),
            FrozenScipy(float("nan")),
            FrozenScipy(-float("inf"), name="a\nb", more=()),
            PlainGradient(finish=False),
            Undecorated(tol=1e-300),
        ],
        ids=repr,
    )
    def test_equal_solvers_share_a_key_and_are_made_anew(self, solver):
        key = solver_key(solver)
        assert "#" not in key
        for twin in (replace(solver), copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))):
            assert solver_key(twin) == key
        again = solver_of_key(key)
        assert type(again) is type(solver)
        assert repr(again) == repr(solver)  # not ==: NaN differs from itself

    @pytest.mark.parametrize("cls", [Scipy, UnhashableScipy, FrozenWithADict, OwnInit])
    def test_others_are_known_by_themselves(self, cls):
        solver = cls()
        key = solver_key(solver)
        assert solver_key(solver) == key and solver_of_key(key) is solver
        twins = [cls(), copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))]
        assert len({key, *map(solver_key, twins)}) == 4

    def test_the_table_keeps_nothing_alive(self):
        key = solver_key(Scipy())
        gc.collect()
        with pytest.raises(LookupError, match="solver: .*Scipy#.* is gone, .*frozen dataclass whose options are plain"):
            solver_of_key(key)

    def test_another_class_of_the_same_name_has_another_key(self):
        def made():
            @dataclass(frozen=True)
            class Local(Scipy):
                factor: float = 1.0

            return Local

        first, second = made(), made()
        keys = [solver_key(first()), solver_key(second())]
        assert keys[0] != keys[1]
        assert [type(solver_of_key(key)) for key in keys] == [first, second]

    @pytest.mark.parametrize("key", ["os.system('true')", "nowhere.Solver(max_iter=1)", "builtins.dict(a=1)"])
    def test_a_key_makes_nothing_but_solvers_that_are_known(self, key):
        with pytest.raises(LookupError, match="is not known in this process; import the module that defines it"):
            solver_of_key(key)

    def test_values_are_data(self):
        with pytest.raises(ValueError, match="malformed"):
            solver_of_key(f"{solver_key(BlockPivoting()).partition('(')[0]}(max_iter=abs(-1))")

    def test_threads_see_one_key(self):
        solvers, keys = [Scipy() for _ in range(50)], []
        threads = [threading.Thread(target=lambda: keys.append([solver_key(s) for s in solvers])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(keys) == 8 and all(found == keys[0] for found in keys) and len(set(keys[0])) == 50


def test_the_names_of_a_registered_solver(monkeypatch, problem):
    """Its file and a line in the registry: nothing else has to know it."""
    monkeypatch.setitem(SOLVERS, "plain", PlainGradient)
    H, Y = problem
    assert NNLSLayer("plain").solver == PlainGradient()
    torch.testing.assert_close(vmap(NNLSLayer("plain"))(H, Y), nnls(H, Y).W, rtol=0, atol=1e-12)
    stopped = NNLSLayer(SOLVERS["plain"]().truncated(2), backward="unrolled")
    assert gradcheck(stopped, (H.requires_grad_(), Y))


def test_in_a_generator():
    Y = torch.rand(2, 64, 6)
    torch.manual_seed(0)
    result = Generator(GeneratorConfig((8, 8), 6, 3, width=8), PlainGradient())(Y)
    torch.testing.assert_close(result.W, nnls(result.H, Y).W)


def test_kinds_of_gradient_that_it_does_not_list_are_refused(problem):
    H, Y = problem
    with pytest.raises(ValueError, match='backward: Scipy has no iterations .*; use "implicit" or "detached"'):
        NNLSLayer(Scipy(), backward="unrolled")(H, Y)
    halves = Scipy(0.5)
    halves.exact = False
    with pytest.raises(ValueError, match='backward: "implicit" is right only at the exact solution'):
        NNLSLayer(halves)(H.requires_grad_(), Y)
    with pytest.warns(ConvergenceWarning, match="Scipy: 3 of 3"):
        nnls(H.detach(), Y, solver=halves)


@pytest.mark.slow
def test_an_exported_program_runs_in_another_process(tmp_path, problem):
    (tmp_path / "mysolver.py").write_text(
        "from dataclasses import dataclass\n"
        "from diffnmf.solvers import ProjectedGradient\n"
        "@dataclass(frozen=True)\n"
        "class Mine(ProjectedGradient):\n"
        "    note: str = 'x'\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from mysolver import Mine
    finally:
        sys.path.remove(str(tmp_path))
    torch.export.save(torch.export.export(NNLSLayer(Mine(30), ridge=0.1), problem), tmp_path / "layer.pt2")
    torch.save(problem, tmp_path / "problem.pt")
    program = """
import sys, torch, diffnmf.solvers
if sys.argv[1] == "known":
    import mysolver
layer = torch.export.load("layer.pt2").module()
torch.save(layer(*torch.load("problem.pt")), "W.pt")
"""
    command = [sys.executable, "-c", program]
    subprocess.run([*command, "known"], cwd=tmp_path, check=True, capture_output=True)
    expected = NNLSLayer(ridge=0.1)(*problem)
    torch.testing.assert_close(torch.load(tmp_path / "W.pt"), expected, rtol=0, atol=1e-12)
    unknown = subprocess.run([*command, "unknown"], cwd=tmp_path, capture_output=True, text=True)
    assert "solver: mysolver.Mine is not known in this process; import the module that defines it" in unknown.stderr


def test_a_constant_is_marked_as_torch_does_it():
    ours, theirs = constant(lambda: 1), torch.compiler.assume_constant_result(lambda: 1)
    assert vars(ours) == vars(theirs) != {}
