"""A run: its configuration, its folder, what is written while it goes on, and what it is good for afterwards.

Example:
    >>> from diffnmf.runs import PRESETS
    >>> sorted(PRESETS)
    ['default', 'paper', 'quick', 'scratch']
    >>> config = PRESETS["quick"].with_options(epochs=3)  # for ``run_experiment``
    >>> config.data.dataset, config.model.k, config.training.epochs
    ('digits', 10, 3)
"""

from diffnmf.runs.config import DataConfig, ModelConfig, RunConfig
from diffnmf.runs.description import describe_installation, describe_pretrained, describe_run
from diffnmf.runs.experiment import ExperimentResult
from diffnmf.runs.own_images import GroupFactors, factorize_images
from diffnmf.runs.presets import PRESETS
from diffnmf.runs.run import resume_experiment, run_experiment
from diffnmf.runs.run_folder import RunFolder
from diffnmf.runs.table import metrics_table
from diffnmf.runs.trained_run import evaluate_run

__all__ = [
    "PRESETS",
    "DataConfig",
    "ExperimentResult",
    "GroupFactors",
    "ModelConfig",
    "RunConfig",
    "RunFolder",
    "describe_installation",
    "describe_pretrained",
    "describe_run",
    "evaluate_run",
    "factorize_images",
    "metrics_table",
    "resume_experiment",
    "run_experiment",
]
