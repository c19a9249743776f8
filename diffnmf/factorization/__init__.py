"""Classical factorisations on batches of matrices."""

from diffnmf.factorization.anls import Factors, anls
from diffnmf.factorization.spa import spa
from diffnmf.factorization.truncated_svd import truncated_svd

__all__ = ["Factors", "anls", "spa", "truncated_svd"]
