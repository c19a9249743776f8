"""The commands of the program, those of the studies imported only when they are asked for."""

from typing import Any

import typer
from typer.core import TyperGroup


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
        studies.command(rich_help_panel="Studies")(compare)
        studies.command("reproduce", rich_help_panel="Studies")(reproduce_command)
        studies.command(rich_help_panel="Studies")(related)
        self.commands.update(typer.main.get_group(studies).commands)
