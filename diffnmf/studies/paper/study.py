"""What a reproduction measures, and how long it trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffnmf.checks import check_count, check_counts, check_name, check_names, set_fields
from diffnmf.data import DATASETS
from diffnmf.runs import DataConfig, ModelConfig, RunConfig
from diffnmf.runs.presets import FROM_MERGING
from diffnmf.training import TrainingConfig

FC, NNLS, MIXTURE = "GAN-UNET, fc", "GAN-UNET, NNLS", "GAN-UNET, NNLS, mixtures"
FROM_MERGE = "UNET, NNLS, from merging"  # not in the paper: the default of ``diffnmf train``, which has no critic
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A reproduction.

    Attributes:
        datasets: names of ``diffnmf.data.DATASETS``.
        ks: numbers of components; the first one is used for Table 2 and the figures, too.
        seeds: of starts and trainings; each seed is a run of its own.
        groups: the number of training groups, and of test groups, that every score is a mean over.
        fewer_groups: data set -> the same number, where ``groups`` are too expensive or do not exist.
        config: the options of every network, unless ``models`` or ``by_dataset`` replace them.
        models: row of Table 1 -> options of a run (see ``RunConfig.with_options``); ``start_from`` names another row.
        by_dataset: data set -> row of Table 1 -> options that differ on this data set.
        bases_dataset: the data set of Fig. 10 (faces in the paper).
        bases_m: images in a group of Fig. 10, one of each of ``bases_m`` classes.
        bases_ks: numbers of components for Fig. 10: m, as in the paper, and fewer.
        bases_groups: the number of groups that are compared with each other.
        bases_options: options of the networks of Fig. 10.
        smoke: whether the study only shows that every part runs. The report then says that its numbers mean nothing,
            and decides no claim.
    """

    datasets: tuple[str, ...]
    ks: tuple[int, ...]
    seeds: tuple[int, ...]
    groups: int
    config: RunConfig
    models: Mapping[str, Options]
    fewer_groups: Mapping[str, int] = field(default_factory=dict)
    by_dataset: Mapping[str, Mapping[str, Options]] = field(default_factory=dict)
    bases_dataset: str = "faces"
    bases_m: int = 10
    bases_ks: tuple[int, ...] = (10, 6)
    bases_groups: int = 20
    bases_options: Options = field(default_factory=dict)
    smoke: bool = False

    def __post_init__(self) -> None:
        set_fields(
            self,
            ks=tuple(dict.fromkeys(check_counts("ks", self.ks, at_least=1))),  # named twice, it is there once
            seeds=tuple(dict.fromkeys(check_counts("seeds", self.seeds))),
            groups=check_count("groups", self.groups, at_least=1),
            fewer_groups={
                dataset: check_count("fewer_groups", groups, at_least=1)
                for dataset, groups in self.fewer_groups.items()
            },
            bases_m=check_count("bases_m", self.bases_m, at_least=1),
            bases_ks=check_counts("bases_ks", self.bases_ks, at_least=1),
            bases_groups=check_count("bases_groups", self.bases_groups, at_least=1),
            datasets=check_names("datasets", self.datasets, DATASETS, "data set"),
        )
        check_name("bases_dataset", self.bases_dataset, DATASETS)
        if missing := [row for row in MODELS if row not in self.models]:
            raise ValueError(f"models: expected the rows {'; '.join(MODELS)}; got none called {missing[0]}")
        for row, options in self.models.items():
            if (start := options.get("start_from")) not in (None, *self.models):
                raise ValueError(f"models: expected start_from of {row} to be another row; got {start!r}")

    def run_config(self, dataset: str, k: int, row: str, seed: int, **options: Any) -> RunConfig:
        """The configuration of one network."""
        there = self.by_dataset.get(dataset, {}).get(row, {})
        everything = {"dataset": dataset, "k": k, "seed": seed, **self.models[row], **there, **options}
        return self.config.with_options(**everything)


# From random weights, the plain U-Net with NNLS keeps one dictionary for all groups (a column error of about 4.2 on
# MNIST), since any part may serve any image. From the U-Net of "fc", whose weights tie slots to images, the error is
# far lower.
MODELS: dict[str, Options] = {
    FC: {"w_solver": "fc"},
    NNLS: {
        "w_solver": "unrolled",
        "normalize_maps": True,
        "start_from": FC,
        "reconstruction": "column_error",
        "epochs": 3,
    },
    MIXTURE: {"w_solver": "unrolled", "mixture": True, "epochs": 2, "learning_rate": 5e-4},
    FROM_MERGE: {"w_solver": "unrolled", **FROM_MERGING, "epochs": 2},
}

STUDIES: dict[str, Study] = {
    # Every part once, in about a minute, on images that need no download: does it run? Its numbers mean nothing.
    "smoke": Study(
        datasets=("digits",),
        ks=(5,),
        seeds=(0, 1),
        groups=3,
        config=RunConfig(
            DataConfig("digits", group_size=10, limit_groups=8, limit_test_groups=2),
            ModelConfig(k=5, width=8, critic_width=8),
            TrainingConfig(epochs=1, picture_every=None),
        ),
        models={row: {**options, "epochs": 1} for row, options in MODELS.items()},
        bases_dataset="digits",
        bases_ks=(10, 6),
        bases_groups=4,
        smoke=True,
    ),
    # Sizes and epochs for two CPU cores: two hours for k = 30, and a little more than one for each of the other two k.
    "paper": Study(
        datasets=("mnist", "fashion", "faces"),
        ks=(30, 20, 10),
        seeds=(0, 1, 2),
        groups=50,
        fewer_groups={"faces": 16},
        config=RunConfig(
            DataConfig("mnist", limit_test_groups=32),
            ModelConfig(width=48, critic_width=32),
            TrainingConfig(epochs=6, learning_rate=1e-3, picture_every=None),
        ),
        models=MODELS,
        # An epoch has 8 groups of faces but 1355 of MNIST: faces need small batches and many epochs.
        by_dataset={
            "faces": {
                FC: {"batch_size": 1, "epochs": 120},
                NNLS: {"batch_size": 1, "epochs": 60},
                MIXTURE: {"batch_size": 1, "epochs": 40},
                FROM_MERGE: {"batch_size": 1, "epochs": 40},
            }
        },
        bases_options={
            "start_from": None,
            "normalize_maps": None,
            "width": 32,
            "batch_size": 1,
            "epochs": 30,
            "learning_rate": 1e-3,
        },
    ),
}
