"""The kernels in Triton for CUDA: Gram form, search for the free set, systems on it, gradients.

Triton is imported by ``programs`` alone, which is imported when a CUDA tensor comes.
"""
