"""``diffnmf train``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from diffnmf.cli.reporting import device_named, explained, print_epoch, print_result, progress_bar, was_given
from diffnmf.errors import unknown_name
from diffnmf.models import W_SOLVERS
from diffnmf.runs import (
    PRESETS,
    DataConfig,
    ExperimentResult,
    ModelConfig,
    RunConfig,
    resume_experiment,
    run_experiment,
)
from diffnmf.training import TrainingConfig

DATA, MODEL, TRAINING = DataConfig(), ModelConfig(), TrainingConfig()
# What may be said beside --resume: the rest is in the configuration of the run.
RESUMABLE = ("resume", "epochs", "batch_size", "accumulate", "checkpoint_every", "data_dir", "device")
# Options of the program; all others are options of the run.
PROGRAM = ("preset", "config", "data_dir", "output", "device", "overwrite", "resume")

RUN, IMAGES, MODELS, LOSSES, STEPS, KEEPING = (
    "Where from, where to",
    "Images and groups",
    "Models",
    "Losses",
    "Training",
    "Checkpoints and pictures",
)


def _option(help_: str, default: Any, panel: str, *names: str) -> Any:
    """An option of the run: not given, it is the preset's; the default shown is that of the preset "default"."""
    return typer.Option(*names, help=f"{help_} (default: {default})", rich_help_panel=panel)


