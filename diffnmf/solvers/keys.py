"""A solver as a string that an operator of torch can take, and back.

Where a solver is what its options say (a frozen dataclass of plain values, as those of the library are), its key is the
expression that makes it: ``diffnmf.solvers.projected_gradient.ProjectedGradient(max_iter=40, tol=0.0, finish=True)``.
Equal options give an equal key in every process, so that an exported program runs wherever the class is known, and no
table grows. A key is read as data: it can only make a subclass of ``NNLSSolver`` that was already imported.

Any other solver has a number in a table of the living ones, which does not keep it alive.

``solver_key`` is traced by torch.compile, which then watches every option. The functions that it calls as they are
(``constant``) depend only on a class, or on an object whose identity torch.compile watches.
"""

import ast
import dataclasses
import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from diffnmf.solvers.base import NNLSSolver

PLAIN = (bool, int, float, str, type(None))
F = TypeVar("F", bound=Callable[..., Any])

_lock = threading.Lock()
_numbers = itertools.count(1)
_classes: WeakValueDictionary[str, type] = WeakValueDictionary()
_living: WeakValueDictionary[str, NNLSSolver] = WeakValueDictionary()


def constant(function: F) -> F:
    """``torch.compiler.assume_constant_result``, which would load the compiler: that takes as long as torch itself."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def solver_key(solver: NNLSSolver) -> str:
    """The key of a solver.

    Raises:
        ValueError: it is being made inside a compiled function, and is not what its options say.
    """
    name = _name_if_made_by_options(type(solver))
    if name:
        fields: Any = dataclasses.fields(solver)  # type: ignore[arg-type]
        options = [(field.name, getattr(solver, field.name)) for field in fields]
        if all(_is_plain(value) for _, value in options):
            return f"{name}({', '.join([f'{option}={_written(value)}' for option, value in options])})"
    return _key_of_object(solver, id(solver))


def solver_of_key(key: str) -> NNLSSolver:
    """The solver of a key.

    Raises:
        LookupError: its class is not known in this process, or the object is in another process or gone.
    """
    if key.endswith(")"):
        return _made_from_options(key)
    solver = _living.get(key)
    if solver is None:
        raise LookupError(
            f"solver: {key} is gone, or was in another process; keep the layer that holds it, or make its class a"
            " frozen dataclass whose options are plain values, which compiled and exported programs can make anew"
        )
    return solver


def _is_plain(value: object) -> bool:
    if type(value) is tuple:
        return all(_is_plain(part) for part in value)
    return type(value) in PLAIN


def _written(value: object) -> str:
    """The repr, which torch.compile cannot trace for a number that may change, from Python 3.13 on."""
    return repr(value) if type(value) in (str, tuple) else f"{value}"


@constant
def _name_if_made_by_options(cls: type) -> str:
    """The name of a class whose fields are all that its objects are made from; "" for any other class."""
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        return ""
    wanted = {field.name for field in dataclasses.fields(cls)}
    return _class_name(cls) if set(inspect.signature(cls).parameters) == wanted else ""


def _class_name(cls: type) -> str:
    """The full name of a class, with a number where another class has that name: redefined in a notebook, say."""
    with _lock:
        name = next((name for name, known in _classes.items() if known is cls), None)
        if name is None:
            name = f"{cls.__module__}.{cls.__qualname__}"
            name = f"{name}#{next(_numbers)}" if name in _classes else name
            _classes[name] = cls
    return name


@constant
def _key_of_object(solver: NNLSSolver, identity: int) -> str:
    """The key of this very object. It is not kept on the object, or a copy would have it, too.

    ``identity`` is another one than that of ``solver`` where torch.compile calls this with a stand-in for an object
    that the compiled function would make.
    """
    name = f"{type(solver).__module__}.{type(solver).__qualname__}"
    if identity != id(solver):
        raise ValueError(
            f"solver: expected {name} to be made outside the compiled function, or to be a frozen dataclass whose"
            " options are plain values; got one that is made inside"
        )
    with _lock:
        key = next((key for key, other in _living.items() if other is solver), None)
        if key is None:
            key = f"{name}#{next(_numbers)}"
            _living[key] = solver
    return key


@lru_cache(maxsize=256)
def _made_from_options(key: str) -> NNLSSolver:
    name, _, options = key.partition("(")
    call: Any = _Floats().visit(ast.parse(f"f({options}", mode="eval").body)
    values = {option.arg: ast.literal_eval(option.value) for option in call.keywords}
    solver: NNLSSolver = _class_of_name(name)(**values)
    return solver


class _Floats(ast.NodeTransformer):
    """inf and nan are written as names; this makes numbers of them."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node


def _class_of_name(name: str) -> type:
    if name not in _classes:
        for subclass in _subclasses(NNLSSolver):  # type: ignore[type-abstract]
            _class_name(subclass)
    cls = _classes.get(name)
    if cls is None:
        raise LookupError(f"solver: {name} is not known in this process; import the module that defines it first")
    return cls


def _subclasses(cls: type[NNLSSolver]) -> Iterator[type[NNLSSolver]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
