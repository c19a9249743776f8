"""What a reproduction measures, and with how much effort."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffnmf.training import DataConfig, ModelConfig, RunConfig, TrainingConfig

FC, NNLS, MIXTURE = "GAN-UNET, fc", "GAN-UNET, NNLS", "GAN-UNET, NNLS, mixtures"
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A reproduction.

    Attributes:
        datasets: names of ``diffnmf.data.DATASETS``.
        ks: components; the first one is that of the paper's Table 1, of Table 2 and of the figures.
        seeds: of starts and trainings; each is a run of its own.
        groups: groups that every score is a mean of, of training and of test images.
        config: the training of every network, but for the options below.
        models: row of Table 1 -> options of a run (see ``RunConfig.with_options``).
        by_dataset: data set -> options of a run.
        bases_dataset: the data set of Fig. 10 (the paper: faces), in groups of an image of each of ``bases_m`` classes.
        bases_m: images in such a group.
        bases_ks: components; m, as in the paper, and fewer.
        bases_groups: groups that are compared with each other.
        bases_options: options of those runs.
    """

    datasets: tuple[str, ...]
    ks: tuple[int, ...]
    seeds: tuple[int, ...]
    groups: int
    config: RunConfig
    models: Mapping[str, Options]
    by_dataset: Mapping[str, Options] = field(default_factory=dict)
    bases_dataset: str = "faces"
    bases_m: int = 10
    bases_ks: tuple[int, ...] = (10, 6)
    bases_groups: int = 20
    bases_options: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("datasets", "ks", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: expected at least one; got none")
        if self.groups < 1:
            raise ValueError(f"groups: expected an int ≥ 1; got {self.groups}")

    def run_config(self, dataset: str, k: int, row: str, seed: int, **options: Any) -> RunConfig:
        """The configuration of one network."""
        everything = {"dataset": dataset, "k": k, **self.by_dataset.get(dataset, {}), **self.models[row], "seed": seed}
        return self.config.with_options(**{**everything, **options})


STUDIES: dict[str, Study] = {
    # Everything once, in about a minute and on images that need no download: does it run? Its numbers mean nothing.
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
        models={
            FC: {"w_solver": "fc"},
            NNLS: {"w_solver": "unrolled"},
            MIXTURE: {"w_solver": "unrolled", "mixture": True},
        },
        bases_dataset="digits",
        bases_ks=(10, 6),
        bases_groups=4,
    ),
    "paper": Study(
        datasets=("mnist", "fashion", "faces"),
        ks=(30, 20, 10),
        seeds=(0, 1, 2),
        groups=50,
        config=RunConfig(
            DataConfig("mnist", limit_test_groups=64),
            ModelConfig(),
            TrainingConfig(picture_every=None),
        ),
        models={
            FC: {"w_solver": "fc"},
            NNLS: {"w_solver": "unrolled"},
            MIXTURE: {"w_solver": "unrolled", "mixture": True},
        },
        by_dataset={"faces": {"epochs": 200}},
        bases_options={"epochs": 100},
    ),
}
