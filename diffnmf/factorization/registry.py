"""The methods by name."""

from diffnmf.errors import unknown_name
from diffnmf.factorization.anls import ANLS
from diffnmf.factorization.base import Method
from diffnmf.factorization.hals import HALS
from diffnmf.factorization.multiplicative import MU
from diffnmf.factorization.separable import SPA

METHODS: dict[str, type[Method]] = {"anls": ANLS, "mu": MU, "hals": HALS, "spa": SPA}


def get_method(method: str | Method) -> Method:
    """The method of that name with its default options, or the instance itself.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: neither a name nor an instance.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        return METHODS[method]()
    raise TypeError(f"method: expected a name ({', '.join(METHODS)}) or a method instance; got {method!r}")
