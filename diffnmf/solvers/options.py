"""Checks that the option fields of the solvers share."""

import math


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
