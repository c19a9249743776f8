"""The classical methods as the GAN-UNET paper used them."""

from typing import Any

from diffnmf.factorization.anls import ANLS
from diffnmf.factorization.multiplicative import MU
from diffnmf.factorization.published_hals import PublishedHALS

# Keyword arguments of ``factorize``. The start is as bright as the numbers of a random generator, not as the data, and
# the published HALS never recovers from that: in float64 about a third of the components stays dead.
PAPER: dict[str, dict[str, Any]] = {
    "mu": {"method": MU(), "init": "uniform", "max_iter": 200, "tol": 0.0},
    "anls": {"method": ANLS(), "init": "uniform", "max_iter": 100, "tol": 0.0},
    "hals": {"method": PublishedHALS(), "init": "uniform", "max_iter": 100, "tol": 0.0},
}
