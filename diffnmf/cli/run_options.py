"""The options of a run on the command line, made from their declarations."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from diffnmf.options import Option, options_of
from diffnmf.runs import PRESETS, RunConfig
from diffnmf.training.config import KEEPING, LOSSES

Command = TypeVar("Command", bound=Callable[..., Any])

# Section of the configuration -> heading of its options, unless they have one of their own.
PANELS = {"data": "Images and groups", "model": "Models", "training": "Training"}
# The headings in the order in which they are shown.
ORDER = (PANELS["data"], PANELS["model"], LOSSES, PANELS["training"], KEEPING)


def with_run_options(command: Command, preset: RunConfig = PRESETS["default"]) -> Command:
    """Give a command an option for each of a run in the place of its ``**options``; the values of ``preset`` are shown.

    One that is not given is None there: the preset decides then. Typer reads the signature of a function, so that is
    where the options are put.
    """
    own = [entry for entry in inspect.signature(command).parameters.values() if entry.kind is not entry.VAR_KEYWORD]
    made = [
        _parameter(known, value, panel)
        for known, value, panel in sorted(_run_options(preset), key=lambda one: ORDER.index(one[2]))
    ]
    parameters = [*(entry.replace(kind=inspect.Parameter.KEYWORD_ONLY) for entry in own), *made]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return command


def _run_options(preset: RunConfig) -> list[tuple[Option, Any, str]]:
    """Every option of a run that the command line has, its value in a preset, and its heading."""
    return [
        (known, getattr(getattr(preset, name), known.name), known.topic or PANELS[name])
        for name, section in get_type_hints(type(preset)).items()
        for known in options_of(section)
        if known.command_line
    ]


def _parameter(known: Option, value: Any, panel: str) -> inspect.Parameter:
    text = f"{known.help} (default: {known.in_words(value)})"
    option = typer.Option(help=text, rich_help_panel=panel)
    return inspect.Parameter(
        known.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[known.kind | None, option],
    )
