"""Every check of an argument, once: what counts as an int, a number, a flag, a name, a matrix, and what is said if not.

A check returns the value in plain Python, so that NumPy's numbers are welcome wherever Python's are, and what is kept,
compared or written to a file is plain all the same. A value of the wrong kind is a TypeError, one that is out of range
a ValueError; the message names the argument, what was expected, and what came.
"""

import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from diffnmf.errors import unknown_name

T = TypeVar("T")
REAL_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # float8 is for storage: it has no products


def check_count(name: str, value: object, *, at_least: int = 0, alternative: str = "") -> int:
    """A whole number of at least ``at_least``: a Python or NumPy integer, neither a bool nor a float.

    Where the caller takes something else as well, ``alternative`` says what.
    """
    expected = _either(f"an int ≥ {at_least}", alternative)
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected {expected}; got {_shown(value)}")
    if value < at_least:
        raise ValueError(f"{name}: expected {expected}; got {value}")
    return int(value)


def check_optional_count(name: str, value: object, *, at_least: int = 0) -> int | None:
    """As ``check_count``, or None."""
    return None if value is None else check_count(name, value, at_least=at_least, alternative="None")


def check_counts(name: str, values: object, *, at_least: int = 0) -> tuple[int, ...]:
    """Several whole numbers, at least one of them, in the order given."""
    expected = f"at least one int ≥ {at_least}, such as range({at_least}, {at_least + 10})"
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise TypeError(f"{name}: expected {expected}; got {_shown(values)}")
    counts = tuple(check_count(name, value, at_least=at_least) for value in values)
    if not counts:
        raise ValueError(f"{name}: expected {expected}; got {_shown(values)}")
    return counts


def check_seed(name: str, value: object) -> int:
    """A whole number that a generator of torch can be seeded with."""
    seed = check_count(name, value)
    if seed >= 2**64:  # more bits than torch takes
        raise ValueError(f"{name}: expected an int ≥ 0 and < 2^64; got {seed}")
    return seed


def check_number(name: str, value: object, interval: str = "[0, inf)", *, alternative: str = "") -> float:
    """A real number in an interval, which is written as in mathematics: "(0, 1]" leaves 0 out and has 1 in it.

    An infinite end means that the number is finite. ``alternative`` is as in ``check_count``.
    """
    expected = _either(_in_words(interval), alternative)
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)" if _is_a_number_in_quotes(value) else ""
        raise TypeError(f"{name}: expected {expected}; got {_shown(value)}{hint}")
    # An int stays one: equal, and shown as it was written.
    plain = int(value) if isinstance(value, numbers.Integral) else float(value)
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = plain >= low if interval[0] == "[" else plain > low
    below = plain <= high if interval[-1] == "]" else plain < high
    if not (above and below):  # neither for NaN
        raise ValueError(f"{name}: expected {expected}; got {plain}")
    return plain


def check_in_dtype(name: str, value: float, dtype: torch.dtype) -> float:
    """A number within the range of the dtype that is computed in."""
    most = torch.finfo(dtype).max
    if not -most <= value <= most:
        raise ValueError(
            f"{name}: expected a number within the range of {dtype}, which is computed in, ±{most:.2g}; got"
            f" {_shown(value)} (use torch.float64, or other units)"
        )
    return value


