"""
Choosing the number of components
=================================

Two questions help. Does another component predict entries that were hidden from the fit? And are the components the
same from every start? Here the answer is known: the data are made of five parts.
"""

import matplotlib.pyplot as plt
import numpy as np

from diffnmf.factorization import consensus_curve, cross_validate_rank

random = np.random.default_rng(0)
parts = random.gamma(0.5, size=(60, 5))
Y = parts @ random.gamma(0.5, size=(5, 80))  # (60, 80), a sample in each column
Y *= random.uniform(0.8, 1.2, size=Y.shape)

# %%
# ``cross_validate_rank`` hides a fifth of the entries at a time and measures the error there. ``consensus_curve`` fits
# from many random starts and matches their components: a stability of one says that all starts agree.

ks = range(2, 9)
hidden = cross_validate_rank(Y, ks)
agreed = consensus_curve(Y, ks, n_init=10, tol=1e-3, max_iter=1000)
print(f"hidden entries are predicted best by k = {int(hidden.best)}")
for k, least in zip(ks, agreed.least, strict=True):
    print(f"k = {k}: stability of the least stable component {least:.2f}")

# %%
# At five the error on hidden entries is lowest, and all starts find the same. With more, some component is another one
# from every start.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(ks, hidden.mean, marker="o")
left.set(xlabel="components", ylabel="relative error on hidden entries")
right.plot(ks, agreed.stability, marker="o", label="mean of the components")
right.plot(ks, agreed.least, marker="o", label="least stable one")
right.set(xlabel="components", ylabel="stability")
right.legend()
plt.show()
