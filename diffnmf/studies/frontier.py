"""What H costs: relative error against sparsity, overlap and slot consistency, classical methods and trained runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.checks import check_count
from diffnmf.data import GroupSampler, group_matrix
from diffnmf.errors import RunFolderError
from diffnmf.evaluation.scoring import BATCH, Scores, mean_of
from diffnmf.hardware import now
from diffnmf.metrics import slot_consistency, summarize
from diffnmf.models import GANUNMF
from diffnmf.runs import DataConfig, RunConfig, RunFolder
from diffnmf.runs.parts import TEST_SEED, RunData, load_run_data
from diffnmf.runs.places import absolute_dataset, fingerprint
from diffnmf.runs.trained_run import load_model_of
from diffnmf.studies.frontier_report import COLUMNS, HALS_ROW, ORDERED, at_error, curve, write_frontier
from diffnmf.studies.frontier_rows import (
    UNIT,
    WEIGHTS,
    classical_rows,
    direct_rows,
    prototypes_of,
    squared_error_of_merging,
)
from diffnmf.studies.gap import Factors, Objective, gap_closed
from diffnmf.studies.library import check_is_for, names_of_runs
from diffnmf.studies.measured import Measured, check_scores
from diffnmf.studies.progress import Announce, Progress
from diffnmf.studies.report import check_folder

ROUNDS = 60  # extrapolated ones: the objective of groups of images hardly moves any more
SLOT_GROUPS = 64  # slots are compared from each to each
NEWER = ("limit_groups", "resize", "images")  # settings that older files do not have
PICTURED = ("ANLS from random", ORDERED, HALS_ROW)


def measure_frontier(
    config: DataConfig,
    k: int,
    output: str | Path,
    *,
    runs: Sequence[str | Path] = (),
    weights: Mapping[str, Sequence[float]] = WEIGHTS,
    rounds: int = ROUNDS,
    direct: int | None = None,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Announce = lambda message: None,
) -> dict[str, Scores]:
    """Score merging, HALS from it with each penalty of H, ANLS, and trained runs on the same unseen groups.

    Writes to OUTPUT: frontier.md and .html (the table), frontier.csv, frontier.png (sparsity against error),
    bases.png (H of one group), and frontier.json, from which the same call goes on where it was stopped. Runs are
    scored anew every time.

    Arguments:
        config: the images and groups; ``limit_test_groups`` of them are scored. Where the test images make fewer,
            they are grouped again.
        k: components.
        output: a folder for the results.
        runs: folders of finished runs with k components, trained on groups of the same shape.
        weights: penalty of ``UnitColumns`` -> its weights, in units of the mean squared relative error of merging, so
            that they mean the same on all images.
        rounds: iterations of HALS and ``UnitColumns``, an int ≥ 1.
        direct: steps of Adam on each training loss, group by group, an int ≥ 1; None leaves these rows out.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done.

    Returns:
        Row -> means over the groups, by the names of ``COLUMNS``. Rows of runs also have ``beyond_frontier``, their
        Hoyer sparsity less that of the sparsity rows at the same error (NaN outside of their range), and
        ``gap_closed`` where they were trained on the squared error with a penalty: how much of what merging and the
        optimum of that objective differ by.

    Raises:
        RunFolderError: OUTPUT holds measurements of something else; or a run is missing, damaged, has another k or is
            for other groups.
        ValueError: a run is given twice.
    """
    output, k = Path(output), check_count("k", k, at_least=1)
    check_count("rounds", rounds, at_least=1)
    if direct is not None:
        check_count("direct", direct, at_least=1)
    check_folder(output)
    config = replace(config, dataset=absolute_dataset(config.dataset))
    plain = RunConfig(data=config).to_dict()["data"]
    settings = {**plain, "k": k, "rounds": rounds, "weights_in": UNIT, "direct": direct}
    opened = [_opened(run, k, device) for run in runs]  # an error before anything is measured
    data = _grouped(load_run_data(config, seed=0, data_dir=data_dir, device=device), config)
    settings["images"] = fingerprint(data.split)
    file = output / "frontier.json"
    what = "the measurements of a frontier"
    measured = Measured(file, settings, what, newer=NEWER, optional=("direct",), check_row=_check_row)
    known = measured.rows
    for run, (model, _) in zip(runs, opened, strict=True):
        check_is_for(model, run, data)
    prototypes, unit = prototypes_of(data, k), squared_error_of_merging(data, k)
    rows = classical_rows(k, prototypes, weights, unit, rounds)
    rows |= {} if direct is None else direct_rows(k, weights.get("sparsity", ()), direct)
    models = dict(zip(names_of_runs(runs, rows), opened, strict=True))
    progress = Progress(len([name for name in rows if name not in known]) + len(models), announce)
    for name, method in rows.items():
        if name not in known:
            progress.begin(f"measuring {name}")
            known[name] = _score(method, data)
            measured.save()
    result = {name: known[name] for name in rows}
    points = curve(result, "sparsity")
    bases = _bases({name: rows[name] for name in _pictured(weights) if name in rows}, data)
    for name, (model, objective) in models.items():
        progress.begin(f"scoring {name}")
        scores = _score(lambda Y, model=model: model.factorize(Y)[:2], data)  # type: ignore[misc]
        scores["beyond_frontier"] = scores["hoyer_H"] - at_error(points, scores["relative_error"])
        if objective is not None:
            scores["gap_closed"] = gap_closed(model, objective, data, rounds)
        result[name] = scores
        bases |= _bases({name: lambda Y, model=model: model.factorize(Y)[:2]}, data)  # type: ignore[misc]
    write_frontier(output, result, config, k, tuple(weights), unit, bases, data.split.test.image_shape)
    return result


def _opened(run: str | Path, k: int, device: torch.device | str) -> tuple[GANUNMF, Objective | None]:
    """The model of a run, and the objective that it was trained on (see ``Objective.of``)."""
    folder, config = RunFolder.open(run)
    model = load_model_of(folder, config, "generator", device)
    if model.config.k != k:
        raise RunFolderError(f"{folder.path}: expected a run with k = {k}; got k = {model.config.k}")
    prototypes = None if model.generator.start is None else model.generator.start.prototypes
    return model, Objective.of(config.training, prototypes)


def _check_row(row: Any) -> None:
    check_scores(row, ("relative_error", "hoyer_H"))  # older files lack others


def _grouped(data: RunData, config: DataConfig) -> RunData:
    """The same with ``limit_test_groups`` test groups, where one pass over the test images gives fewer."""
    wanted = config.limit_test_groups or 0
    if wanted <= len(data.test_groups):
        return data
    sampler = GroupSampler(data.split.test, config.group_size, order=config.order, seed=TEST_SEED)
    groups = torch.cat([sampler.epoch(epoch) for epoch in range(-(-wanted // len(sampler)))])
    return replace(data, test_groups=groups[:wanted].to(data.test_groups.device))


def _pictured(weights: Mapping[str, Sequence[float]]) -> list[str]:
    """The rows whose H is shown: those of no penalty, and each penalty with its middle weight."""
    middle = [f"{penalty} {values[len(values) // 2]:g}" for penalty, values in weights.items() if values]
    return [*PICTURED, *middle]


def _bases(methods: Mapping[str, Callable[[Tensor], Factors]], data: RunData) -> dict[str, Tensor]:
    """H (n, k) of the first unseen group."""
    Y = group_matrix(data.split.test, data.test_groups[:1])
    return {name: method(Y)[0][0].cpu() for name, method in methods.items()}


@torch.no_grad()
def _score(method: Callable[[Tensor], Factors], data: RunData) -> Scores:
    """The means over the test groups."""
    scores, bases, seconds = [], [], 0.0
    for groups in data.test_groups.split(BATCH):
        Y = group_matrix(data.split.test, groups)
        start = now(Y.device)
        H, W = method(Y)
        seconds += now(Y.device) - start
        scores.append(summarize(Y, H, W))
        bases.append(H.cpu())
    means = mean_of(scores)
    H = torch.cat(bases)[:SLOT_GROUPS]
    means["slot_consistency"] = slot_consistency(H).unmatched if len(H) > 1 else float("nan")
    means["ms_a_group"] = 1000 * seconds / len(data.test_groups)
    return {name: means[name] for name in COLUMNS}
