"""What H costs: relative error against sparsity, overlap and slot consistency, classical methods and trained runs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffnmf.checks import check_count
from diffnmf.data import group_matrix
from diffnmf.errors import RunFolderError
from diffnmf.evaluation.rivals import ANLS_SETTINGS
from diffnmf.evaluation.scoring import mean_of
from diffnmf.factorization import UnitColumns, factorize, match_slots, merge, slot_prototypes, take_slots
from diffnmf.figures.comparisons import save_lines
from diffnmf.files import explained_errors, read_json, write_csv, write_json
from diffnmf.metrics import slot_consistency, summarize
from diffnmf.models import GANUNMF
from diffnmf.models.basis_start import PROTOTYPE_GROUPS
from diffnmf.runs import DataConfig, RunFolder
from diffnmf.runs.parts import RunData, load_run_data
from diffnmf.runs.places import absolute_dataset
from diffnmf.runs.trained_run import load_model_of
from diffnmf.studies.progress import Announce, Progress
from diffnmf.studies.report import check_folder, markdown_table, write_report

Factors = tuple[Tensor, Tensor]
Scores = dict[str, float]

ROUNDS = 60  # extrapolated ones: the objective of groups of images hardly moves any more
WEIGHTS: dict[str, tuple[float, ...]] = {
    "sparsity": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35),
    "overlap": (0.025, 0.05, 0.1, 0.2),
    "closeness": (0.05, 0.1, 0.2, 0.4),
}
SLOT_GROUPS = 64  # slots are compared from each to each
BATCH = 32
COLUMNS = {
    "relative_error": "relative error",
    "hoyer_H": "Hoyer H",
    "part_overlap": "part overlap",
    "slot_consistency": "slot consistency",
    "copying": "copying",
    "dead_components": "dead",
    "ms_a_group": "ms a group",
}
PLAIN, ORDERED, HALS_ROW = "merge", "merge, ordered slots", "HALS from merge"


def measure_frontier(
    config: DataConfig,
    k: int,
    output: str | Path,
    *,
    runs: Sequence[str | Path] = (),
    weights: Mapping[str, Sequence[float]] = WEIGHTS,
    rounds: int = ROUNDS,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Announce = lambda message: None,
) -> dict[str, Scores]:
    """Score merging, HALS from it with each penalty of H, ANLS, and trained runs on the same unseen groups.

    Writes to OUTPUT: frontier.md and .html (the table), frontier.csv, frontier.png (sparsity against error), and
    frontier.json, from which the same call goes on where it was stopped. Runs are scored anew every time.

    Arguments:
        config: the images and groups; ``limit_test_groups`` of them are scored.
        k: components.
        output: a folder for the results.
        runs: folders of finished runs with k components, trained on groups of the same shape.
        weights: penalty of ``UnitColumns`` -> its weights.
        rounds: iterations of HALS and ``UnitColumns``, an int ≥ 1.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done.

    Returns:
        Row -> means over the groups, by the names of ``COLUMNS``. Rows of runs also have ``beyond_frontier``, their
        Hoyer sparsity less that of the sparsity rows at the same error (NaN outside of their range), and
        ``gap_closed`` where they were trained on the relative error with a penalty: how much of what merging and the
        optimum of that objective differ by.

    Raises:
        RunFolderError: OUTPUT holds measurements of something else; or a run is missing, damaged or has another k.
    """
    output, k = Path(output), check_count("k", k, at_least=1)
    check_count("rounds", rounds, at_least=1)
    check_folder(output)
    config = replace(config, dataset=absolute_dataset(config.dataset))
    settings = {
        "dataset": config.dataset,
        "group_size": config.group_size,
        "order": config.order,
        "limit_test_groups": config.limit_test_groups,
        "k": k,
        "rounds": rounds,
    }
    known = _known(output, settings)
    models = [_opened(run, k, device) for run in runs]  # an error before anything is measured
    data = load_run_data(config, seed=0, data_dir=data_dir, device=device)
    prototypes = _prototypes(data, k)
    rows = _classical_rows(k, prototypes, weights, rounds)
    progress = Progress(len([name for name in rows if name not in known]) + len(models), announce)
    for name, method in rows.items():
        if name not in known:
            progress.begin(f"measuring {name}")
            known[name] = _score(method, data)
            write_json(output / "frontier.json", {"settings": settings, "rows": known})
    result = {name: known[name] for name in rows}
    curve = _curve(result, "sparsity")
    for name, model, objective in models:
        progress.begin(f"scoring {name}")
        scores = _score(lambda Y, model=model: model.factorize(Y)[:2], data)  # type: ignore[misc]
        scores["beyond_frontier"] = scores["hoyer_H"] - _at(curve, scores["relative_error"])
        if objective is not None:
            scores["gap_closed"] = _gap_closed(model, objective, data, k, rounds)
        result[name] = scores
    _write(output, result, config, k)
    return result


def _known(output: Path, settings: dict[str, Any]) -> dict[str, Scores]:
    """The rows that an earlier call has measured."""
    file = output / "frontier.json"
    if not file.exists():
        return {}
    try:
        content = read_json(file)
        rows, saved = dict(content["rows"]), dict(content["settings"])
    except (ValueError, RecursionError, KeyError, TypeError, OSError) as error:
        raise RunFolderError(f"{file}: not the measurements of a frontier, or damaged: {error!r}") from error
    # None became NaN on its way through the file.
    saved = {name: None if value != value else value for name, value in saved.items()}
    if saved != settings:
        differing = [
            f"{name} is {value!r} here and was {saved.get(name)!r}"
            for name, value in settings.items()
            if saved.get(name) != value
        ]
        raise RunFolderError(f"{file}: was measured with other settings: {'; '.join(differing)} (take another folder)")
    return rows


def _opened(run: str | Path, k: int, device: torch.device | str) -> tuple[str, GANUNMF, UnitColumns | None]:
    """The name of a run, its model, and the objective that it was trained on, if it is one of ``UnitColumns``."""
    folder, config = RunFolder.open(run)
    model = load_model_of(folder, config, "generator", device)
    if model.config.k != k:
        raise RunFolderError(f"{folder.path}: expected a run with k = {k}; got k = {model.config.k}")
    training = config.training
    penalised = max(training.sparsity, training.overlap, training.closeness) > 0
    if training.reconstruction != "relative" or not penalised:
        return folder.path.name, model, None
    prototypes = None if model.generator.start is None else model.generator.start.prototypes
    objective = UnitColumns(training.sparsity, training.overlap, training.closeness, prototypes)
    return folder.path.name, model, objective


def _prototypes(data: RunData, k: int) -> Tensor:
    """(n, k), what merged bases of training groups have in common."""
    return slot_prototypes(merge(group_matrix(data.split.train, data.train_groups[:PROTOTYPE_GROUPS]), k)[0])


def _classical_rows(
    k: int, prototypes: Tensor, weights: Mapping[str, Sequence[float]], rounds: int
) -> dict[str, Callable[[Tensor], Factors]]:
    def merged(Y: Tensor) -> Factors:
        H, W = merge(Y, k)
        return take_slots(H, W, match_slots(H, prototypes))

    def hals(Y: Tensor) -> Factors:
        H, W = merged(Y)
        return factorize(Y, k, H0=H, W0=W, max_iter=rounds, tol=0.0)[:2]

    def penalised(method: UnitColumns, Y: Tensor) -> Factors:
        return _optimum(method, Y, merged(Y), rounds)

    rows: dict[str, Callable[[Tensor], Factors]] = {
        PLAIN: lambda Y: merge(Y, k),
        ORDERED: merged,
        HALS_ROW: hals,
        "ANLS from random": lambda Y: factorize(Y, k, **ANLS_SETTINGS["run"])[:2],
    }
    for penalty, values in weights.items():
        for weight in values:
            method = UnitColumns(**{penalty: weight}, prototypes=prototypes)  # type: ignore[arg-type]
            rows[f"{penalty} {weight:g}"] = lambda Y, method=method: penalised(method, Y)  # type: ignore[misc]
    return rows


def _optimum(method: UnitColumns, Y: Tensor, merged: Factors, rounds: int) -> Factors:
    """From merging in fixed slots; with closeness every group takes the better of that and the prototypes as a start.

    The prototypes are a little better for k = 10 of 40 MNIST images, and up to 7 % worse for k = 30, where some die.
    """
    k = merged[0].shape[-1]
    H, W, *_ = factorize(Y, k, method=method, H0=merged[0], W0=merged[1], max_iter=rounds, tol=0.0)
    if method.closeness and method.prototypes is not None:
        other = factorize(Y, k, method=method, H0=method.prototypes, max_iter=rounds, tol=0.0)
        better = (method.objective(Y, other.H, other.W) < method.objective(Y, H, W))[:, None, None]
        H, W = torch.where(better, other.H, H), torch.where(better, other.W, W)
    return H, W


@torch.no_grad()
def _score(method: Callable[[Tensor], Factors], data: RunData) -> Scores:
    """The means over the test groups."""
    scores, bases, seconds = [], [], 0.0
    for groups in data.test_groups.split(BATCH):
        Y = group_matrix(data.split.test, groups)
        start = time.perf_counter()
        H, W = method(Y)
        if Y.is_cuda:
            torch.cuda.synchronize(Y.device)
        seconds += time.perf_counter() - start
        scores.append(summarize(Y, H, W))
        bases.append(H.cpu())
    means = mean_of(scores)
    H = torch.cat(bases)[:SLOT_GROUPS]
    means["slot_consistency"] = slot_consistency(H).unmatched if len(H) > 1 else float("nan")
    means["ms_a_group"] = 1000 * seconds / len(data.test_groups)
    return {name: means[name] for name in COLUMNS}


def _gap_closed(model: GANUNMF, objective: UnitColumns, data: RunData, k: int, rounds: int) -> float:
    """(merging − model) / (merging − optimum), in the objective that the model was trained on."""
    totals = torch.zeros(3, dtype=torch.float64)
    for groups in data.test_groups.split(BATCH):
        Y = group_matrix(data.split.test, groups)
        H0, W0 = merge(Y, k)
        if objective.closeness and objective.prototypes is not None:
            H0, W0 = take_slots(H0, W0, match_slots(H0, objective.prototypes))
        H, W, _ = model.factorize(Y)
        best = _optimum(objective, Y, (H0, W0), rounds)
        values = [objective.objective(Y, *factors) for factors in ((H0, W0), (H, W), best)]
        totals += torch.stack([value.sum().cpu() for value in values])
    begin, reached, end = totals.tolist()
    return (begin - reached) / (begin - end)


def _curve(rows: Mapping[str, Scores], penalty: str) -> list[tuple[float, float]]:
    """(relative error, Hoyer sparsity) of HALS and the rows of a penalty, by growing error."""
    chosen = [scores for name, scores in rows.items() if name == HALS_ROW or name.startswith(f"{penalty} ")]
    return sorted((scores["relative_error"], scores["hoyer_H"]) for scores in chosen)


def _at(curve: Sequence[tuple[float, float]], error: float) -> float:
    """Hoyer sparsity at an error, between the points of a curve; NaN outside."""
    errors, sparsities = np.array(curve).T
    return float(np.interp(error, errors, sparsities, left=np.nan, right=np.nan))


def _write(output: Path, rows: Mapping[str, Scores], config: DataConfig, k: int) -> None:
    columns = dict(COLUMNS)
    if any("beyond_frontier" in scores for scores in rows.values()):
        columns |= {"beyond_frontier": "Hoyer beyond the frontier", "gap_closed": "gap closed"}
    lines = [
        f"# Error against sparsity of H on unseen groups of {config.dataset}",
        "",
        f"k = {k}, m = {config.group_size}, {config.order} order of columns; means over the groups.",
        "",
        markdown_table(
            ["row", *columns.values()],
            [[name, *(_shown(scores.get(column)) for column in columns)] for name, scores in rows.items()],
        ),
        "",
        "![Hoyer sparsity of H against the relative error](frontier.png)",
        "",
        "`sparsity`, `overlap` and `closeness` are the weights of `UnitColumns`, started at merging in fixed slots "
        "(closeness: or at the prototypes, whichever ends better). Slot consistency is the mean cosine of equal slots "
        "of H in different groups. Hoyer beyond the frontier: that of the sparsity rows at the same error is "
        "subtracted; a dash outside of their range. Gap closed: of the difference between merging and the optimum of "
        "the objective that a run was trained on.",
    ]
    curves = {f"HALS, {penalty}": _curve(rows, penalty) for penalty in WEIGHTS}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    others = [name for name in rows if not name.startswith(tuple(f"{penalty} " for penalty in WEIGHTS))]
    curves |= {name: [(rows[name]["relative_error"], rows[name]["hoyer_H"])] for name in others if name != PLAIN}
    with explained_errors(output, "free disk space or make the folder writable, then run the same command again"):
        save_lines(
            output / "frontier.png",
            {name: [(*point, float("nan")) for point in points] for name, points in curves.items()},
            title=f"{config.dataset}, k = {k}",
            x="relative error",
            y="Hoyer sparsity of H",
        )
        write_csv(output / "frontier.csv", [{"row": name, **scores} for name, scores in rows.items()])
        write_report(output, "frontier", "\n".join(lines))


def _shown(value: float | None) -> float | None:
    return None if value is None or value != value else value
