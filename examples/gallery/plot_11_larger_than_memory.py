"""
A matrix larger than memory
===========================

``Blocks`` reads a matrix from a file, block by block, with the memory that you allow. The factors are those that the
matrix has in memory, to rounding; in float32 the run may stop at another check, at nearly the same error.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone

from diffnmf import NMF, Blocks

# %%
# A file of 16 megabytes, and 4 to work with. A real one would be as much larger than the memory of the machine.

random = np.random.default_rng(0)
X = random.gamma(0.5, size=(20000, 4)) @ random.gamma(0.5, size=(4, 200))
X = (X * random.uniform(0.9, 1.1, size=X.shape)).astype(np.float32)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "matrix.npy"
    np.save(file, X)
    blocks = NMF(n_components=4, init="merge", tol=1e-3, max_iter=100).fit(Blocks(file, max_memory=4e6))
print(f"in blocks: {blocks.n_iter_} iterations, relative error {blocks.errors_[-1]:.4f}")

# %%
# The same in memory, for comparison.

memory = clone(blocks).fit(X)
print(f"in memory: {memory.n_iter_} iterations, relative error {memory.errors_[-1]:.4f}")
difference = np.abs(np.asarray(blocks.components_) - np.asarray(memory.components_)).max()
print(f"largest difference of the components: {difference / np.abs(memory.components_).max():.1e}")

# %%
# The errors of both, iteration by iteration.

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.semilogy(memory.errors_, linewidth=4, alpha=0.5, label="in memory")
axes.semilogy(blocks.errors_, linestyle="--", color="black", label="in blocks")
axes.set(xlabel="iteration", ylabel="relative error")
axes.legend()
plt.show()
