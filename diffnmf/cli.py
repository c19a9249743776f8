"""The command line: ``diffnmf train``."""

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from diffnmf.errors import DataUnavailableError, RunFolderError, SolverError
from diffnmf.evaluation import ExperimentResult, metrics_table, resume_experiment, run_experiment
from diffnmf.models import W_SOLVERS
from diffnmf.training import DataConfig, ModelConfig, RunConfig, TrainingConfig

app = typer.Typer(help="Non-negative factorisation inside neural networks.", no_args_is_help=True, add_completion=False)

DATA, MODEL, TRAINING = DataConfig(), ModelConfig(), TrainingConfig()
# What may be said beside --resume: the rest is in the configuration of the run.
RESUMABLE = ("resume", "epochs", "data_dir", "device")


@app.callback()
def diffnmf() -> None:
    """Non-negative factorisation inside neural networks."""  # a callback keeps `train` a subcommand


@app.command()
def train(
    context: typer.Context,
    dataset: Annotated[
        str, typer.Option(help="digits, mnist, fashion, faces, or a path: a folder of images, an .npy or an .npz file.")
    ] = DATA.dataset,
    w_solver: Annotated[str, typer.Option(help=f"Where W comes from: {', '.join(W_SOLVERS)}.")] = MODEL.w_solver,
    k: Annotated[int, typer.Option(help="Components: columns of H.")] = MODEL.k,
    group_size: Annotated[int, typer.Option(help="Images in a group, m.")] = DATA.group_size,
    order: Annotated[str, typer.Option(help="Columns of a group: random or class.")] = DATA.order,
    limit_groups: Annotated[
        int | None, typer.Option(help="Groups per epoch, and in the test, at the most.", show_default="all")
    ] = DATA.limit_groups,
    epochs: Annotated[int, typer.Option(help="Passes over the groups.")] = TRAINING.epochs,
    batch_size: Annotated[int, typer.Option(help="Groups in a step.")] = TRAINING.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, for the generator.")] = TRAINING.learning_rate,
    critic_learning_rate: Annotated[
        float, typer.Option(help="Of Adam, for the critic.")
    ] = TRAINING.critic_learning_rate,
    width: Annotated[int, typer.Option(help="Channels of the U-Net at full resolution.")] = MODEL.width,
    unit_norm: Annotated[bool, typer.Option(help="Scale the columns of H to unit norm.")] = MODEL.unit_norm,
    adversarial: Annotated[bool, typer.Option(help="Train against a critic.")] = TRAINING.adversarial,
    adversarial_form: Annotated[
        str, typer.Option(help="The generator's adversarial loss: non_saturating or saturating.")
    ] = TRAINING.adversarial_form,
    reconstruction_weight: Annotated[
        float, typer.Option(help="Lambda of eq. (3), on the mean absolute error of a pixel in [0, 1].")
    ] = TRAINING.reconstruction_weight,
    flip_probability: Annotated[
        float, typer.Option(help="Share of the real labels that the critic is told wrongly, in [0, 1].")
    ] = TRAINING.flip_probability,
    pca_rank: Annotated[
        int | None, typer.Option(help="Rank of the PCA that disturbs the real samples.", show_default="k")
    ] = TRAINING.pca_rank,
    seed: Annotated[int, typer.Option(help="Of the weights, the groups and the flips.")] = TRAINING.seed,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the data sets are, or go.", show_default="$DIFFNMF_DATA, or ~/.cache/diffnmf"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The run folder.", show_default="a new folder below runs/")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that --output holds.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run folder; goes with --epochs, --data-dir, --device only.")
    ] = None,
) -> None:
    """Train GAN-UNET, score it on held-out groups beside ANLS, spa and the SVD, and leave a run folder."""
    given = [name for name in context.params if _was_given(context, name)]
    try:
        if resume is not None:
            result = resume_experiment(
                _only_resumable(resume, given),
                epochs=epochs if "epochs" in given else None,
                data_dir=data_dir,
                device=_device(device),
                on_epoch=print_epoch,
                progress=progress_bar,
            )
        else:
            result = run_experiment(
                RunConfig(
                    DataConfig(dataset, group_size, order, limit_groups),
                    ModelConfig(k=k, w_solver=w_solver, width=width, unit_norm=unit_norm),
                    TrainingConfig(
                        epochs=epochs,
                        batch_size=batch_size,
                        learning_rate=learning_rate,
                        critic_learning_rate=critic_learning_rate,
                        reconstruction_weight=reconstruction_weight,
                        adversarial=adversarial,
                        adversarial_form=adversarial_form,
                        flip_probability=flip_probability,
                        pca_rank=pca_rank,
                        seed=seed,
                    ),
                ),
                output,
                data_dir=data_dir,
                device=_device(device),
                overwrite=overwrite,
                on_epoch=print_epoch,
                progress=progress_bar,
            )
    except (ValueError, TypeError, DataUnavailableError, RunFolderError, SolverError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    print_result(result)


def print_epoch(row: dict[str, float]) -> None:
    """One line per epoch on the standard error, above the progress bar where there is one."""
    from tqdm import tqdm

    tqdm.write(
        f"epoch {row['epoch']:3d}  loss {row['reconstruction_loss']:.4f}  test: relative error"
        f" {row['test_relative_error']:.3f}  eq. (4) {row['test_eps']:.3f}  dead {row['test_dead_components']:.1f}"
        f"  ({row['train_seconds']:.0f} s)",
        file=sys.stderr,
    )


def progress_bar(steps: range) -> "object":
    """A bar over the steps of an epoch, on a terminal only."""
    from tqdm import tqdm

    return tqdm(steps, leave=False, disable=None, unit="step")


def print_result(result: ExperimentResult) -> None:
    """The table, and the run folder as the last line."""
    typer.echo(metrics_table(result.metrics, "GAN-UNET"))
    typer.echo(result.folder)


def main() -> None:
    """Entry point of the command ``diffnmf``."""
    app()


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _only_resumable(run: Path, given: list[str]) -> Path:
    """The run, or the error for options that would make it another run."""
    others = [f"--{name.replace('_', '-')}" for name in given if name not in RESUMABLE]
    if others:
        raise ValueError(
            f"resume: expected only --epochs, --data-dir and --device beside it, the rest is in the configuration of"
            f" {run}; got {', '.join(others)} (leave them out, or start a new run)"
        )
    return run


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu, cuda or cuda:N (the solvers compute in float64); got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: torch sees {torch.cuda.device_count()} CUDA devices; got {name!r} (use --device cpu)"
        )
    return device
