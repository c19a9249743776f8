"""diffnmf: non-negative factorisation inside neural networks.

``diffnmf.nnls`` and ``diffnmf.layers.NNLSLayer`` solve batches of non-negative least-squares problems exactly and
differentiably. On them stand the GAN-UNET model, classical NMF and the evaluation that compares them.
"""

from diffnmf.solvers import NNLSSolution, nnls

__version__ = "0.1.0"

__all__ = ["NNLSSolution", "__version__", "nnls"]
