"""Classical factorisations on batches of matrices.

Example:
    >>> import torch
    >>> from diffnmf.factorization import METHODS, PAPER, factorize
    >>> Y = torch.rand(10, 64, 20)
    >>> sorted(METHODS)
    ['anls', 'hals', 'merge', 'mu', 'published_hals', 'spa', 'unit_columns']
    >>> factorize(Y, 3, method="merge").errors[-1].shape  # an error for each of ten
    torch.Size([10])
    >>> sorted(PAPER), factorize(Y, 3, **PAPER["mu"]).errors.shape
    (['anls', 'hals', 'mu'], torch.Size([201, 10]))
"""

from diffnmf.factorization.anls import ANLS
from diffnmf.factorization.base import Method
from diffnmf.factorization.canonical import canonicalize, move_prototypes
from diffnmf.factorization.consensus import Consensus, ConsensusScores, consensus, consensus_curve
from diffnmf.factorization.factorize import Factors, factorize
from diffnmf.factorization.hals import HALS
from diffnmf.factorization.initialization import initialize
from diffnmf.factorization.large.blocks import Blocks
from diffnmf.factorization.merging import Merge, merge
from diffnmf.factorization.multiplicative import MU
from diffnmf.factorization.paper import PAPER
from diffnmf.factorization.published_hals import PublishedHALS
from diffnmf.factorization.rank_selection import RankScores, cross_validate_rank, svd_curve
from diffnmf.factorization.registry import METHODS
from diffnmf.factorization.replicates import Replicates, replicate
from diffnmf.factorization.slots import match_slots, slot_prototypes, take_slots
from diffnmf.factorization.spa import SPA, spa
from diffnmf.factorization.svd import truncated_svd
from diffnmf.factorization.unit_columns import UnitColumns

__all__ = [
    "ANLS",
    "HALS",
    "METHODS",
    "MU",
    "PAPER",
    "SPA",
    "Blocks",
    "Consensus",
    "ConsensusScores",
    "Factors",
    "Merge",
    "Method",
    "PublishedHALS",
    "RankScores",
    "Replicates",
    "UnitColumns",
    "canonicalize",
    "consensus",
    "consensus_curve",
    "cross_validate_rank",
    "factorize",
    "initialize",
    "match_slots",
    "merge",
    "move_prototypes",
    "replicate",
    "slot_prototypes",
    "spa",
    "svd_curve",
    "take_slots",
    "truncated_svd",
]
