"""From a configuration to a trained model with its scores beside those of its rivals."""

from diffnmf.evaluation.comparison import compare_runs, compare_w_solvers
from diffnmf.evaluation.experiment import ExperimentResult, resume_experiment, run_experiment
from diffnmf.evaluation.held_out import score_generator, score_rivals
from diffnmf.evaluation.own_images import GroupFactors, factorize_images
from diffnmf.evaluation.protocols import Factorizer, run_protocols
from diffnmf.evaluation.reproduction.reproduce import reproduce
from diffnmf.evaluation.reproduction.study import STUDIES, Study
from diffnmf.evaluation.tables import metrics_table
from diffnmf.evaluation.trained_run import describe_run, evaluate_run

__all__ = [
    "STUDIES",
    "ExperimentResult",
    "Factorizer",
    "GroupFactors",
    "Study",
    "compare_runs",
    "compare_w_solvers",
    "describe_run",
    "evaluate_run",
    "factorize_images",
    "metrics_table",
    "reproduce",
    "resume_experiment",
    "run_experiment",
    "run_protocols",
    "score_generator",
    "score_rivals",
]
