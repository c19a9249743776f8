"""Runs to start from; every option of them can be given otherwise."""

from pathlib import Path

from diffnmf.checks import check_name
from diffnmf.runs.config import DataConfig, ModelConfig, RunConfig
from diffnmf.training import TrainingConfig

# Correct merging towards a sparser H. The weight counts in units of the squared error of merging, so that it means the
# same on all images: the error ends below that of merging, or at most 1 % above it (see docs/results/from_merging.md).
FROM_MERGING = {
    "basis_init": "merge",
    "reconstruction": "relative_to_start",
    "sparsity": 1.0,
    "adversarial": False,
    "learning_rate": 3e-3,
}

PRESETS = {
    # Under a minute on two CPU cores, with images that need no download.
    "quick": RunConfig(DataConfig("digits"), ModelConfig(k=10), TrainingConfig(epochs=60)),
    # MNIST in about two minutes on one CPU core.
    "default": RunConfig().with_options(**FROM_MERGING, epochs=2),
    # U-Net, NNLS and critic from random weights: MNIST in about ten minutes on two CPU cores.
    "scratch": RunConfig(),
    # The paper's own model, GAN-UNET with fully connected weights, for as long as its curves still move; for a GPU.
    "paper": RunConfig(
        DataConfig("mnist"),
        ModelConfig(k=30, w_solver="fc"),
        TrainingConfig(epochs=200, batch_size=16, constant_share=0.5, checkpoint_every=200),
    ),
}


def preset_with(name: str, file: Path | None = None) -> RunConfig:
    """A preset, with a configuration in YAML laid over it.

    Raises:
        ValueError: there is no preset of that name.
        RunFolderError: as ``RunConfig.from_yaml``.
    """
    preset = PRESETS[check_name("preset", name, PRESETS)]
    return preset if file is None else RunConfig.from_yaml(file, preset)
