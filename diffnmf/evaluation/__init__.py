"""Groups in, numbers out: scores of trained models and of classical methods on unseen groups."""

from diffnmf.evaluation.protocols import Factorizer, run_protocols
from diffnmf.evaluation.rivals import score_rivals
from diffnmf.evaluation.scoring import score_generator

__all__ = ["Factorizer", "run_protocols", "score_generator", "score_rivals"]
