"""The command line: ``diffnmf train``, ``factorize``, ``nmf`` and the other commands."""

from typing import Annotated

import typer

from diffnmf.cli.commands import Command, Commands
from diffnmf.cli.nmf_commands import consensus, nmf, rank
from diffnmf.cli.reporting import announce, print_epoch, print_result, progress_bar
from diffnmf.cli.run_commands import evaluate, factorize, info
from diffnmf.cli.train_command import train
from diffnmf.interrupts import interruptible
from diffnmf.training.engine import leave_processes
from diffnmf.version import __version__

__all__ = ["announce", "app", "main", "print_epoch", "print_result", "progress_bar"]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diffnmf {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    help="Non-negative factorisation inside neural networks: train GAN-UNET, and use what it has learnt.",
    no_args_is_help=True,
    epilog="diffnmf COMMAND --help has the options of a command, with units and defaults. To begin with: diffnmf train"
    " --preset quick; diffnmf nmf table.csv --k 10 --output out",
)


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.", callback=_show_version)
    ] = False,
) -> None:
    """Non-negative factorisation inside neural networks: train GAN-UNET, and use what it has learnt."""


PANELS = {"GAN-UNET": (train, evaluate, factorize, info), "Classical NMF of a file": (nmf, rank, consensus)}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)


def main() -> None:
    """The program: what ``diffnmf`` runs once it is loaded, and ``python -m diffnmf.cli``."""
    with interruptible():
        try:
            app()
        finally:
            leave_processes()
