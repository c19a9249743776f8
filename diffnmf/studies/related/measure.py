"""``measure_related``: every system learns from the same images, and is scored on the same unseen ones."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffnmf.checks import check_count, check_counts, check_names
from diffnmf.data import DataSplit, ImageSet, load_dataset
from diffnmf.errors import DivergenceError, RunFolderError
from diffnmf.evaluation.scoring import Scores
from diffnmf.hardware import now
from diffnmf.runs.places import absolute_dataset, fingerprint
from diffnmf.studies.progress import Announce, Progress
from diffnmf.studies.related.groups import group_rows
from diffnmf.studies.related.kept import Kept
from diffnmf.studies.related.report import write_related
from diffnmf.studies.related.scores import samples_of, scores_of
from diffnmf.studies.related.systems import SYSTEMS
from diffnmf.studies.report import check_folder

CHOICE_SEED = 0  # the images are the same for all seeds, which differ in what a system draws


def measure_related(
    dataset: str,
    output: str | Path,
    *,
    k: int = 64,
    systems: Sequence[str] = tuple(SYSTEMS),
    seeds: Sequence[int] = (0, 1, 2),
    train_images: int = 5000,
    test_images: int = 5000,
    data_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    announce: Announce = lambda message: None,
) -> dict[str, list[Scores]]:
    """Let every system learn k components from the same images, and score it on unseen ones.

    Writes to OUTPUT: related.md and .html (the table), related.csv (a row for each system and seed), parts.png
    (components of each), parts/ (all components), and related.json, from which the same call goes on where it was
    stopped. Where models for groups of these images come with the library, their rows stand in a table of their own.

    Arguments:
        dataset: as for ``load_dataset``.
        output: a folder for the results.
        k: components, at most as many as pixels and images.
        systems: names of ``SYSTEMS``.
        seeds: of what a system draws.
        train_images, test_images: how many images are learnt from, and scored on, at most; drawn at random, once.
        data_dir: as in ``load_dataset``.
        device: where to compute.
        announce: told what is about to be done, and which system diverged.

    Returns:
        System -> the scores of ``scores_of`` and ``seconds`` of learning, for each seed with which it did not diverge.

    Raises:
        TypeError, ValueError: an argument is not as above.
        RunFolderError: OUTPUT holds measurements of something else, or damaged ones; or every system diverged.
    """
    output = Path(output)
    systems = check_names("systems", systems, SYSTEMS, "system")
    seeds = list(dict.fromkeys(check_counts("seeds", seeds)))  # each once
    k = check_count("k", k, at_least=1)
    check_count("train_images", train_images, at_least=1)
    check_count("test_images", test_images, at_least=1)
    check_folder(output)
    split = load_dataset(dataset, data_dir=data_dir)
    images = DataSplit(_some(split.train, train_images, device), _some(split.test, test_images, device))
    _check_k(k, images.train)
    settings = {
        "dataset": absolute_dataset(dataset),
        "k": k,
        "train_images": len(images.train),
        "test_images": len(images.test),
        "images": fingerprint(split),
    }
    kept = Kept(output, settings, (k, math.prod(images.train.image_shape)))
    for name in systems:
        kept.check(name, seeds)
    _measure_missing(kept, systems, seeds, images, k, announce)
    rows = {name: [s for seed in seeds if (s := kept.scores(name, seed)) is not None] for name in systems}
    rows = {name: scores for name, scores in rows.items() if scores}
    if not rows:
        raise RunFolderError(f"{output}: every system diverged (what was announced says how)")
    write_related(
        output,
        settings,
        {SYSTEMS[name].label: scores for name, scores in rows.items()},
        {SYSTEMS[n].label: kept.components(n, seeds[0]) for n in rows if kept.scores(n, seeds[0]) is not None},
        images.train.image_shape,
        group_rows(dataset, split.test, device),
    )
    return rows


def _measure_missing(
    kept: Kept, systems: Sequence[str], seeds: Sequence[int], images: DataSplit, k: int, announce: Announce
) -> None:
    """All systems with one seed before the next seed: if interrupted, there is something to compare."""
    missing = [(name, seed) for seed in seeds for name in systems if kept.scores(name, seed) is None]
    progress = Progress(len(missing), announce)
    for name, seed in missing:
        progress.begin(f"measuring {SYSTEMS[name].label}, seed {seed}")
        try:
            kept.add(name, seed, *_measured(name, images, k, seed))
        except DivergenceError as error:  # the others go on, and the table has fewer seeds for this one
            announce(f"{SYSTEMS[name].label}, seed {seed}: {error}")


def _some(images: ImageSet, count: int, device: torch.device | str) -> ImageSet:
    """So many of the images at random, or all of them, on a device."""
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(CHOICE_SEED))[:count].sort().values
    its = images.subset(chosen)
    return ImageSet(its.name, its.images.to(device), None if its.labels is None else its.labels.to(device))


def _check_k(k: int, images: ImageSet) -> None:
    height, width = images.image_shape
    most = min(len(images), height * width)
    if k > most:
        raise ValueError(
            f"k: expected at most {most}, the smaller of {len(images)} images and {height * width} pixels; got {k}"
        )


def _measured(name: str, images: DataSplit, k: int, seed: int) -> tuple[Scores, Tensor]:
    """The scores of a system, and its components (k, n), those first that say most of the images it has learnt from."""
    X = samples_of(images.train)
    begun = now(X.device)
    system = SYSTEMS[name].fit(X, k, seed)
    seconds = now(X.device) - begun
    scores = scores_of(system, images.train, images.test)
    with torch.no_grad():
        said = system.encode(X).norm(dim=0) * system.components.norm(dim=1)  # (k,)
    return {**scores, "seconds": seconds}, system.components[said.argsort(descending=True)]
