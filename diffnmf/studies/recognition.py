"""Are reconstructions still recognised? A classifier of real images, applied to those of unseen groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from diffnmf.checks import check_counts
from diffnmf.data import group_matrix
from diffnmf.errors import RunFolderError
from diffnmf.evaluation.rivals import ANLS_SETTINGS
from diffnmf.evaluation.scoring import BATCH, Scores
from diffnmf.factorization import factorize, merge
from diffnmf.files import explained_reading, read_json, write_csv, write_json
from diffnmf.metrics import relative_error
from diffnmf.metrics.names import NAMES
from diffnmf.runs import DataConfig, RunConfig, RunFolder
from diffnmf.runs.parts import RunData, load_run_data
from diffnmf.runs.places import absolute_dataset, fingerprint
from diffnmf.runs.trained_run import load_model_of
from diffnmf.studies.classifier import accuracy, trained_classifier
from diffnmf.studies.frontier_report import at_error
from diffnmf.studies.library import check_is_for, names_of_runs
from diffnmf.studies.measured import check_scores
from diffnmf.studies.paper.claims import NOT_RUN, verdict_on
from diffnmf.studies.progress import Announce, Progress
from diffnmf.studies.report import check_folder, definition_list, explained_results, markdown_table, write_report

Reconstruct = Callable[[Tensor], Tensor]  # Y (B, n, m) to Y_hat (B, n, m)

ROUNDS = (2, 4, 8, 16, 32, 64)  # of HALS from a random start: accuracies at errors above that of its end
REAL = "the images themselves"
BESIDE_THE_ROW = ("seed", "adversarial", "start_from", "checkpoint_every", "picture_every", "critic_width")
COLUMNS = {
    "relative_error": NAMES["relative_error"],
    "accuracy": "accuracy",
    "at_equal_error": "less HALS at equal error",
}


def measure_recognition(
    config: DataConfig,
    ks: Sequence[int],
    output: str | Path,
    *,
    runs: Sequence[str | Path] = (),
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Announce = lambda message: None,
) -> dict[str, Scores]:
    """Score classical methods and trained runs by the accuracy of a classifier on their reconstructions.

    Writes to OUTPUT: recognition.md and .html (the table, and whether the critic helps), recognition.csv,
    classifier.safetensors (trained once), and recognition.json, from which the same call goes on where it was stopped.
    Runs are scored anew every time.

    Arguments:
        config: the images, which need labels, and groups; ``limit_test_groups`` of them are scored.
        ks: numbers of components of the classical methods.
        output: a folder for the results.
        runs: folders of finished runs on groups of the same images. Those that differ in their critic alone are
            compared seed by seed.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done.

    Returns:
        Row -> ``accuracy``, ``relative_error`` and ``at_equal_error``: its accuracy less that of HALS, begun at random
        and stopped where its error is the same; NaN outside of that range. Means over the groups.

    Raises:
        ValueError: the images have no labels, or a run is given twice.
        RunFolderError: OUTPUT holds measurements of something else; or a run is missing, damaged or for other groups.
    """
    output, ks = Path(output), check_counts("ks", ks, at_least=1)
    check_folder(output)
    config = replace(config, dataset=absolute_dataset(config.dataset))
    classical = {f"{name}, k = {k}": (k, method) for k in ks for name, method in _classical(k).items()}
    methods: dict[str, Reconstruct] = {REAL: lambda Y: Y, **{name: method for name, (_, method) in classical.items()}}
    names = names_of_runs(runs, methods)  # errors before anything is measured
    opened = [RunFolder.open(run) for run in runs]
    models = [load_model_of(folder, run, None, device) for folder, run in opened]
    data = load_run_data(config, seed=0, data_dir=data_dir, device=device)
    if data.split.train.labels is None or data.split.test.labels is None:
        raise ValueError(f"dataset: expected images with classes; {config.dataset} has none (use others)")
    for run, model in zip(runs, models, strict=True):
        check_is_for(model, run, data)
    settings, images = _settings(config, len(data.test_groups)), fingerprint(data.split)
    known = _known(output, settings, images)
    classifier = trained_classifier(output / "classifier.safetensors", data.split.train, announce)
    progress = Progress(sum(name not in known for name in methods) + len(models), announce)
    for name, method in methods.items():
        if name not in known:
            progress.begin(f"measuring {name}")
            known[name] = _score(method, classifier, data)
            write_json(output / "recognition.json", {"settings": settings, "images": images, "rows": known})
    rows = {name: dict(known[name]) for name in methods}
    for run, name, model in zip(runs, names, models, strict=True):
        progress.begin(f"scoring {run}")
        rows[name] = _score(lambda Y, model=model: model.factorize(Y).Y_hat, classifier, data)  # type: ignore[misc]
    by_k = {name: k for name, (k, _) in classical.items()}
    by_k |= {name: model.config.k for name, model in zip(names, models, strict=True)}
    for name, scores in rows.items():
        scores["at_equal_error"] = scores["accuracy"] - _hals_at(rows, by_k.get(name), scores["relative_error"])
    _write(output, rows, settings, _critic([run for _, run in opened], [rows[name] for name in names]))
    return rows


def _settings(config: DataConfig, groups: int) -> str:
    """What is scored, in words."""
    size = "" if config.resize is None else " at {}×{}".format(*config.resize)
    return f"{config.dataset}{size}, m = {config.group_size}, {config.order} order, {groups} groups"


def _classical(k: int) -> dict[str, Reconstruct]:
    def product(factors: tuple[Tensor, ...]) -> Tensor:
        return factors[0] @ factors[1]

    def stopped(rounds: int, Y: Tensor) -> Tensor:
        return product(factorize(Y, k, init="random", seed=0, max_iter=rounds, tol=0.0))

    return {
        "ANLS": lambda Y: product(factorize(Y, k, **ANLS_SETTINGS["run"])),
        "merge": lambda Y: product(merge(Y, k)),
        **{f"HALS, {rounds} rounds": partial(stopped, rounds) for rounds in ROUNDS},
    }


@torch.no_grad()
def _score(method: Reconstruct, classifier: torch.nn.Module, data: RunData) -> Scores:
    """Means over the test groups."""
    images, right, errors = data.split.test, [], []
    for groups in data.test_groups.split(BATCH):
        Y = group_matrix(images, groups)
        Y_hat = method(Y)
        pictures = Y_hat.clamp(0, 1).mT.reshape(-1, 1, *images.image_shape)  # (B · m, 1, h, w)
        assert images.labels is not None  # measure_recognition has looked
        right.append(accuracy(classifier, pictures, images.labels[groups.flatten().to(images.labels.device)]))
        errors.append(relative_error(Y, Y_hat))
    return {
        "relative_error": torch.cat(errors).double().mean().item(),
        "accuracy": torch.cat(right).double().mean().item(),
    }


def _hals_at(rows: Mapping[str, Scores], k: int | None, error: float) -> float:
    """The accuracy of HALS with k components at an error, between the points where it was stopped; NaN outside."""
    found = [rows[name] for rounds in ROUNDS if (name := f"HALS, {rounds} rounds, k = {k}") in rows]
    return at_error(sorted((scores["relative_error"], scores["accuracy"]) for scores in found), error)


def _critic(runs: Sequence[RunConfig], scores: Sequence[Scores]) -> list[list[object]]:
    """For every kind of run with and without critic: its name, the differences seed by seed, the verdict."""
    found: dict[str, dict[tuple[bool, int], Scores]] = {}
    for run, its in zip(runs, scores, strict=True):
        options = run.options()
        kind = ", ".join(f"{name} {value}" for name, value in _telling(options).items())
        same = repr({name: value for name, value in options.items() if name not in BESIDE_THE_ROW})
        found.setdefault(f"{kind}\n{same}", {})[run.training.adversarial, run.training.seed] = its
    table: list[list[object]] = []
    for kind, seeds in found.items():
        both = sorted(seed for critic, seed in seeds if critic and (False, seed) in seeds)
        if not both:
            continue
        gains = [seeds[True, seed]["accuracy"] - seeds[False, seed]["accuracy"] for seed in both]
        errors = [seeds[True, seed]["relative_error"] - seeds[False, seed]["relative_error"] for seed in both]
        listed = ", ".join(f"{gain:+.4f}" for gain in gains)
        table.append([kind.split("\n")[0], listed, f"{fmean(errors):+.4f}", verdict_on([-gain for gain in gains])])
    return table


def _telling(options: Mapping[str, object]) -> dict[str, object]:
    """The options by which a reader knows a run."""
    return {name: options[name] for name in ("k", "w_solver", "basis_init", "reconstruction", "sparsity")}


def _known(output: Path, settings: str, images: str) -> dict[str, Scores]:
    """The rows that an earlier call has measured."""
    file = output / "recognition.json"
    if not file.exists():
        return {}
    with explained_reading(file, "the accuracies of reconstructions"):
        content = read_json(file)
        saved, rows = content["settings"], dict(content["rows"])
        its_images = content.get("images", images)  # an older file is taken on trust
        for scores in rows.values():
            check_scores(scores, ("relative_error", "accuracy"))
    if saved != settings:
        raise RunFolderError(f"{file}: was measured on {saved}; got {settings} (take another folder)")
    if its_images != images:
        raise RunFolderError(f"{file}: was measured on other images of {saved} (put them back, or take another folder)")
    return rows


def _write(output: Path, rows: Mapping[str, Scores], settings: str, critic: Sequence[Sequence[object]]) -> None:
    def shown(value: float) -> float | None:
        return None if value != value else value

    verdicts = [f"{NOT_RUN}: no two runs differ in their critic alone."]
    if critic:
        heads = ["run", "accuracy with it less without, seed by seed", "relative error, likewise", "it raises accuracy"]
        verdicts = [markdown_table(heads, critic)]
    lines = [
        "# Are reconstructions recognised?",
        "",
        f"{settings}, none of them seen in training. The classifier was trained on real images.",
        "",
        "## Scores",
        "",
        markdown_table(
            ["row", *COLUMNS.values()],
            [[name, *(shown(scores[column]) for column in COLUMNS)] for name, scores in rows.items()],
        ),
        "",
        definition_list(COLUMNS),
        "",
        "At equal error: HALS begins at random and is stopped after some rounds; between them its accuracy is "
        "interpolated. A dash outside of that range.",
        "",
        "## Does the critic help?",
        "",
        *verdicts,
    ]
    with explained_results(output):
        write_csv(output / "recognition.csv", [{"row": name, **scores} for name, scores in rows.items()])
        write_report(output, "recognition", "\n".join(lines))
