"""Checks that the options of the methods share."""


def check_flag(name: str, value: object) -> None:
    """Raise unless value is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False; got {value!r}")
