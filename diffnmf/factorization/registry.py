"""The methods by name."""

from diffnmf.checks import check_instance
from diffnmf.factorization.anls import ANLS
from diffnmf.factorization.base import Method
from diffnmf.factorization.hals import HALS
from diffnmf.factorization.merging import Merge
from diffnmf.factorization.multiplicative import MU
from diffnmf.factorization.published_hals import PublishedHALS
from diffnmf.factorization.spa import SPA
from diffnmf.factorization.unit_columns import UnitColumns

METHODS: dict[str, type[Method]] = {
    "anls": ANLS,
    "mu": MU,
    "hals": HALS,
    "unit_columns": UnitColumns,
    "published_hals": PublishedHALS,
    "merge": Merge,
    "spa": SPA,
}


def get_method(method: str | Method) -> Method:
    """The method of that name with its default options, or the instance itself.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: neither a name nor an instance.
    """
    return check_instance("method", method, Method, METHODS)  # type: ignore[type-abstract]
