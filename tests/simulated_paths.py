"""Every path of the library on the simulated accelerator: what each launches and waits for, as JSON on the output.

A program of its own: a process can have one such device, and keeps it to its end.

    python tests/simulated_paths.py [part of a name ...] [--lines NAME]
"""

import argparse
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import torch
from simulated_accelerator import DEVICE, Event, Log, SimulatedAccelerator, SimulatedTensor, on_device
from torch import Tensor

from diffnmf import nnls
from diffnmf.data import GroupSampler, ImageSet, group_matrix
from diffnmf.evaluation.scoring import score_generator
from diffnmf.factorization import HALS, METHODS, factorize
from diffnmf.factorization.initialization import INITS
from diffnmf.kernels import cuda
from diffnmf.kernels.cuda import calling, trying
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import summarize
from diffnmf.models import GANUNMF, Critic, Generator, GeneratorConfig
from diffnmf.solvers import SOLVERS, devices
from diffnmf.training import Trainer, TrainingConfig
from diffnmf.training.engine import make_accelerator

Path = Callable[[], Log]
PATHS: dict[str, Path] = {}
SHAPE, M, K = (8, 8), 12, 5


@dataclass(frozen=True)
class Recorded:
    """What a path did: operations, and where they come from.

    Attributes:
        difference: the largest entry by which the result differs from that of the CPU, where there is one to compare.
    """

    kernels: int
    waits: int
    uploads: int
    where: list[str]


def path(name: str) -> Callable[[Path], Path]:
    def add(function: Path) -> Path:
        PATHS[name] = function
        return function

    return add


def groups(batch: int = 3, n: int = 64, k: int = K, m: int = M) -> tuple[Tensor, Tensor]:
    """Bases with sparse parts, and mixtures of a few of them with noise: H (B, n, k), Y (B, n, m)."""
    g = torch.Generator().manual_seed(0)
    H = torch.rand(batch, n, k, generator=g) * (torch.rand(batch, n, k, generator=g) < 0.4)
    W = torch.rand(batch, k, m, generator=g) * (torch.rand(batch, k, m, generator=g) < 0.5)
    return H, (H @ W + 0.05 * torch.rand(batch, n, m, generator=g)).clamp(0, 1)


def recorded(call: Callable[[], object]) -> Log:
    with SimulatedAccelerator() as accelerator:
        call()
    return accelerator.log


def _add_layers() -> None:
    for name, solver in SOLVERS.items():
        backward = solver().backwards[0]
        for dtype in (torch.float32, torch.float64):
            if name == "cvxpylayer":
                continue  # on the CPU by its nature
            kind = str(dtype).removeprefix("torch.")
            PATHS[f"layer forward, {name}, {kind}"] = lambda n=name, d=dtype, b=backward: _layer(n, d, b)[0]
            PATHS[f"layer backward, {name}, {kind}"] = lambda n=name, d=dtype, b=backward: _layer(n, d, b)[1]


def _layer(name: str, dtype: torch.dtype, backward: str) -> tuple[Log, Log]:
    H, Y = (on_device(x.to(dtype).requires_grad_()) for x in groups())
    with SimulatedAccelerator() as accelerator:
        W = NNLSLayer(name, backward=backward)(H, Y)
    seed = on_device(torch.ones(W.shape, dtype=dtype))
    return accelerator.log, recorded(lambda: torch.autograd.grad(W, (H, Y), seed))


