"""From a configuration to a trained model with its scores beside those of its rivals."""

from diffnmf.evaluation.experiment import ExperimentResult, resume_experiment, run_experiment
from diffnmf.evaluation.held_out import score_generator, score_rivals
from diffnmf.evaluation.own_images import GroupFactors, factorize_images
from diffnmf.evaluation.tables import metrics_table
from diffnmf.evaluation.trained_run import describe_run, evaluate_run

__all__ = [
    "ExperimentResult",
    "GroupFactors",
    "describe_run",
    "evaluate_run",
    "factorize_images",
    "metrics_table",
    "resume_experiment",
    "run_experiment",
    "score_generator",
    "score_rivals",
]
