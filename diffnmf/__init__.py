"""diffnmf: non-negative factorisation inside neural networks.

``diffnmf.nnls`` and ``diffnmf.layers.NNLSLayer`` solve batches of non-negative least-squares problems exactly and
differentiably. On them stand the GAN-UNET model, classical NMF and the evaluation that compares them.
``diffnmf.NMF`` is the scikit-learn estimator, ``diffnmf.non_negative_factorization`` the function beside it. Each name
is imported when it is first asked for: torch takes seconds, in which the command line already listens, and scikit-learn
takes more.
"""

from importlib import import_module

TYPE_CHECKING = False  # for type checkers it is True; typing itself would be one more import before Ctrl-C is heard
if TYPE_CHECKING:
    from diffnmf.factorization.estimator import NMF
    from diffnmf.factorization.nmf_function import non_negative_factorization
    from diffnmf.solvers import NNLSSolution, nnls

__version__ = "0.1.0"

__all__ = ["NMF", "NNLSSolution", "__version__", "nnls", "non_negative_factorization"]


_HOMES = {
    "NMF": "diffnmf.factorization.estimator",
    "NNLSSolution": "diffnmf.solvers",
    "nnls": "diffnmf.solvers",
    "non_negative_factorization": "diffnmf.factorization.nmf_function",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
