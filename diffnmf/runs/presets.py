"""Runs to start from; every option of them can be given otherwise."""

from diffnmf.runs.config import DataConfig, ModelConfig, RunConfig
from diffnmf.training import TrainingConfig

# Correct merging towards a sparser H. With this weight the error, too, ends below that of merging, on MNIST and on
# Fashion-MNIST; with 0.25 it ends 65 % above it on the latter (see docs/results/from_merging.md).
FROM_MERGING = {
    "basis_init": "merge",
    "reconstruction": "relative",
    "sparsity": 0.05,
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
