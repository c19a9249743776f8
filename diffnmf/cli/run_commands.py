"""The commands that use a trained run: ``evaluate``, ``factorize``, ``info``."""

import math
from pathlib import Path
from typing import Annotated

import typer
import yaml

from diffnmf.cli.reporting import announce, announce_for, explained, print_scores
from diffnmf.hardware import AUTO, DEVICE_HELP, device_named
from diffnmf.models.pretrained import WITH_WEIGHTS, is_pretrained
from diffnmf.runs import (
    RunFolder,
    describe_installation,
    describe_pretrained,
    describe_run,
    evaluate_run,
    factorize_images,
)

Run = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
RunOrName = Annotated[
    Path, typer.Argument(help=f"A run folder, or a pretrained model: {', '.join(WITH_WEIGHTS)}.", show_default=False)
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="best (lowest relative error on test groups), generator (after the last epoch) or ema (their average).",
        show_default="best",
    ),
]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the data sets are, or go.", show_default="$DIFFNMF_DATA, or ~/.cache/diffnmf"),
]


def evaluate(
    run: RunOrName,
    weights: Weights = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Other images than the run was trained on, of the same size; or where its own have been moved.",
            show_default="those of the run",
        ),
    ] = None,
    data_dir: DataDir = None,
    device: Device = AUTO,
) -> None:
    """Score a run on training and test groups, beside ANLS, merging, spa and the SVD; writes RUN/evaluation.json.

    A pretrained model is scored on its own images or on --dataset, and nothing is written.
    """
    with explained():
        say = announce if is_pretrained(run) else announce_for(RunFolder(run).evaluation_file)
        evaluate_run(
            run,
            weights=weights,
            dataset=dataset,
            data_dir=data_dir,
            device=device_named(device),
            announce=say,
            on_scores=print_scores,  # said before they are written, which may fail
        )
    if not is_pretrained(run) and RunFolder(run).evaluation_file.exists():
        typer.echo(RunFolder(run).evaluation_file)


def factorize(
    run: RunOrName,
    images: Annotated[
        Path,
        typer.Argument(
            help="A folder of image files, or an .npy or .npz file of images (N, h, w); of the size of the run, unless "
            "--resize is given.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="The folder for factors.npz and the pictures.", show_default=False)],
    weights: Weights = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Mix the images before they are grouped.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the mixing.")] = 0,
    resize: Annotated[bool, typer.Option("--resize", help="Scale the images to the size of the run.")] = False,
    device: Device = AUTO,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the factors that --output holds.")] = False,
) -> None:
    """Factorise your own images: H, W and HW of every group as factors.npz, and a picture of each.

    The images are taken m at a time, in the order of their files; the last group is the last m of them.
    """
    with explained():
        factors = factorize_images(
            run,
            images,
            output,
            weights=weights,
            shuffle=shuffle,
            seed=seed,
            resize=resize,
            device=device_named(device),
            overwrite=overwrite,
            announce=announce_for(output),
        )
    groups, m = factors.indices.shape
    typer.echo(
        f"{groups} groups of {m} images: relative error {factors.relative_error.mean():.3f}, "
        f"column error, eq. (4), {factors.column_error.mean():.3f}"
    )
    typer.echo(output)


def info(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run folder, or a pretrained model; none: this installation.", show_default=False),
    ] = None,
) -> None:
    """Show what a run is, how far it is, and how well it does; and what would compute here."""
    with explained():
        about = {}
        if run is not None:
            about = describe_pretrained(str(run)) if is_pretrained(run) else describe_run(run)
        about |= describe_installation()
    typer.echo(yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=math.inf).rstrip())
