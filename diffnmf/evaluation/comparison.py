"""What the W-solver does to the basis H: the same generator with each of them, compared on unseen groups."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.data import group_matrix
from diffnmf.errors import unknown_name
from diffnmf.evaluation.agreement import exact_agreement
from diffnmf.evaluation.held_out import mean_scores
from diffnmf.evaluation.library import ModelLibrary
from diffnmf.evaluation.report import markdown_table, mean_std, write_csv, write_report
from diffnmf.evaluation.run_parts import RunData, load_run_data
from diffnmf.evaluation.trained_run import load_model_of
from diffnmf.metrics import nnls_kkt_residual, summarize, zero_share
from diffnmf.metrics.comparison_figures import save_bars
from diffnmf.metrics.figures import save_panels, unit_peak
from diffnmf.models import GANUNMF
from diffnmf.training import ModelConfig, RunConfig, RunFolder
from diffnmf.training.writing import explained_errors

# Rows of the comparison, as options of ``ModelConfig``. Exact solvers give the same W and gradients: one row is enough.
W_SOLVER_ROWS: dict[str, dict[str, Any]] = {
    "fc": {"w_solver": "fc"},
    "exact": {"w_solver": "unrolled"},
    "detached": {"w_solver": "unrolled", "w_backward": "detached"},
    "truncated-5": {"w_solver": "unrolled", "w_steps": 5},
    "truncated-20": {"w_solver": "unrolled", "w_steps": 20},
    "ls_hals": {"w_solver": "ls_hals"},
    "cvxpylayer_loose": {"w_solver": "cvxpylayer_loose"},
    "cvxpylayer": {"w_solver": "cvxpylayer"},
    "l1": {"w_solver": "unrolled", "unit_norm": True, "l1": 0.5},
}
DEFAULT_ROWS = tuple(name for name in W_SOLVER_ROWS if name != "cvxpylayer")  # its numbers are those of "exact"
EXACT = ("unrolled", "bpp", "hals")

COLUMNS = {
    "hoyer_H": "Hoyer H",
    "zero_share": "zeros of H",
    "part_overlap": "part overlap",
    "copying": "copying",
    "hoyer_W": "Hoyer W",
    "dead_components": "dead",
    "eps": "eq. (4)",
    "relative_error": "relative error",
    "kkt_residual": "KKT residual of W",
    "ms_a_step": "ms a step",
}
PANELS = {
    "hoyer_H": "Hoyer sparsity of H, in [0, 1]",
    "zero_share": "Share of zeros in H, in [0, 1]",
    "part_overlap": "Part overlap, in [0, 1]",
    "copying": "Copying, in [0, 1]",
    "hoyer_W": "Hoyer sparsity of W, in [0, 1]",
    "eps": "Eq. (4), ← better",
    "relative_error": "Relative error, ← better",
}


@dataclass(frozen=True)
class ComparedRun:
    """One trained run in the comparison.

    Attributes:
        row: what it is called: its W-solver.
        seed: of its training.
        run: its folder.
        scores: the means over the unseen groups, by the names of ``COLUMNS``.
    """

    row: str
    seed: int
    run: Path
    scores: Mapping[str, float]


def compare_w_solvers(
    config: RunConfig,
    output: str | Path,
    *,
    rows: Sequence[str] = DEFAULT_ROWS,
    seeds: Sequence[int] = (0, 1, 2),
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Callable[[str], None] = lambda message: None,
) -> list[ComparedRun]:
    """Train the generator of a configuration with each W-solver and each seed, and compare the runs.

    Runs lie below OUTPUT/runs; those that are there already are not trained again, interrupted ones go on.

    Arguments:
        config: everything but the W-solver and the seed.
        output: a folder.
        rows: names of ``W_SOLVER_ROWS``.
        seeds: of the training.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done.

    Returns:
        as ``compare_runs``.

    Raises:
        ValueError: a row is unknown.
        RunFolderError: OUTPUT/runs holds runs with other options.
    """
    for row in rows:
        if row not in W_SOLVER_ROWS:
            raise unknown_name("rows", row, W_SOLVER_ROWS)
    if not rows or not seeds:
        raise ValueError(f"rows and seeds: expected at least one of each; got {list(rows)} and {list(seeds)}")
    library = ModelLibrary(Path(output) / "runs", data_dir=data_dir, device=device, announce=announce)
    runs = [
        library.run(f"{row}-seed{seed}", config.with_options(**W_SOLVER_ROWS[row], seed=seed))
        for seed in seeds
        for row in rows
    ]
    by_row = sorted(runs, key=lambda run: [run.name.startswith(f"{row}-seed") for row in rows].index(True))  # type: ignore[union-attr]
    return compare_runs(by_row, output, data_dir=data_dir, device=device, announce=announce)  # type: ignore[arg-type]


def compare_runs(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Callable[[str], None] = lambda message: None,
) -> list[ComparedRun]:
    """Compare trained runs by their W-solver; runs that differ in their seed alone are seeds of one row.

    Leaves in OUTPUT: comparison.md and .html (the tables), comparison.csv (a line for each run), comparison.png (means
    and standard deviations over the seeds), bases.png (H of one unseen group).

    Arguments:
        runs: run folders, trained on groups of the same images.
        output: a folder.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done.

    Returns:
        One entry for each run, in the order of the rows.

    Raises:
        RunFolderError: a run is missing or damaged.
        ValueError: the runs were trained on different images or groups.
    """
    if not runs:
        raise ValueError("runs: expected at least one run folder; got none")
    opened = [RunFolder.open(run) for run in runs]
    _check_same_groups(opened)
    data = load_run_data(opened[0][1].data, seed=0, data_dir=data_dir, device=device)
    models: dict[str, GANUNMF] = {}
    compared = []
    for (folder, config), row in zip(opened, _rows([config for _, config in opened], opened), strict=True):
        announce(f"scoring {folder.path}")
        model = load_model_of(folder, config, "generator", device)
        models.setdefault(row, model)
        scores = _score(model, config, data) | {"ms_a_step": _ms_a_step(folder, config)}
        compared.append(ComparedRun(row, config.training.seed, folder.path, scores))
    announce("comparing the exact solvers")
    _write(Path(output), compared, models, data, opened[0][1])
    return compared


def w_solver_label(model: ModelConfig) -> str:
    """What a row of a comparison is called."""
    names = {"fc": "fully connected", "cvxpylayer_loose": "cvxpylayer, loose"}
    name = names.get(model.w_solver, model.w_solver)
    if model.w_solver in EXACT and model.w_steps is None:
        name = "exact NNLS"
    if model.w_steps is not None:
        name = f"{'truncated' if model.w_solver == 'unrolled' else model.w_solver}, {model.w_steps} steps"
    extras = {
        "detached W": model.w_backward == "detached",
        f"l1 = {model.l1:g}": model.l1 > 0,
        "unit-norm H": model.unit_norm,
        "mixture": model.mixture,
    }
    return ", ".join([name, *(extra for extra, there in extras.items() if there)])


def _rows(configs: Sequence[RunConfig], opened: Sequence[tuple[RunFolder, RunConfig]]) -> list[str]:
    """The label of every run; where runs of one label differ in more than the seed, their folders tell them apart."""
    labels = [w_solver_label(config.model) for config in configs]
    kinds = {
        label: {repr(c.with_options(seed=0)) for c, x in zip(configs, labels, strict=True) if x == label}
        for label in labels
    }
    twice = Counter((label, config.training.seed) for label, config in zip(labels, configs, strict=True))
    return [
        f"{label} ({folder.path.name})" if len(kinds[label]) > 1 or twice[label, config.training.seed] > 1 else label
        for label, (folder, config) in zip(labels, opened, strict=True)
    ]


def _check_same_groups(opened: Iterable[tuple[RunFolder, RunConfig]]) -> None:
    (first, reference), *others = opened
    for folder, config in others:
        for name in ("dataset", "group_size", "order"):
            mine, its = getattr(config.data, name), getattr(reference.data, name)
            if mine != its:
                raise ValueError(
                    f"runs: expected the same {name} in all; got {its!r} in {first.path} and {mine!r} in {folder.path}"
                )


def _score(model: GANUNMF, config: RunConfig, data: RunData) -> dict[str, float]:
    def score(Y: Tensor) -> dict[str, Tensor]:
        H, W, _ = model.factorize(Y)
        kkt = nnls_kkt_residual(H, Y, W, l1=config.model.l1)
        return {**summarize(Y, H, W), "zero_share": zero_share(H), "kkt_residual": kkt}

    return mean_scores(score, data.split.test, data.test_groups)


def _ms_a_step(folder: RunFolder, config: RunConfig) -> float:
    """Of the training, median over its epochs; NaN for a run without epochs."""
    rows = folder.load_curves(config.training.epochs)
    speeds = torch.tensor([row["groups_per_second"] for row in rows] or [float("nan")])
    return 1000 * config.training.batch_size * config.training.accumulate / speeds.median().item()


def _write(
    output: Path, compared: Sequence[ComparedRun], models: Mapping[str, GANUNMF], data: RunData, config: RunConfig
) -> None:
    by_row: dict[str, list[ComparedRun]] = {}
    for run in compared:
        by_row.setdefault(run.row, []).append(run)
    values = {row: {name: [run.scores[name] for run in runs] for name in COLUMNS} for row, runs in by_row.items()}
    shape, groups = data.split.test.image_shape, len(data.test_groups)
    Y = group_matrix(data.split.test, data.test_groups[0])  # (n, m)
    bases = {row: unit_peak(model.factorize(Y).H.cpu()) for row, model in models.items()}
    # Of a basis as it is in a trained model: any run will do, one with exact weights rather than another.
    trained = next((model for row, model in models.items() if row.startswith("exact")), next(iter(models.values())))
    agreement = exact_agreement(trained, group_matrix(data.split.test, data.test_groups[:2]))
    lines = [
        "# W-solvers compared",
        "",
        f"{config.data.dataset}, k = {config.model.k}, m = {config.data.group_size}, {config.data.order} order of "
        f"columns; means over {groups} unseen groups, ± standard deviation over seeds; {config.training.epochs} epochs",
        "",
        markdown_table(
            ["W-solver", "seeds", *COLUMNS.values()],
            [[row, len(by_row[row]), *(mean_std(scores[name]) for name in COLUMNS)] for row, scores in values.items()],
        ),
        "",
        "![Scores of every W-solver](comparison.png)",
        "",
        "![H of one unseen group with every W-solver](bases.png)",
        "",
        "## The exact solvers agree",
        "",
        "On H and Y of two unseen groups, in float64; the reference is `unrolled`; the gradient is that of the mean "
        "absolute error of HW for H. Milliseconds are those of one call, forward and backward.",
        "",
        markdown_table(["solver", "W off by", "gradient off by", "KKT residual", "ms"], agreement),
        "",
        "What the scores mean: `diffnmf.metrics`. A KKT residual of 0 says that W is the best there is for H.",
    ]
    with explained_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        save_bars(
            output / "comparison.png", values, PANELS, title=f"W-solvers on unseen groups of {config.data.dataset}"
        )
        save_panels(output / "bases.png", bases, shape, title="H of one unseen group, each column to its own maximum")
        write_csv(
            output / "comparison.csv",
            [{"row": run.row, "seed": run.seed, "run": str(run.run), **run.scores} for run in compared],
        )
    write_report(output, "comparison", "\n".join(lines))