def check_flag(name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False; got {_shown(value)}")
    return bool(value)


def check_name(name: str, value: object, known: Iterable[str]) -> str:
    """One of the known names; the message lists them."""
    known = list(known)
    if not isinstance(value, str):
        raise TypeError(*unknown_name(name, value, known).args)
    if value not in known:
        raise unknown_name(name, value, known)
    return value


def check_not_empty(name: str, value: Sized, what: str) -> None:
    """Raise unless there is at least one of what it holds."""
    if len(value) == 0:
        raise ValueError(f"{name}: expected at least one {what}; got none")


def check_names(name: str, values: Collection[str], known: Collection[str], what: str) -> tuple[str, ...]:
    """At least one of the known names, each once; ``what`` they are is told where there is none."""
    check_not_empty(name, values, what)
    return tuple(dict.fromkeys(check_name(name, value, known) for value in values))


def check_text(name: str, value: object, expected: str = "a text") -> str:
    """A text that is not empty; ``expected`` says in the message what it stands for."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected {expected}; got {_shown(value)}")
    if not value:
        raise ValueError(f"{name}: expected {expected}; got {value!r}")
    return value


def check_image_shape(image_shape: object, name: str = "image_shape") -> tuple[int, int]:
    """(height, width), both ≥ 1."""
    if not isinstance(image_shape, (tuple, list)):
        raise TypeError(f"{name}: expected (height, width); got {_shown(image_shape)}")
    if len(image_shape) != 2:
        raise ValueError(f"{name}: expected (height, width); got {_shown(image_shape)}")
    height, width = (check_count(name, side, at_least=1) for side in image_shape)
    return height, width


def check_tensor(name: str, value: object, shape: str = "") -> Tensor:
    """A dense tensor; ``shape`` says in the message which one is expected, such as "(N, h, w)"."""
    if not isinstance(value, Tensor):
        expected = f"a torch.Tensor {shape}".rstrip()
        raise TypeError(f"{name}: expected {expected}; got {type(value).__name__} (use torch.as_tensor)")
    if value.is_nested:
        raise TypeError(
            f"{name}: expected a dense tensor; got a nested one (use torch.nested.to_padded_tensor, or a loop)"
        )
    if value.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor; got layout {value.layout} (use {name}.to_dense())")
    return value


def check_floating(name: str, value: object) -> Tensor:
    """A dense tensor of a real floating-point dtype."""
    tensor = check_tensor(name, value)
    if tensor.dtype not in REAL_DTYPES:
        # .to(torch.float32) would lose the imaginary part.
        use = f"{name}.abs() or {name}.real" if tensor.is_complex() else f"{name}.to(torch.float32)"
        raise TypeError(f"{name}: expected a real floating-point dtype; got {tensor.dtype} (use {use})")
    return tensor


def check_matrix(name: str, value: object) -> Tensor:
    """A floating-point tensor of at least two dimensions: a matrix or a batch of them."""
    matrix = check_floating(name, value)
    if matrix.ndim < 2:
        hint = f" ({name}.unsqueeze(-1) is a matrix of one column)" if matrix.ndim == 1 else ""
        raise ValueError(
            f"{name}: expected a matrix or a batch of them, at least 2 dimensions; got {tuple(matrix.shape)}{hint}"
        )
    return matrix


def check_same_rows(name: str, value: Tensor, other: str, matrix: Tensor) -> None:
    """Raise unless two matrices, or batches of them, have as many rows."""
    if value.shape[-2] != matrix.shape[-2]:
        raise ValueError(
            f"{name} and {other}: expected the same number of rows n; got {name} {tuple(value.shape)} and {other}"
            f" {tuple(matrix.shape)} (transpose the one whose columns are not the vectors)"
        )


def check_expands(name: str, value: Tensor, shape: Sequence[int], what: str = "", remedy: str = "") -> Tensor:
    """The tensor, expanded to a shape that it broadcasts to.

    Arguments:
        name: of the argument.
        value: the tensor.
        shape: what it is expanded to.
        what: what that shape is, for the message.
        remedy: what to do otherwise, likewise.
    """
    try:
        return value.expand(tuple(shape))
    except RuntimeError:
        expected = " ".join(filter(None, (what, str(tuple(shape)))))
        hint = f" ({remedy})" if remedy else ""
        raise ValueError(
            f"{name}: expected a shape that broadcasts to {expected}; got {tuple(value.shape)}{hint}"
        ) from None


def check_same_device(name: str, value: Tensor, other: str, device: torch.device) -> None:
    """Raise unless ``value`` is on the device of the argument called ``other``."""
    if value.device != device:
        raise ValueError(
            f"{name}: expected the device of {other}, {device}; got {value.device} (move one of them with .to)"
        )


def check_instance(argument: str, value: object, base: type[T], classes: Mapping[str, type[T]]) -> T:
    """An instance of a base class itself, or what its class of that name makes with default options.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: neither a name nor an instance.
    """
    if isinstance(value, base):
        return value
    if isinstance(value, str):
        return classes[check_name(argument, value, classes)]()
    known = ", ".join(classes)
    raise TypeError(f"{argument}: expected a name ({known}) or a {argument} instance; got {_shown(value)}")


def set_fields(config: Any, **values: object) -> None:
    """Give fields of a frozen dataclass their checked, plain values; for its ``__post_init__``."""
    for name, value in values.items():
        object.__setattr__(config, name, value)


def _either(expected: str, alternative: str) -> str:
    return f"{expected}, or {alternative}" if alternative else expected


def _in_words(interval: str) -> str:
    low, high = (end.strip() for end in interval[1:-1].split(","))
    if high != "inf":
        return f"a number in {interval}"
    return f"a finite number {'≥' if interval[0] == '[' else '>'} {low}"


def _is_a_number_in_quotes(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    """A value in a message: NumPy's numbers and long things without their clutter."""
    if isinstance(value, np.generic):
        value = value.item()
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
