"""The commands of the studies: ``compare``, ``reproduce``, ``related``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from diffnmf.checks import check_name
from diffnmf.cli.reporting import announce_for, explained, was_given
from diffnmf.cli.run_commands import DataDir, Device
from diffnmf.hardware import AUTO, device_named
from diffnmf.lock import locked_output
from diffnmf.runs import PRESETS, DataConfig, RunFolder
from diffnmf.runs.presets import preset_with
from diffnmf.studies.frontier import measure_frontier
from diffnmf.studies.paper import STUDIES, reproduce
from diffnmf.studies.recognition import measure_recognition
from diffnmf.studies.related import SYSTEMS, measure_related
from diffnmf.studies.w_solvers import compare_runs, compare_w_solvers
from diffnmf.studies.w_solvers.rows import DEFAULT_ROWS, W_SOLVER_ROWS

Output = Annotated[
    Path, typer.Option(help="A folder for the results; results that it contains are used.", show_default=False)
]
Options = dict[str, Any]
SAME_COMMAND = "The same command goes on from here."  # after Ctrl-C


def compare(
    context: typer.Context,
    output: Output,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders to compare. If none is given, every W-solver is trained.", show_default=False),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="digits, mnist, fashion, faces, or a path, to train on.", show_default="that of the preset"),
    ] = None,
    rows: Annotated[
        str, typer.Option(help=f"W-solvers to train with, of {', '.join(W_SOLVER_ROWS)}; with commas between them.")
    ] = ",".join(DEFAULT_ROWS),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each W-solver: seeds 0, 1, ...")] = 3,
    preset: Annotated[
        str, typer.Option(help=f"Where the options come from that are not given: {', '.join(PRESETS)}.")
    ] = "default",
    config: Annotated[
        Path | None, typer.Option(help="A YAML file laid over the preset, as for train.", show_default=False)
    ] = None,
    k: Annotated[int | None, typer.Option(help="Components.", show_default="that of the preset")] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Images in a group.", show_default="that of the preset")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of the U-Net.", show_default="that of the preset")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of every training.", show_default="that of the preset")] = None,
    limit_groups: Annotated[int | None, typer.Option(help="Groups an epoch.", show_default="all")] = None,
    limit_test_groups: Annotated[int | None, typer.Option(help="Groups that are scored.", show_default="all")] = None,
    frontier: Annotated[
        bool,
        typer.Option(
            "--frontier",
            help="Compare with merging and penalised HALS instead: error against sparsity, overlap and slot "
            "consistency of H. Nothing is trained.",
        ),
    ] = False,
    direct: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --frontier: also reduce every training loss group by group, by so many steps of Adam: what any "
            "network could reach.",
            show_default="not at all",
        ),
    ] = None,
    accuracy: Annotated[
        bool,
        typer.Option(
            "--accuracy",
            help="Compare with ANLS, merging and HALS instead, by the accuracy of a classifier on reconstructions: "
            "does the critic help where errors do not tell? Only the classifier is trained.",
        ),
    ] = False,
    data_dir: DataDir = None,
    device: Device = AUTO,
) -> None:
    """Compare W-solvers: is H sparse, is it local, does it copy the images, and how long does a step take?

    Run folders are compared as they are. If none is given, the same generator is trained with each W-solver and each
    seed, in OUTPUT/runs. Finished trainings are not repeated, and an interrupted one is resumed.
    """
    around: Options = {"data_dir": data_dir, "announce": announce_for(output)}
    training = {
        "dataset": dataset,
        "k": k,
        "group_size": group_size,
        "width": width,
        "epochs": epochs,
        "limit_groups": limit_groups,
        "limit_test_groups": limit_test_groups,
    }
    given = {name: value for name, value in training.items() if value is not None}
    with explained(SAME_COMMAND), locked_output(output):
        around["device"] = device_named(device)
        if frontier and accuracy:
            raise ValueError("frontier: expected it without --accuracy; got both (one after the other)")
        if direct is not None and not frontier:
            raise ValueError("direct: expected --frontier with it; got it alone (add --frontier)")
        of_preset = ("preset", "config") if runs else ()
        if frontier or accuracy:
            mode = "frontier" if frontier else "accuracy"
            _refuse(
                context, ("rows", "seeds", "width", "epochs", *of_preset), f"{mode}: expected no options of a training"
            )
        elif runs:
            others = (*training, "rows", "seeds", *of_preset)
            _refuse(context, others, "runs: expected no options of a training beside run folders")
        if accuracy:
            data, components = _frontier_of(runs or [], given, preset, config)
            ks = {components, *(RunFolder.open(run)[1].model.k for run in runs or [])}
            measure_recognition(data, sorted(ks), output, runs=runs or [], **around)
        elif frontier:
            data, components = _frontier_of(runs or [], given, preset, config)
            measure_frontier(data, components, output, runs=runs or [], direct=direct, **around)
        elif runs:
            compare_runs(runs, output, **around)
        else:
            base = preset_with(preset, config).with_options(**given)
            names = [row.strip() for row in rows.split(",") if row.strip()]
            compare_w_solvers(base, output, rows=names, seeds=range(seeds), **around)
        report = "frontier.md" if frontier else "recognition.md" if accuracy else "comparison.md"
        typer.echo((output / report).read_text(encoding="utf-8"))
        typer.echo(output)


def reproduce_command(
    output: Output,
    more_datasets: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    datasets: Annotated[
        list[str] | None,
        typer.Option(
            help="mnist, fashion, faces, digits: one after the other, or the option again.",
            show_default="those of the preset",
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="smoke (a minute; shows that everything runs, its numbers mean nothing) or paper (hours on two cores)."
        ),
    ] = "paper",
    k: Annotated[
        str | None,
        typer.Option(
            help="Components, with commas between several; the first one is that of Table 2 and the figures.",
            show_default="those of the preset",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings and starts of everything.", show_default="that of the preset")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Measure nothing, and write the report of what exists.")
    ] = False,
    data_dir: DataDir = None,
    device: Device = AUTO,
) -> None:
    """Reproduce the tables and figures of the GAN-UNET paper; writes OUTPUT/report.html and report.md.

    An interrupted reproduction continues where it stopped when the command is run again. For other sizes and longer
    trainings use diffnmf.studies.paper.Study in Python.
    """
    with explained(SAME_COMMAND), locked_output(output):
        study = STUDIES[check_name("preset", preset, STUDIES)]
        changes: Options = {}
        if datasets or more_datasets:
            changes["datasets"] = (*(datasets or []), *(more_datasets or []))
        if k is not None:
            changes["ks"] = tuple(_integers("k", k))
        if seeds is not None:
            changes["seeds"] = tuple(range(seeds))
        report = reproduce(
            replace(study, **changes),
            output,
            data_dir=data_dir,
            device=device_named(device),
            announce=announce_for(output),
            report_only=report_only,
        )
    typer.echo(report)


def related(
    output: Output,
    dataset: Annotated[str, typer.Option(help="digits, mnist, fashion, faces, or a path.")] = "mnist",
    systems: Annotated[
        str, typer.Option(help=f"Of {', '.join(SYSTEMS)}; with commas between them.", show_default="all")
    ] = ",".join(SYSTEMS),
    k: Annotated[int, typer.Option(min=1, help="Components.")] = 64,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ... of every system.")] = 3,
    train_images: Annotated[int, typer.Option(min=1, help="Images that are learnt from, at most.")] = 5000,
    test_images: Annotated[int, typer.Option(min=1, help="Unseen images that are scored, at most.")] = 5000,
    data_dir: DataDir = None,
    device: Device = AUTO,
) -> None:
    """Compare the systems of the related work: parts and codes learnt from images, beside NMF, PCA and k-means.

    An interrupted comparison continues where it stopped when the command is run again.
    """
    with explained(SAME_COMMAND), locked_output(output):
        measure_related(
            dataset,
            output,
            k=k,
            systems=[name.strip() for name in systems.split(",") if name.strip()],
            seeds=range(seeds),
            train_images=train_images,
            test_images=test_images,
            data_dir=data_dir,
            device=device_named(device),
            announce=announce_for(output),
        )
        typer.echo((output / "related.md").read_text(encoding="utf-8"))
        typer.echo(output)


def _frontier_of(runs: list[Path], given: Options, preset: str, config: Path | None) -> tuple[DataConfig, int]:
    """The groups and k of a frontier: those of the first run, or of the preset; options lie over both."""
    base = RunFolder.open(runs[0])[1] if runs else preset_with(preset, config)
    chosen = base.with_options(**given)
    return chosen.data, chosen.model.k


def _refuse(context: typer.Context, names: tuple[str, ...], expected: str) -> None:
    """Raise where one of these options was given, rather than pass over it."""
    given = [f"--{name.replace('_', '-')}" for name in names if was_given(context, name)]
    if given:
        raise ValueError(f"{expected}; got {', '.join(given)} (leave them out)")


def _integers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{name}: expected integers with commas between them, as 30,20,10; got {text!r}") from error
