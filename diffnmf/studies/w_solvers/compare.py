"""What the W-solver does to the basis H: one generator trained with each W-solver, compared on unseen groups."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_counts, check_names, check_not_empty
from diffnmf.data import group_matrix
from diffnmf.errors import RunFolderError
from diffnmf.evaluation.agreement import exact_agreement
from diffnmf.evaluation.scoring import mean_scores
from diffnmf.metrics import nnls_kkt_residual, summarize, zero_share
from diffnmf.models import GANUNMF
from diffnmf.runs import DataConfig, RunConfig, RunFolder
from diffnmf.runs.parts import RunData, load_run_data
from diffnmf.runs.places import with_absolute_paths
from diffnmf.runs.trained_run import check_trained_on, load_model_of
from diffnmf.studies.library import ModelLibrary, check_each_once
from diffnmf.studies.progress import Announce, Progress
from diffnmf.studies.report import check_folder
from diffnmf.studies.w_solvers.comparison import ComparedRun, write_comparison
from diffnmf.studies.w_solvers.rows import (
    DEFAULT_ROWS,
    PLAIN,
    W_SOLVER_ROWS,
    row_options,
    w_solver_group,
    w_solver_label,
)

Opened = tuple[RunFolder, RunConfig]
SAME = ("dataset", "resize", "group_size", "order")  # equal in all runs that are compared
# Options that do not become part of the name of a row: the W-solver is named anyway, the others change no result.
BESIDE_THE_ROW = (*PLAIN, "w_solver", "seed", "start_from", "checkpoint_every", "picture_every", *SAME)


def compare_w_solvers(
    config: RunConfig,
    output: str | Path,
    *,
    rows: Sequence[str] = DEFAULT_ROWS,
    seeds: Sequence[int] = (0, 1, 2),
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Announce = lambda message: None,
) -> list[ComparedRun]:
    """Train the generator of a configuration with each W-solver and each seed, and compare the runs.

    The runs are in OUTPUT/runs. Finished ones are not trained again, interrupted ones are resumed.

    Arguments:
        config: all options but the W-solver, its options and the seed.
        output: a folder for the runs and the results.
        rows: names of ``W_SOLVER_ROWS``.
        seeds: of the training.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done, how far the comparison is, and how long the rest may take.

    Returns:
        As ``compare_runs``; a training that diverged is announced and left out.

    Raises:
        TypeError, ValueError: a row is unknown, a seed is no int ≥ 0, or there is none of them.
        RunFolderError: OUTPUT/runs contains runs with other options, or every training diverged.
    """
    rows = check_names("rows", rows, W_SOLVER_ROWS, "row")
    seeds = list(dict.fromkeys(check_counts("seeds", seeds)))  # each once
    check_folder(Path(output))
    library = ModelLibrary(Path(output) / "runs", data_dir=data_dir, device=device, announce=announce)
    # All rows for one seed before the next seed: if interrupted, there is something to compare.
    names = {(row, seed): f"{row}-seed{seed}" for seed in seeds for row in rows}
    library.begin = Progress(sum(not library.is_finished(name) for name in names.values()), announce).begin
    trained = {
        (row, seed): library.run(name, config.with_options(**row_options(row), seed=seed))
        for (row, seed), name in names.items()
    }
    runs = [path for row in rows for seed in seeds if (path := trained[row, seed]) is not None]
    if not runs:
        raise RunFolderError(f"{output}: every training diverged (use a lower learning rate, and another folder)")
    return compare_runs(runs, output, data_dir=data_dir, device=device, announce=announce)


def compare_runs(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Announce = lambda message: None,
) -> list[ComparedRun]:
    """Compare trained runs by their W-solver; runs that differ only in their seed are seeds of one row.

    Writes to OUTPUT: comparison.md and .html (the tables), comparison.csv (a row for each run), comparison.png (means
    and standard deviations over the seeds), bases.png (H of one unseen group).

    Arguments:
        runs: folders of finished runs, trained on groups of the same images. Where they differ in other options than
            the W-solver, the names of the rows say so.
        output: a folder for the results.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done.

    Returns:
        One entry for each run, in the order of the rows.

    Raises:
        RunFolderError: a run is missing, damaged or not finished.
        ValueError: the runs were trained on different images or groups, or one is given twice.
    """
    output = Path(output)
    check_folder(output)
    opened = _open(runs)
    data = load_run_data(_scored_groups(opened), seed=0, data_dir=data_dir, device=device)
    models: dict[str, GANUNMF] = {}
    compared = []
    progress = Progress(len(opened), announce)
    for (folder, config), row, others in zip(opened, *_rows(opened), strict=True):
        progress.begin(f"scoring {folder.path}")
        check_trained_on(folder, config, data.split)
        model = load_model_of(folder, config, "generator", device)
        models.setdefault(row, model)
        scores = _score(model, config, data) | {"ms_a_step": _ms_a_step(folder, config)}
        group = w_solver_group(config.model)
        compared.append(ComparedRun(row, group, config.training.seed, folder.path, scores, others))
    announce("comparing the exact solvers")
    # At a dead column W and its gradient are zero, which is a tie: the gradient of H is not unique there.
    liveliest = min(compared, key=lambda run: run.scores["dead_components"]).row
    agreement = exact_agreement(models[liveliest], group_matrix(data.split.test, data.test_groups[:2]))
    Y = group_matrix(data.split.test, data.test_groups[0])  # (n, m)
    bases = {row: model.factorize(Y).H.cpu() for row, model in models.items()}
    write_comparison(output, compared, bases, data.split.test.image_shape, agreement, opened[0][1].data)
    return compared


def _open(runs: Sequence[str | Path]) -> list[Opened]:
    check_not_empty("runs", runs, "run folder")
    check_each_once(runs)
    opened = [(folder, with_absolute_paths(config)) for folder, config in map(RunFolder.open, runs)]
    first, reference = opened[0]
    for folder, config in opened:
        if not folder.metrics_file.exists():
            raise RunFolderError(
                f"{folder.path}: expected a finished run; it has no {folder.metrics_file.name} "
                f"(finish it with: diffnmf train --resume {shlex.quote(str(folder.path))})"
            )
        for name in SAME:
            mine, its = getattr(config.data, name), getattr(reference.data, name)
            if mine != its:
                raise ValueError(
                    f"runs: expected the same {name} in all; got {its!r} in {first.path} and {mine!r} in {folder.path}"
                )
    return opened


def _scored_groups(opened: Sequence[Opened]) -> DataConfig:
    """The groups of the first run, limited to as many as the run with the fewest has."""
    limits: dict[str, Any] = {}
    for name in ("limit_groups", "limit_test_groups"):
        known = [limit for _, config in opened if (limit := getattr(config.data, name)) is not None]
        limits[name] = min(known, default=None)
    return replace(opened[0][1].data, **limits)


def _rows(opened: Sequence[Opened]) -> tuple[list[str], list[dict[str, Any]]]:
    """The row of every run, and the options other than W-solver and seed in which some runs differ."""
    options = [config.options() for _, config in opened]
    differing = [
        name
        for name in options[0]
        if name not in BESIDE_THE_ROW and any(entry[name] != options[0][name] for entry in options)
    ]
    others = [{name: entry[name] for name in differing} for entry in options]
    labels = [
        ", ".join([w_solver_label(config.model), *(f"{name} = {value}" for name, value in other.items())])
        for (_, config), other in zip(opened, others, strict=True)
    ]
    names = [(label, config.training.seed) for label, (_, config) in zip(labels, opened, strict=True)]
    rows = [
        f"{label} ({folder.path})" if names.count((label, config.training.seed)) > 1 else label
        for label, (folder, config) in zip(labels, opened, strict=True)
    ]
    return rows, others


def _score(model: GANUNMF, config: RunConfig, data: RunData) -> dict[str, float]:
    def score(Y: Tensor) -> dict[str, Tensor]:
        H, W, _ = model.factorize(Y)
        kkt = nnls_kkt_residual(H, Y, W, l1=config.model.l1, upper=config.model.upper)
        return {**summarize(Y, H, W), "zero_share": zero_share(H), "kkt_residual": kkt}

    return mean_scores(score, data.split.test, data.test_groups)


def _ms_a_step(folder: RunFolder, config: RunConfig) -> float:
    """Milliseconds a step of a training in one process, median over its epochs; NaN for a run without epochs."""
    rows = folder.load_curves(config.training.epochs)
    known = [row["groups_per_second"] for row in rows if "groups_per_second" in row]
    speeds = torch.tensor(known or [float("nan")])
    return 1000 * config.training.batch_size * config.training.accumulate / speeds.median().item()
