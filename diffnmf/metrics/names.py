"""What scores are called: in tables and pictures, and in files.

The column error was called eps at first, and files keep that name, too.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
CURRENT, OLDER = "column_error", "eps"

# Name in code and files -> the one name that tables and pictures have for it, and what it is.
SCORES = {
    "relative_error": ("relative error", "‖Y − HW‖ / ‖Y‖"),
    "column_error": (
        "column error, eq. (4)",
        "mean over the columns y of Y of ‖y − Hw‖, unsquared, as in the paper",
    ),
    "hoyer_H": ("Hoyer H", "Hoyer sparsity of the columns of H: 0 for equal entries, 1 for a single one"),
    "hoyer_W": ("Hoyer W", "Hoyer sparsity of the rows of W: 0 for equal entries, 1 for a single one"),
    "zero_share": ("zeros of H", "the share of the entries of H that are exactly zero"),
    "part_overlap": ("part overlap", "mean cosine of two columns of H"),
    "copying": ("copying", "mean largest cosine of a column of H with a column of Y: 1 if H is a choice of the images"),
    "dead_components": ("dead", "components that contribute nothing"),
    "kkt_residual": ("KKT residual of W", "how far W is from optimal for H; about 1e-7 is rounding"),
    "slot_consistency": ("slot consistency", "mean cosine of equal slots of H in different groups"),
}
NAMES = {score: name for score, (name, _) in SCORES.items()}


def definitions(scores: Iterable[str]) -> list[str]:
    """One line for each score that has a definition: its name, and what it is.

    Example:
        >>> definitions(["relative_error", "seconds"])
        ['relative error: ‖Y − HW‖ / ‖Y‖']
    """
    return [": ".join(SCORES[score]) for score in scores if score in SCORES]


def with_current_names(scores: Mapping[str, T]) -> dict[str, T]:
    """The scores without the older name of the column error: every score once.

    Arguments:
        scores: as ``with_both_names`` returns them.
    """
    return {name: value for name, value in scores.items() if not f"_{name}".endswith(f"_{OLDER}")}


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
