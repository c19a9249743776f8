"""diffnmf: non-negative factorisation inside neural networks.

- ``NNLSLayer``: batches of non-negative least-squares problems as a layer, exact and differentiable, with masks,
  weights, sums and bounds. ``nnls`` is the same as a function with diagnostics, ``nnls_gram`` takes HᵀH and HᵀY.
- ``NNLSCoder``: a layer that learns its dictionary.
- ``NMF``: the scikit-learn estimator, with ``non_negative_factorization`` beside it. ``MiniBatchNMF``: for many
  samples, and streams of them. ``factorize``: batches. ``Blocks``: matrices larger than memory.
- ``diffnmf.models``: GAN-UNET. ``diffnmf.autoencoders``: systems of the related work.
- ``diffnmf.metrics``, ``diffnmf.evaluation``: what tells factorisations apart.

Each name is imported when it is first asked for: torch takes seconds, in which the command line already listens, and
scikit-learn takes more. ``help(diffnmf.nnls)`` explains the problem and every constraint.

Example:
    >>> import torch, diffnmf
    >>> H, Y = torch.rand(8, 784, 30, requires_grad=True), torch.rand(8, 784, 40)
    >>> solution = diffnmf.nnls(H, Y)
    >>> solution.W.shape, bool(solution.converged.all())
    (torch.Size([8, 30, 40]), True)
    >>> len(diffnmf.__version__.split("."))
    3
"""

from importlib import import_module

from diffnmf.version import __version__

TYPE_CHECKING = False  # for type checkers it is True; typing itself would be one more import before Ctrl-C is heard
if TYPE_CHECKING:
    from diffnmf.factorization.estimator import NMF
    from diffnmf.factorization.factorize import factorize
    from diffnmf.factorization.large.blocks import Blocks
    from diffnmf.factorization.mini_batch import MiniBatchNMF
    from diffnmf.factorization.nmf_function import non_negative_factorization
    from diffnmf.layers import NNLSLayer
    from diffnmf.models.coder import NNLSCoder
    from diffnmf.solvers import NNLSSolution, nnls, nnls_gram

__all__ = [
    "NMF",
    "Blocks",
    "MiniBatchNMF",
    "NNLSCoder",
    "NNLSLayer",
    "NNLSSolution",
    "__version__",
    "factorize",
    "nnls",
    "nnls_gram",
    "non_negative_factorization",
]


_HOMES = {
    "Blocks": "diffnmf.factorization.large.blocks",
    "MiniBatchNMF": "diffnmf.factorization.mini_batch",
    "NMF": "diffnmf.factorization.estimator",
    "NNLSCoder": "diffnmf.models.coder",
    "NNLSLayer": "diffnmf.layers",
    "NNLSSolution": "diffnmf.solvers",
    "factorize": "diffnmf.factorization.factorize",
    "nnls": "diffnmf.solvers",
    "nnls_gram": "diffnmf.solvers",
    "non_negative_factorization": "diffnmf.factorization.nmf_function",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:  # in an installation without dependencies
        package = str(error.name).partition(".")[0]
        package = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}.get(package, package)
        raise ImportError(f"diffnmf.{name} needs a package that is not installed: pip install {package}") from error
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
