"""
Parts of digits
===============

``diffnmf.NMF`` is an estimator of scikit-learn. Fitted to images it finds parts: every image is a sum of them.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from diffnmf import NMF

X = load_digits().data / 16  # (1797, 64): images of 8 × 8 pixels in rows

# %%
# The weights of the samples are solved for exactly, in ``fit_transform`` and for new samples in ``transform``.

model = NMF(n_components=12, random_state=0, tol=1e-3, max_iter=1000)
weights = model.fit_transform(X)  # (1797, 12)
print(f"{model.n_iter_} iterations, relative error {model.errors_[-1]:.3f}")

# %%
# One digit, the three parts that hold most of it, and all of them together.

sample = 10
order = (weights[sample] * model.components_.sum(axis=1)).argsort()[::-1]
pictures = [X[sample], *model.components_[order[:3]], weights[sample] @ model.components_]
titles = ["digit", "first part", "second", "third", "sum of all"]
figure, axes = plt.subplots(1, 5, figsize=(9, 2.2), layout="constrained")
for panel, picture, title in zip(axes, pictures, titles, strict=True):
    panel.imshow(picture.reshape(8, 8), cmap="gray_r")
    panel.set_title(title)
    panel.axis("off")

# %%
# All twelve parts.

figure, axes = plt.subplots(2, 6, figsize=(9, 3.2), layout="constrained")
for panel, part in zip(axes.flat, model.components_, strict=True):
    panel.imshow(part.reshape(8, 8), cmap="gray_r")
    panel.axis("off")
plt.show()
