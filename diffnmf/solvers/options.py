"""Checks that the option fields of solvers and methods share, and how either is found by name."""

import math
from collections.abc import Mapping
from typing import TypeVar

from diffnmf.errors import unknown_name

T = TypeVar("T")


def instance_of(argument: str, value: object, base: type[T], classes: Mapping[str, type[T]]) -> T:
    """An instance of a base class itself, or what its class of that name makes with default options.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: neither a name nor an instance.
    """
    if isinstance(value, base):
        return value
    if isinstance(value, str):
        if value not in classes:
            raise unknown_name(argument, value, classes)
        return classes[value]()
    known = ", ".join(classes)
    raise TypeError(f"{argument}: expected a name ({known}) or a {argument} instance; got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise unless value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False; got {value!r}")


def check_count(name: str, value: object, *, at_least: int = 0) -> None:
    """Raise unless value is an int of at least ``at_least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int ≥ {at_least}; got {value!r}")
    if value < at_least:
        raise ValueError(f"{name}: expected an int ≥ {at_least}; got {value}")


def check_tolerance(name: str, value: object) -> None:
    """Raise unless value is a finite number ≥ 0."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number ≥ 0; got {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected a finite number ≥ 0; got {value}")
