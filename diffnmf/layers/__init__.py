"""The solvers as ``torch.nn.Module`` layers."""

from diffnmf.layers.nnls_layer import NNLSLayer

__all__ = ["NNLSLayer"]
