"""An option, declared once: a field of a frozen dataclass with its default, its check and the text that explains it.

What reads, shows or passes on options (files, the command line, docstrings) asks ``options_of`` and repeats nothing.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import partial
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from diffnmf.checks import check_count, check_name, check_number, set_fields

Check = Callable[[str, Any], Any]  # name and value in, the plain value out; TypeError or ValueError
C = TypeVar("C", bound="Options")


@dataclass(frozen=True)
class Option:
    """What is known of an option.

    Attributes:
        name: of the field.
        kind: its type, without None.
        default: ``dataclasses.MISSING`` where it has to be given.
        help: what it is, as a sentence; with unit and range.
        check: of a value that is not None.
        none: what None stands for; empty where None is refused.
        topic: the heading under which it is shown; empty for that of its section.
        command_line: False for what only a file or Python can give.
    """

    name: str
    kind: type
    default: Any
    help: str
    check: Check
    none: str
    topic: str
    command_line: bool

    def checked(self, value: object) -> Any:
        """The plain value, or the error that names the option."""
        return None if value is None and self.none else self.check(self.name, value)

    def in_words(self, value: Any) -> str:
        """A value as it is shown to people."""
        if value is None:
            return self.none
        if isinstance(value, bool):
            return "yes" if value else "no"
        return str(value)


def option(default: Any, help: str, check: Check, *, none: str = "", topic: str = "", command_line: bool = True) -> Any:
    """A field of an ``Options`` class with a default; see ``Option`` for the rest."""
    return field(default=default, metadata=declared(help, check, none=none, topic=topic, command_line=command_line))


def declared(help: str, check: Check, *, none: str = "", topic: str = "", command_line: bool = True) -> dict[str, Any]:
    """The metadata of a field; by itself for one without a default, ``field(metadata=declared(...))``."""
    return {"help": help, "check": check, "none": none, "topic": topic, "command_line": command_line}


def at_least(least: int) -> Check:
    """The check of a whole number of at least ``least``."""
    return partial(check_count, at_least=least)


def within(interval: str) -> Check:
    """The check of a number in an interval, as "[0, 1)" or "(0, inf)"."""
    return partial(check_number, interval=interval)


def one_of(known: Iterable[str]) -> Check:
    """The check of a name."""
    return partial(check_name, known=known)


@dataclass(frozen=True)
class Options:
    """Base of the frozen dataclasses whose fields are options: checked on construction, and kept as plain values.

    Raises:
        TypeError: an option is of the wrong kind; the message names it.
        ValueError: out of range, or an unknown name.
    """

    def __post_init__(self) -> None:
        set_fields(self, **{known.name: known.checked(getattr(self, known.name)) for known in options_of(type(self))})


def options_of(config: type[Options]) -> tuple[Option, ...]:
    """The options of a class, in the order of its fields."""
    hints = get_type_hints(config)
    return tuple(
        Option(name=entry.name, kind=_without_none(hints[entry.name]), default=entry.default, **entry.metadata)
        for entry in fields(config)
    )


def differences(
    now: Mapping[str, Any],
    saved: Mapping[str, Any],
    same: Callable[[str, Any, Any], bool] = lambda name, now, saved: bool(now == saved),
) -> list[str]:
    """Where options, name -> value, are not those that were saved: "k is 5 here and was 6"; what is not there is None.

    ``same`` is told a name and both values.
    """
    return [
        f"{name} is {now.get(name)!r} here and was {saved.get(name)!r}"
        for name in {**now, **saved}
        if not same(name, now.get(name), saved.get(name))
    ]


def documented(config: type[C]) -> type[C]:
    """Append the options of a class to its docstring, as the attributes that they are."""
    lines = [inspect.cleandoc(config.__doc__ or ""), "", "Attributes:"]
    for known in options_of(config):
        lines.append(f"    {known.name}: {known.help} {_in_brackets(known)}".rstrip())
    config.__doc__ = "\n".join(lines)
    return config


def _in_brackets(known: Option) -> str:
    said = []
    if known.default is None:
        said.append(f"default: None, {known.none}")
    elif known.default is not MISSING:
        said.append(f"default: {known.default!r}")
        said += [f"None: {known.none}"] if known.none else []
    said += [allowed for allowed in _range(known.check) if allowed not in known.help]
    return f"({'; '.join(said)})" if said else ""


def _range(check: Check) -> list[str]:
    """What ``at_least`` or ``within`` asks for; other checks are explained by the help text."""
    asked = check.keywords if isinstance(check, partial) else {}
    counts = [f"an int ≥ {asked['at_least']}"] if "at_least" in asked else []
    return counts + ([f"in {asked['interval']}"] if "interval" in asked else [])


def _without_none(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    return hint