class _Launches:
    """In the place of a program in Triton: it counts, and says of every column that it is good."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: object, **sizes: object) -> None:
            launched.append(Event(self.name, "kernels/cuda/calling.py"))
            for x in args:
                if isinstance(x, SimulatedTensor):
                    x.inner.zero_() if x.dtype == torch.int32 else None

        return launch


launched: list[Event] = []


def _counted(call: Callable[[], object]) -> Log:
    """What a call launches, the programs in Triton among it."""
    launched.clear()
    log = recorded(call)
    return Log([*log.kernels, *launched], log.waits, log.uploads)


@contextmanager
def _triton() -> Iterator[None]:
    """The way through the kernels in Triton, which are counted and not run."""
    before = calling.can_take, trying._is_wanted
    calling.can_take, trying._is_wanted = lambda *tensors: True, lambda: True
    for module, names in PROGRAMS.items():
        counters = SimpleNamespace(**{name: _Launches(name) for name in names})
        setattr(cuda, module, counters)
        sys.modules[f"diffnmf.kernels.cuda.{module}"] = counters  # type: ignore[assignment]
    try:
        yield
    finally:
        calling.can_take, trying._is_wanted = before


def _with_triton(dtype: torch.dtype) -> tuple[Log, Log]:
    H, Y = (on_device(x.to(dtype).requires_grad_()) for x in groups())
    solved: list[Tensor] = []
    with _triton():
        forward = _counted(lambda: solved.append(NNLSLayer()(H, Y)))
        seed = on_device(torch.ones(solved[0].shape, dtype=dtype))
        return forward, _counted(lambda: torch.autograd.grad(solved[0], (H, Y), seed))


PROGRAMS = {"programs": ("gram", "prepare", "search", "solve", "gradients"), "sweeping": ("half",)}
for _dtype in (torch.float32, torch.float64):
    _name = str(_dtype).removeprefix("torch.")
    PATHS[f"layer forward, Triton, {_name}"] = lambda dtype=_dtype: _with_triton(dtype)[0]  # type: ignore[misc]
    PATHS[f"layer backward, Triton, {_name}"] = lambda dtype=_dtype: _with_triton(dtype)[1]  # type: ignore[misc]


@path("nnls with diagnostics")
def _diagnostics() -> Log:
    H, Y = (on_device(x.double()) for x in groups())
    return recorded(lambda: nnls(H, Y))


@path("layer with penalties and a warm start")
def _penalties() -> Log:
    H, Y = (on_device(x) for x in groups())
    start = on_device(torch.ones(3, K, M))
    ridge, l1 = (on_device(torch.full((3, 1, 1), penalty)) for penalty in (0.1, 0.01))
    return recorded(lambda: NNLSLayer()(H, Y, ridge=ridge, l1=l1, W0=start))


@path("layer, hard columns")
def _hard() -> Log:
    """Twins, a zero column and NaN: what is marked goes through the search of the rest."""
    H, Y = (x.double() for x in groups())
    H[0, :, 1], H[1, :, 2], Y[2, 3, 4] = H[0, :, 0], 0.0, float("nan")
    H, Y = on_device(H.requires_grad_()), on_device(Y)
    return recorded(lambda: NNLSLayer()(H, Y).nan_to_num().sum().backward())


def _add_factorizations() -> None:
    for name in METHODS:
        PATHS[f"factorize, {name}"] = lambda method=name: _factorization(method, None, 20)
    for init in INITS:
        PATHS[f"start, {init}"] = lambda start=init: _factorization("hals", start, 0)


def _factorization(method: str, init: str | None, iterations: int) -> Log:
    Y = on_device(groups()[1])
    return recorded(lambda: factorize(Y, K, method=method, init=init, max_iter=iterations, tol=1e-3))


@path("factorize, shuffled, one of two has converged")
def _shuffled() -> Log:
    Y = groups(batch=2)[1]
    Y[0] = 0.0
    Y = on_device(Y)
    return recorded(lambda: factorize(Y, K, method=HALS(shuffle=True), init="random", max_iter=3, tol=1e-3))


@path("iteration, hals, k = 30")
def _hals_iteration() -> Log:
    """Ten of them between two checks: all of it over ten is one."""
    Y = on_device(groups(batch=2, n=96, k=30, m=40)[1])
    few, many = (_counted(lambda n=n: factorize(Y, 30, init="random", max_iter=n, tol=0)) for n in (10, 20))
    return _tenth(few, many)


@path("iteration, hals, k = 30, Triton")
def _hals_iteration_with_triton() -> Log:
    with _triton():
        return _hals_iteration()


def _tenth(few: Log, many: Log) -> Log:
    """One of the ten iterations that one log has more than the other: evenly spread events of it."""
    return Log(*(_share(a, b) for a, b in zip(few.parts, many.parts, strict=True)))


def _share(few: list[Event], many: list[Event]) -> list[Event]:
    more = -(-(len(many) - len(few)) // 10)
    return many[len(few) :: 10][:more] if more > 0 else []


def _add_generators() -> None:
    for name, options in {
        "unrolled": {},
        "fc": {"w_solver": "fc"},
        "mixture": {"mixture": True},
        "merge": {"basis_init": "merge"},
        "spa": {"basis_init": "spa"},
    }.items():
        PATHS[f"generator, {name}"] = lambda options=options: _generator(options)
        PATHS[f"training step, {name}"] = lambda options=options: _training(options)


def _images() -> ImageSet:
    pixels = groups(batch=1, n=64, k=8, m=200)[1][0].mT.reshape(-1, *SHAPE)
    return ImageSet("blobs", pixels, None)


def _generator(options: dict[str, object]) -> Log:
    generator = _made(options)
    with SimulatedAccelerator() as accelerator:
        generator.to(DEVICE)
    accelerator.log = Log()
    Y = on_device(groups()[1])
    return recorded(lambda: generator(Y))


def _made(options: dict[str, object]) -> Generator:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(SHAPE, M, K, width=8, **options))  # type: ignore[arg-type]
    generator.set_slots(groups(batch=6)[1])
    return generator


def _training(options: dict[str, object]) -> Log:
    """A whole step: its batch is put together, critic and generator learn, the average moves."""
    accelerator = make_accelerator()
    type(accelerator).device = DEVICE  # the engine knows of no such device
    images, logs = _images(), []
    with SimulatedAccelerator() as device:
        on_it = ImageSet(images.name, images.images.to(DEVICE), None)
        trainer = Trainer(
            _made(options), Critic(SHAPE, M, width=8), GroupSampler(on_it, M), TrainingConfig(batch_size=2), accelerator
        )
        plan = trainer._plan(1)
        for step in range(3):  # the first one makes the state of the optimisers
            device.log = Log()
            trainer.step([plan.batch(*part) for part in plan.slices(step)])
            logs.append(device.log)
    return logs[-1]


@path("metrics")
def _metrics() -> Log:
    H, Y = groups()
    H, Y, W = on_device(H), on_device(Y), on_device(torch.rand(3, K, M, generator=torch.Generator().manual_seed(1)))
    return recorded(lambda: summarize(Y, H, W))


@path("GANUNMF.factorize, refined")
def _trained() -> Log:
    model = GANUNMF(SHAPE, M, K, width=8)
    Y = groups()[1]
    with SimulatedAccelerator() as accelerator:
        model.to(DEVICE)
        accelerator.log = Log()
        model.factorize(Y, refine=2)
    return accelerator.log


@path("scoring")
def _scoring() -> Log:
    generator, images = _made({}), _images()
    with SimulatedAccelerator() as accelerator:
        generator.to(DEVICE)
        on_it = ImageSet(images.name, images.images.to(DEVICE), None)
        numbers = GroupSampler(images, M).epoch(0)[:2].to(DEVICE)
        accelerator.log = Log()
        score_generator(generator, on_it, numbers)
    return accelerator.log


@path("ahead of 128 groups: PCA and starts by merging")
def _ahead() -> Log:
    accelerator = make_accelerator()
    type(accelerator).device = DEVICE
    images = _images()
    with SimulatedAccelerator() as device:
        on_it = ImageSet(images.name, images.images.to(DEVICE), None)
        config = TrainingConfig(batch_size=2)
        trainer = Trainer(
            _made({"basis_init": "merge"}), Critic(SHAPE, M, width=8), GroupSampler(on_it, M), config, accelerator
        )
        plan = trainer._plan(1)
        device.log = Log()
        plan.batch(*plan.slices(0)[0])
    return device.log


@path("layer on a device without float64")
def _without_float64() -> Log:
    """There and back: the device copies, and computes nothing."""
    devices.WITHOUT_FLOAT64.add(DEVICE.type)
    try:
        H, Y = (on_device(x.requires_grad_()) for x in groups())
        with SimulatedAccelerator() as accelerator:
            W = NNLSLayer()(H, Y)
            assert W.device == DEVICE and W.dtype == torch.float32
            torch.autograd.grad(W.sum(), (H, Y))
    finally:
        devices.WITHOUT_FLOAT64.discard(DEVICE.type)
    return accelerator.log


@path("factorize on a device without float64")
def _refused() -> Log:
    devices.WITHOUT_FLOAT64.add(DEVICE.type)
    try:
        factorize(on_device(groups()[1]), K)
    except ValueError as error:
        assert "Y.cpu()" in str(error)
    else:
        raise AssertionError("an error was expected")
    finally:
        devices.WITHOUT_FLOAT64.discard(DEVICE.type)
    return Log()


@path("the simulation itself")
def _itself() -> Log:
    x, y = on_device(torch.ones(3)), torch.ones(3)
    with SimulatedAccelerator() as accelerator:
        (x + y.to(DEVICE)).view(3, 1)  # two kernels, an upload
        x[x > 0]  # two kernels, a wait
        x.cpu()  # a copy, for which it waits
    return accelerator.log


@path("groups")
def _groups() -> Log:
    images = _images()
    with SimulatedAccelerator() as accelerator:
        on_it = ImageSet(images.name, images.images.to(DEVICE), None)
        numbers = GroupSampler(images, M).epoch(0)[:2].to(DEVICE)
        accelerator.log = Log()
        group_matrix(on_it, numbers)
    return accelerator.log


for _add in (_add_layers, _add_factorizations, _add_generators):
    _add()


def run(name: str) -> dict[str, object]:
    """The counts of a path and where its waits are, or the error that it ended with."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            log = PATHS[name]()
    except Exception:
        return {"error": traceback.format_exc(limit=-6)}
    waits = [_line(event) for event in log.waits]
    return asdict(Recorded(*log.counts, where=[*waits, *(f"{_line(event)} (upload)" for event in log.uploads)]))


def _line(event: Event) -> str:
    return f"{event.name} at {event.where}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("names", nargs="*")
    parser.add_argument("--lines", action="store_true", help="Which lines launch most.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [name for name in PATHS if not options.names or any(part in name for part in options.names)]
    print(json.dumps({name: run(name) for name in chosen}, indent=1))
    if options.lines:
        for name in chosen:
            print(name, *PATHS[name]().most(40), sep="\n  ", file=sys.stderr)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # The threads of the gradient's engine call Python for the device, and abort a process whose Python has ended.
    os._exit(0)
