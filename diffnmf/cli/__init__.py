"""The command line: ``diffnmf train``, ``factorize``, ``nmf`` and the other commands."""

import typer

from diffnmf.cli.commands import Commands
from diffnmf.cli.nmf_commands import consensus, nmf, rank
from diffnmf.cli.reporting import announce, print_epoch, print_result, progress_bar
from diffnmf.cli.run_commands import evaluate, factorize, info
from diffnmf.cli.train_command import train
from diffnmf.interrupts import interruptible
from diffnmf.training.engine import leave_processes

__all__ = ["announce", "app", "main", "print_epoch", "print_result", "progress_bar"]

app = typer.Typer(
    cls=Commands,
    help="Non-negative factorisation inside neural networks: train GAN-UNET, and use what it has learnt.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (train, evaluate, factorize, info, nmf, rank, consensus):
    app.command()(command)


def main() -> None:
    """The program: what ``diffnmf`` runs once it is loaded, and ``python -m diffnmf.cli``."""
    with interruptible():
        try:
            app()
        finally:
            leave_processes()
