"""Scores as a table for the terminal."""

from typing import Any

from diffnmf.metrics.names import NAMES

SCORES = ("column_error", "relative_error", "hoyer_H", "copying", "dead_components")
COLUMNS = {**{score: NAMES[score] for score in SCORES}, "groups": "groups"}
RIVALS = ("anls", "merge", "merge + 5 rounds", "spa", "svd")


def metrics_table(metrics: dict[str, Any], model: str) -> str:
    """A plain-text table of ``metrics.json``: the model on training and test groups, and its rivals on test groups.

    Arguments:
        metrics: what is in metrics.json, or what ``evaluate_run`` gives.
        model: how the model is called in the first column.

    Example:
        >>> from diffnmf.runs import metrics_table
        >>> scores = {"relative_error": 0.44, "hoyer_H": 0.61, "dead_components": 0.0, "groups": 8}
        >>> print(metrics_table({"train": scores, "test": scores}, "GAN-UNET"))
                          column error, eq. (4)  relative error     Hoyer H     copying        dead      groups
        GAN-UNET (train)                      -           0.440       0.610           -       0.000           8
        GAN-UNET (test)                       -           0.440       0.610           -       0.000           8
    """
    test = metrics["test"]
    rows = {f"{model} (train)": metrics["train"], f"{model} (test)": test}
    if "test_ema" in metrics:
        rows[f"{model}, EMA (test)"] = metrics["test_ema"]
    rows |= {name: test[name] for name in RIVALS if name in test}
    width = max(len(name) for name in rows)
    widths = {column: max(12, len(title) + 2) for column, title in COLUMNS.items()}
    lines = [" " * width + "".join(f"{title:>{widths[column]}}" for column, title in COLUMNS.items())]
    for name, scores in rows.items():
        cells = [f"{_cell(scores.get(column)):>{widths[column]}}" for column in COLUMNS]
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
