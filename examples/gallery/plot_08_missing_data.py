"""
Missing data
============

With ``missing="ignore"`` a NaN is an entry that is not known. It does not count, neither in the fit nor in the weights
of a sample, and ``inverse_transform`` fills it in.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits

from diffnmf import NMF

X = load_digits().data[:600] / 16  # (600, 64)
random = np.random.default_rng(0)
hidden = random.random(X.shape) < 0.4
holes = np.where(hidden, np.nan, X)  # 40 % of the pixels are gone

# %%
# The usual makeshift fills zeros in before the fit. They count as dark pixels then.

model = NMF(n_components=8, missing="ignore", tol=1e-3, max_iter=1000, random_state=0)
filled = model.inverse_transform(model.fit_transform(holes))
zeros = clone(model)
dark = zeros.inverse_transform(zeros.fit_transform(np.nan_to_num(holes)))
for name, guess in (("missing='ignore'", filled), ("zeros filled in", dark)):
    error = np.linalg.norm((guess - X)[hidden]) / np.linalg.norm(X[hidden])
    print(f"{name}: relative error on the hidden pixels {error:.3f}")

# %%
# Five digits: as they are, what was left of them, and what the two fits make of that.

figure, axes = plt.subplots(4, 5, figsize=(6, 5.2), layout="constrained")
rows = {"true": X, "known": holes, "ignore": filled, "zeros": dark}
for row, (name, images) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(name)
    for panel, image in zip(row, images, strict=False):
        panel.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[], facecolor="tab:orange")
plt.show()
