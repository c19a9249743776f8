"""What all parts of a reproduction share: groups, trained networks, records."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.data import GroupSampler, ImageSet, group_matrix, load_dataset
from diffnmf.evaluation import Factorizer, run_protocols
from diffnmf.evaluation.protocols import PROTOCOLS
from diffnmf.evaluation.rivals import CLASSICAL, WITHOUT_CHANCE, classical
from diffnmf.models import GANUNMF
from diffnmf.studies.library import ModelLibrary
from diffnmf.studies.measured import check_scores
from diffnmf.studies.paper.records import Record, Records
from diffnmf.studies.paper.study import Study
from diffnmf.studies.progress import Announce

BySeed = dict[int, Record]
GROUPS_SEED = 1_000_000  # not the seed of any training, so that no group that is scored was trained on


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups that scores are means of.

    Attributes:
        train: (G, n, m), of training images.
        test: (G, n, m), of test images.
        image_shape: (h, w), h·w = n.
    """

    train: Tensor
    test: Tensor
    image_shape: tuple[int, int]


class Workbench:
    """Groups, trained networks and records of one reproduction, each made once.

    Arguments:
        study: what is measured.
        output: the folder of the reproduction.
        data_dir: as in ``run_experiment``.
        device: where to compute.
        announce: told what is about to be done.
        measure: False reads what exists, and neither trains nor measures.
    """

    def __init__(
        self,
        study: Study,
        output: Path,
        *,
        data_dir: str | Path | None,
        device: torch.device | str,
        announce: Announce,
        measure: bool,
    ) -> None:
        self.study, self.output, self.data_dir, self.device = study, output, data_dir, device
        self.records = Records(output / "records", measure=measure, begin=announce, device=device)
        self.library = ModelLibrary(output / "runs", data_dir=data_dir, device=device, announce=announce, train=measure)
        self._groups: dict[tuple[object, ...], Groups] = {}

    def allow_measuring(self, allowed: bool) -> None:
        """Whether models and records that are missing are trained and measured when asked for, or left out."""
        self.records.measure = self.library.train = allowed

    def groups(self, dataset: str, m: int | None = None, order: str | None = None, count: int | None = None) -> Groups:
        """Groups of a data set, from as many epochs as needed; m, order and count are those of the study by default."""
        m, order = m or self.study.config.data.group_size, order or self.study.config.data.order
        count = count or self.study.fewer_groups.get(dataset, self.study.groups)
        key = (dataset, m, order, count)
        if key not in self._groups:
            split = load_dataset(dataset, data_dir=self.data_dir)
            train, test = (self._matrices(images, m, order, count) for images in (split.train, split.test))
            self._groups[key] = Groups(train, test, split.train.image_shape)
        return self._groups[key]

    def _matrices(self, images: ImageSet, m: int, order: str, count: int) -> Tensor:
        images = replace(images, images=images.images.to(self.device))
        sampler = GroupSampler(images, m, order=order, seed=GROUPS_SEED)
        epochs = -(-count // len(sampler))
        groups = torch.cat([sampler.epoch(epoch) for epoch in range(epochs)])[:count]
        return group_matrix(images, groups.to(self.device))

    def model(self, dataset: str, k: int, row: str, seed: int, tag: str = "", **options: Any) -> GANUNMF | None:
        """The network of a row, trained first where it is missing; None if that is not possible."""
        path = self._run(dataset, k, row, seed, tag, options)
        return None if path is None else GANUNMF.load(path, weights="generator", device=self.device)

    def _run(self, dataset: str, k: int, row: str, seed: int, tag: str, options: dict[str, Any]) -> Path | None:
        """The run of a row. If it starts from another row, that one is trained first, with the same options."""
        config = self.study.run_config(dataset, k, row, seed, **options)
        if (start := config.model.start_from) is not None:
            path = self._run(dataset, k, start, seed, tag, options)
            if path is None:
                return None
            config = config.with_options(start_from=str(path.resolve()))
        return self.library.run(slug(f"{dataset}-k{k}-{row}{tag}-seed{seed}"), config)

    def row_scores(self, dataset: str, k: int, row: str, seed: int) -> Record | None:
        """The protocols of a row of Table 1; rows whose result does not depend on the seed have only the first."""
        if row not in CLASSICAL:
            return self.network_scores(dataset, k, row, seed)
        seed = self.study.seeds[0] if row in WITHOUT_CHANCE else seed
        return self.protocols(f"{dataset}-k{k}-{row}-seed{seed}", dataset, lambda: classical(row, k, seed))

    def network_scores(self, dataset: str, k: int, row: str, seed: int, tag: str = "", **options: Any) -> Record | None:
        """The protocols of a network."""
        name = f"{dataset}-k{k}-{row}{tag}-seed{seed}"
        return self.protocols(name, dataset, lambda: network(self.model(dataset, k, row, seed, tag, **options)))

    def scores(self, dataset: str, k: int, row: str) -> BySeed:
        """The records of a row of Table 1 that exist, by seed."""
        seeds = self.study.seeds[:1] if row in WITHOUT_CHANCE else self.study.seeds
        return by_seed(seeds, lambda seed: self.row_scores(dataset, k, row, seed))

    def protocols(self, name: str, dataset: str, factorizer: Callable[[], Factorizer | None]) -> Record | None:
        """The record of that name: scores under all protocols on a data set.

        Arguments:
            name: of the record.
            dataset: whose groups are scored.
            factorizer: called only when the record is missing; None if it cannot be made.
        """

        def compute() -> Record | None:
            made = factorizer()
            if made is None:
                return None
            groups = self.groups(dataset)
            return run_protocols(made, groups.train, groups.test)

        return self.records.get(slug(name), compute, _check_protocols)


def _check_protocols(record: Record) -> None:
    for protocol in PROTOCOLS:
        check_scores(record[protocol], ("column_error",))  # older files lack others


def by_seed(seeds: Iterable[int], get: Callable[[int], Record | None]) -> BySeed:
    """The records that exist, by seed."""
    found = {seed: get(seed) for seed in seeds}
    return {seed: record for seed, record in found.items() if record is not None}


def network(model: GANUNMF | None) -> Factorizer | None:
    """A trained network as a ``Factorizer``; None for None."""
    if model is None:
        return None

    def run(Y: Tensor) -> tuple[Tensor, Tensor]:
        H, W, _ = model.factorize(Y)
        return H, W

    return Factorizer(run)


def slug(name: str) -> str:
    """The name as part of a file name: lower case, other characters than letters and digits as dashes."""
    return re.sub(r"[^a-z0-9._]+", "-", name.lower())
