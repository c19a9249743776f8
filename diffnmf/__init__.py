"""diffnmf: non-negative factorisation inside neural networks.

``diffnmf.nnls`` and ``diffnmf.layers.NNLSLayer`` solve batches of non-negative least-squares problems exactly and
differentiably. On them stand the GAN-UNET model, classical NMF and the evaluation that compares them.
``diffnmf.NMF`` is the scikit-learn estimator; scikit-learn is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from diffnmf.solvers import NNLSSolution, nnls

if TYPE_CHECKING:
    from diffnmf.factorization.estimator import NMF

__version__ = "0.1.0"

__all__ = ["NMF", "NNLSSolution", "__version__", "nnls"]


def __getattr__(name: str) -> object:
    if name == "NMF":
        from diffnmf.factorization.estimator import NMF

        globals()["NMF"] = NMF  # found at once from now on
        return NMF
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