def train(
    context: typer.Context,
    preset: Annotated[
        str,
        typer.Option(
            help="Where the options come from that are not given: quick (digits, a minute on a CPU), default (MNIST, "
            "ten minutes), paper (fully connected weights, 200 epochs, for a GPU).",
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
            "--checkpoint-every, --data-dir and --device only.",
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
        str, typer.Option(help="auto, cpu, cuda (each process its own) or cuda:N.", rich_help_panel=RUN)
    ] = "auto",
    dataset: Annotated[
        str | None,
        _option(
            "digits, mnist, fashion, faces, or a path: a folder of images, an .npy or an .npz file.",
            DATA.dataset,
            IMAGES,
        ),
    ] = None,
    group_size: Annotated[int | None, _option("Images in a group, m.", DATA.group_size, IMAGES)] = None,
    order: Annotated[str | None, _option("Columns of a group: random or class.", DATA.order, IMAGES)] = None,
    limit_groups: Annotated[
        int | None, _option("Groups per epoch, and in the test, at the most.", "all", IMAGES)
    ] = None,
    limit_test_groups: Annotated[int | None, _option("Groups that are scored, at the most.", "all", IMAGES)] = None,
    k: Annotated[int | None, _option("Components: columns of H.", MODEL.k, MODELS)] = None,
    w_solver: Annotated[
        str | None, _option(f"Where W comes from: {', '.join(W_SOLVERS)}.", MODEL.w_solver, MODELS)
    ] = None,
    width: Annotated[int | None, _option("Channels of the U-Net at full resolution.", MODEL.width, MODELS)] = None,
    critic_width: Annotated[
        int | None, _option("Channels of the first layer of the critic.", MODEL.critic_width, MODELS)
    ] = None,
    unit_norm: Annotated[
        bool | None, _option("Scale the columns of H to unit norm.", "no", MODELS, "--unit-norm/--no-unit-norm")
    ] = None,
    depth: Annotated[
        int | None, _option("Halvings of the image in the U-Net.", "until its shorter side would fall below 4", MODELS)
    ] = None,
    mixture: Annotated[
        bool | None,
        _option(
            "Let H begin as mixtures of the images of its group (not in the paper).",
            "no",
            MODELS,
            "--mixture/--no-mixture",
        ),
    ] = None,
    w_steps: Annotated[
        int | None,
        _option("Stop the W-solver after so many steps, without its exact finish.", "the exact solution", MODELS),
    ] = None,
    w_backward: Annotated[
        str | None,
        _option("Gradient of W: implicit, unrolled (through its steps) or detached.", "what fits the solver", MODELS),
    ] = None,
    l1: Annotated[
        float | None, _option("Penalty on the entries of W; goes with --unit-norm.", MODEL.l1, MODELS)
    ] = None,
    normalize_maps: Annotated[
        bool | None,
        _option(
            "Normalise the maps of the U-Net before their ReLU.",
            "with fc",
            MODELS,
            "--normalize-maps/--no-normalize-maps",
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        _option("A run folder: begin from its weights, where they fit; its W-solver may be another.", "random", MODELS),
    ] = None,
    adversarial: Annotated[
        bool | None, _option("Train against a critic.", "yes", LOSSES, "--adversarial/--no-adversarial")
    ] = None,
    adversarial_form: Annotated[
        str | None,
        _option("The generator's adversarial loss: non_saturating or saturating.", TRAINING.adversarial_form, LOSSES),
    ] = None,
    reconstruction: Annotated[
        str | None,
        _option(
            "The reconstruction loss: l1 (eq. (2)), l2 (squared) or column_error (eq. (4)).",
            TRAINING.reconstruction,
            LOSSES,
        ),
    ] = None,
    reconstruction_weight: Annotated[
        float | None,
        _option(
            "Lambda of eq. (3), on the reconstruction loss of pixels in [0, 1].",
            TRAINING.reconstruction_weight,
            LOSSES,
        ),
    ] = None,
    flip_probability: Annotated[
        float | None,
        _option(
            "Share of the real labels that the critic is told wrongly, in [0, 1].", TRAINING.flip_probability, LOSSES
        ),
    ] = None,
    pca_rank: Annotated[int | None, _option("Rank of the PCA that disturbs the real samples.", "k", LOSSES)] = None,
    epochs: Annotated[int | None, _option("Passes over the groups.", TRAINING.epochs, STEPS)] = None,
    batch_size: Annotated[int | None, _option("Groups in a batch of one process.", TRAINING.batch_size, STEPS)] = None,
    accumulate: Annotated[
        int | None, _option("Batches whose gradients make one step.", TRAINING.accumulate, STEPS)
    ] = None,
    learning_rate: Annotated[
        float | None, _option("Of Adam, for the generator, per step.", TRAINING.learning_rate, STEPS)
    ] = None,
    critic_learning_rate: Annotated[
        float | None, _option("Of Adam, for the critic, per step.", TRAINING.critic_learning_rate, STEPS)
    ] = None,
    constant_share: Annotated[
        float | None,
        _option(
            "Share of the epochs, in [0, 1], at the full learning rates; they fall linearly in the rest.",
            TRAINING.constant_share,
            STEPS,
        ),
    ] = None,
    ema_decay: Annotated[
        float | None,
        _option(
            "Of the moving average of the generator's weights, in [0, 1), a step; 0 keeps none.",
            TRAINING.ema_decay,
            STEPS,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        _option(
            "float32, bfloat16 or float16 (on a GPU), of the U-Net and the critic; NNLS, losses and scores stay in "
            "float32 or better.",
            TRAINING.precision,
            STEPS,
        ),
    ] = None,
    deterministic: Annotated[
        bool | None,
        _option(
            "Only algorithms that give the same bits every time, on a GPU, too (slower there).",
            "no",
            STEPS,
            "--deterministic/--no-deterministic",
        ),
    ] = None,
    seed: Annotated[int | None, _option("Of the weights, the groups and the flips.", TRAINING.seed, STEPS)] = None,
    checkpoint_every: Annotated[
        int | None, _option("Steps between checkpoints inside an epoch.", "at the end of an epoch", KEEPING)
    ] = None,
    picture_every: Annotated[
        int | None,
        _option("Epochs between pictures of an unseen group and its factors.", TRAINING.picture_every, KEEPING),
    ] = None,
) -> None:
    """Train GAN-UNET, score it on held-out groups beside ANLS, spa and the SVD, and leave a run folder.

    Several processes: torchrun --nproc-per-node 4 -m diffnmf.cli train ..., or the same with accelerate launch.

    The defaults shown are those of the preset "default".
    """
    given = {name: value for name, value in context.params.items() if was_given(context, name)}
    with explained(resumable=True):
        print_result(_run(given, resume, preset, config, output, data_dir, device, overwrite))


def _run(
    given: dict[str, Any],
    resume: Path | None,
    preset: str,
    config: Path | None,
    output: Path | None,
    data_dir: Path | None,
    device: str,
    overwrite: bool,
) -> ExperimentResult:
    around: dict[str, Any] = {"data_dir": data_dir, "on_epoch": print_epoch, "progress": progress_bar}
    options = {name: value for name, value in given.items() if name not in PROGRAM}
    if resume is not None:
        _check_resumable(resume, given)
        return resume_experiment(resume, device=device_named(device), **options, **around)
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    base = PRESETS[preset] if config is None else RunConfig.from_yaml(config, PRESETS[preset])
    run = base.with_options(**options)
    return run_experiment(run, output, device=device_named(device), overwrite=overwrite, **around)


def _check_resumable(run: Path, given: dict[str, Any]) -> None:
    """Raise for options that would make the run another one."""
    others = [f"--{name.replace('_', '-')}" for name in given if name not in RESUMABLE]
    if others:
        allowed = ", ".join(f"--{name.replace('_', '-')}" for name in RESUMABLE[1:])
        raise ValueError(
            f"resume: expected only {allowed} beside it, the rest is in the configuration of {run}; got "
            f"{', '.join(others)} (leave them out, or start a new run)"
        )
