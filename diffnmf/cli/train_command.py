"""``diffnmf train``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from diffnmf.cli.reporting import announce, explained, print_epoch, print_result, progress_bar, was_given
from diffnmf.cli.run_options import with_run_options
from diffnmf.hardware import AUTO, DEVICE_HELP, device_named
from diffnmf.runs import ExperimentResult, resume_experiment, run_experiment
from diffnmf.runs.presets import preset_with

# What may be said beside --resume: the rest is in the configuration of the run.
RESUMABLE = ("resume", "epochs", "batch_size", "accumulate", "checkpoint_every", "dataset", "data_dir", "device")
RUN = "Where from, where to"


@with_run_options
def train(
    context: typer.Context,
    preset: Annotated[
        str,
        typer.Option(
            help="Where the options come from that are not given: default (MNIST, merging corrected by a network, "
            "two minutes on a CPU), quick (digits, a minute), scratch (MNIST from random weights, with a critic, ten "
            "minutes), paper (fully connected weights, 200 epochs, for a GPU).",
            rich_help_panel=RUN,
        ),
    ] = "default",
    config: Annotated[
        Path | None,
        typer.Option(
            help="A YAML file with sections data, model and training, laid over the preset (as config.yaml of a run); "
            "options given here are laid over both.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The run folder.", show_default="a new folder below runs/", rich_help_panel=RUN),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that --output holds.", rich_help_panel=RUN)
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue this run folder from its last checkpoint; goes with --epochs, --batch-size, --accumulate, "
            "--checkpoint-every, --data-dir and --device only, and with --dataset where your images have been moved.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where the data sets are, or go.",
            show_default="$DIFFNMF_DATA, or ~/.cache/diffnmf",
            rich_help_panel=RUN,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help=f"{DEVICE_HELP} Of several processes each takes its own GPU.", rich_help_panel=RUN)
    ] = AUTO,
    **options: Any,
) -> None:
    """Train GAN-UNET, score it on held-out groups beside ANLS, merging, spa and the SVD, and leave a run folder.

    Several processes: torchrun --nproc-per-node 4 -m diffnmf.cli train ..., or the same with accelerate launch.

    The defaults shown are those of the preset "default".
    """
    given = [name for name in context.params if was_given(context, name)]
    options = {name: value for name, value in options.items() if name in given}
    with explained():
        print_result(_run(given, options, resume, preset, config, output, data_dir, device, overwrite))


def _run(
    given: list[str],
    options: dict[str, Any],
    resume: Path | None,
    preset: str,
    config: Path | None,
    output: Path | None,
    data_dir: Path | None,
    device: str,
    overwrite: bool,
) -> ExperimentResult:
    around: dict[str, Any] = {"data_dir": data_dir, "on_epoch": print_epoch, "progress": progress_bar}
    around["announce"] = announce
    if resume is not None:
        _check_resumable(resume, given)
        return resume_experiment(resume, device=device_named(device), **options, **around)
    run = preset_with(preset, config).with_options(**options)
    return run_experiment(run, output, device=device_named(device), overwrite=overwrite, **around)


def _check_resumable(run: Path, given: list[str]) -> None:
    """Raise for options that would make the run another one."""
    others = [f"--{name.replace('_', '-')}" for name in given if name not in RESUMABLE]
    if others:
        allowed = ", ".join(f"--{name.replace('_', '-')}" for name in RESUMABLE[1:])
        raise ValueError(
            f"resume: expected only {allowed} beside it, the rest is in the configuration of {run}; got "
            f"{', '.join(others)} (leave them out, or start a new run)"
        )
