"""From a configuration to a trained model with its scores beside those of its rivals."""

from diffnmf.evaluation.experiment import ExperimentResult, resume_experiment, run_experiment
from diffnmf.evaluation.held_out import score_generator, score_rivals
from diffnmf.evaluation.tables import metrics_table

__all__ = [
    "ExperimentResult",
    "metrics_table",
    "resume_experiment",
    "run_experiment",
    "score_generator",
    "score_rivals",
]
