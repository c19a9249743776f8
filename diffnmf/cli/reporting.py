"""What the commands say: epochs and warnings on the standard error, results on the standard output."""

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import typer

from diffnmf.errors import (
    CheckpointWarning,
    DataUnavailableError,
    DivergenceError,
    ImageWarning,
    PredictionWarning,
    ProcessLostError,
    RunFolderError,
    SolverError,
)
from diffnmf.interrupts import INTERRUPTED, check_interrupted, heard, stopped
from diffnmf.metrics.names import definitions
from diffnmf.runs import ExperimentResult, metrics_table
from diffnmf.runs.table import COLUMNS
from diffnmf.training.engine import is_of_a_lost_process

SLIPS = (ValueError, TypeError, OSError, DataUnavailableError, RunFolderError, SolverError)
WRONG_USE, DIVERGED = 2, 1  # exit codes, beside INTERRUPTED


@contextmanager
def explained(hint: str | None = None) -> Iterator[None]:
    """Turn the errors of the library, and Ctrl-C, into one message on the standard error and an exit code.

    Arguments:
        hint: how to go on after Ctrl-C; by default what a run itself says about that.
    """
    try:
        with heard(), warnings.catch_warnings():
            warnings.simplefilter("always", CheckpointWarning)
            warnings.simplefilter("always", ImageWarning)
            warnings.simplefilter("always", PredictionWarning)
            warnings.showwarning = _show_warning
            yield
    except SLIPS as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(WRONG_USE) from error
    except (DivergenceError, ProcessLostError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(DIVERGED) from error
    except (MemoryError, RuntimeError) as error:
        if is_of_a_lost_process(error):
            message = "another process has ended or cannot be reached; what it said itself tells why."
        elif _is_out_of_memory(error):
            message = _out_of_memory(error)
        else:
            raise
        typer.echo(" ".join([f"Error: {message}", *getattr(error, "__notes__", ())]), err=True)
        raise typer.Exit(DIVERGED) from error
    except KeyboardInterrupt as error:
        typer.echo(stopped(error, hint), err=True)
        raise typer.Exit(INTERRUPTED) from error


@contextmanager
def program(hint: str | None = None) -> Iterator[None]:
    """``explained`` for a program that is no command of typer, such as an example: ends it with that exit code."""
    try:
        with explained(hint):
            yield
    except typer.Exit as end:
        raise SystemExit(end.exit_code) from None


def _is_out_of_memory(error: BaseException) -> bool:
    """Also where torch on the CPU has no class of its own for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _out_of_memory(error: BaseException) -> str:
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    wanted = f" ({asked.group(1)} were asked for)" if asked else ""
    remedy = "make it smaller: fewer components or images in a group, narrower networks, smaller batches or blocks"
    return f"out of memory{wanted}; {remedy}."


def announce(message: str) -> None:
    """What is about to be done, on the standard error."""
    check_interrupted()
    typer.echo(message, err=True)


def announce_for(output: Path) -> Callable[[str], None]:
    """As ``announce``; before its first message, and so before the work, it says where the results go.

    Nothing is said of a folder that is refused: what is wrong with it is the only line then.
    """
    said: list[Path] = []

    def announce_there(message: str) -> None:
        if not said:
            said.append(output)
            announce(f"results: {output}")
        announce(message)

    return announce_there


def print_epoch(row: dict[str, float]) -> None:
    """One line per epoch on the standard error, above the progress bar where there is one."""
    from tqdm import tqdm

    times = ""
    if "train_seconds" in row:  # not where the last step of the epoch had been made before the run was stopped
        times = f"  ({row['train_seconds']:.0f} s, {100 * row['w_solver_share']:.0f} % of it for W)"
    tqdm.write(
        f"epoch {row['epoch']:3d}  loss {row['reconstruction_loss']:.4f}  test: relative error"
        f" {row['test_relative_error']:.3f}  column error {row['test_column_error']:.3f}"
        f"  dead {row['test_dead_components']:.1f}{times}",
        file=sys.stderr,
    )


def progress_bar(steps: Iterable[int]) -> Iterator[int]:
    """A bar over the steps of an epoch, on a terminal only."""
    from tqdm import tqdm

    for step in tqdm(steps, leave=False, disable=None, unit="step"):
        check_interrupted()
        yield step


def print_result(result: ExperimentResult) -> None:
    """The table, and the run folder as the last line; nothing in any but the main process."""
    if result.metrics:
        print_scores(result.metrics)
        typer.echo(result.folder)


def print_scores(metrics: dict[str, Any]) -> None:
    """The table of the scores, and below it what they are."""
    typer.echo(metrics_table(metrics, "GAN-UNET"))
    typer.echo("\n".join(["", *definitions(COLUMNS), ""]))


def was_given(context: typer.Context, name: str) -> bool:
    """Whether an option stood on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    typer.echo(f"Warning: {message}", err=True)
