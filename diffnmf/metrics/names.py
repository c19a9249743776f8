"""The names of scores in files: the column error was called eps at first, and files keep that name, too."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
CURRENT, OLDER = "column_error", "eps"


def with_both_names(scores: Mapping[str, T]) -> dict[str, T]:
    """The scores with the column error under both of its names, the current one first.

    Arguments:
        scores: name -> value; the column error has one of its names or both, each perhaps behind a prefix, as in
            "test_column_error".
    """
    both: dict[str, T] = {}
    for name, value in scores.items():
        prefixes = [name.removesuffix(known) for known in (CURRENT, OLDER) if f"_{name}".endswith(f"_{known}")]
        both |= {prefix + known: value for prefix in prefixes for known in (CURRENT, OLDER)} or {name: value}
    return both
