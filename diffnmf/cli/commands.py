"""The commands of the program: where their paths begin, and those of the studies imported only when asked for."""

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from diffnmf.files import from_home


class Command(TyperCommand):
    """A command that knows the home of the user: a shell expands the ~ of --output ~/x, but not of --output=~/x."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, with ~ and ~name at the beginning of a value as a shell has them: whatever begins so is a path."""
        ctx.params = {name: _from_home(value) for name, value in ctx.params.items()}
        return super().invoke(ctx)


def _from_home(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_from_home(each) for each in value)
    if isinstance(value, Path):
        return from_home(value)
    return str(from_home(value)) if isinstance(value, str) and value.startswith("~") else value


class Commands(TyperGroup):
    """The commands that ``diffnmf.cli`` registers, and those of the studies: ``compare``, ``reproduce``, ``related``.

    Training needs nothing of the studies, and does not wait for them to be imported.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the help."""
        self._add_studies()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in self.commands:
            self._add_studies()  # for an unknown name, too: the message compares it with all that there are
        return super().get_command(ctx, cmd_name)

    def _add_studies(self) -> None:
        from diffnmf.cli.study_commands import compare, related, reproduce_command  # here: see above

        studies = typer.Typer(add_completion=False)
        studies.command(cls=Command, rich_help_panel="Studies")(compare)
        studies.command("reproduce", cls=Command, rich_help_panel="Studies")(reproduce_command)
        studies.command(cls=Command, rich_help_panel="Studies")(related)
        self.commands.update(typer.main.get_group(studies).commands)
