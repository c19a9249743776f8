"""The exceptions and warnings of the library, and the one way to say that a name is unknown."""

import sys
import warnings
from collections.abc import Iterable

# Through which the library may have been called: a wrapper of an estimator, a pipeline, a search, torch.no_grad.
BETWEEN = ("diffnmf", "sklearn", "joblib", "torch")


class ConvergenceWarning(UserWarning):
    """A solver stopped before its tolerance; the result is usable but not exact."""


class PredictionWarning(UserWarning):
    """A fit with missing entries says of them what nothing that is known allows; the message says what to do."""


class DeviceWarning(UserWarning):
    """A device lacks what a computation needs; it is done elsewhere, and the message says where."""


class CheckpointWarning(UserWarning):
    """A file of a run is damaged, missing or no longer current; the message says what was done instead."""


class ImageWarning(UserWarning):
    """Image files hold more than their grey values, which is left out; the message says what, and of how many files."""


class SolverError(RuntimeError):
    """A solver could not produce a result at all; the message names the problem of the batch."""


class DataUnavailableError(RuntimeError):
    """A data set could neither be found nor downloaded; the message says what was tried and what to do."""


class RunFolderError(RuntimeError):
    """A run folder holds a run already, holds none, or holds one that does not fit."""


class ProcessLostError(RuntimeError):
    """Another process that shares a computation has ended; the message says what is left and how to go on."""


class DivergenceError(RuntimeError):
    """A loss or a gradient became NaN or infinite; the message names it, its step, and what was kept."""


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user, however many calls it is away: the first that is in none of ``BETWEEN``."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def unknown_name(argument: str, value: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not in a registry: names the argument and lists what is known.

    Returned, not raised, so that the caller's ``raise`` is where the trace ends.
    """
    return ValueError(f"{argument}: expected one of {', '.join(sorted(known))}; got {value!r}")
