"""
Sparse coding of image patches
==============================

Every patch of a photograph is to be a sum of few atoms of a dictionary. Two things are wanted then, small errors and
few atoms, and ``l1`` says how much the second counts: the codes are the exact minimum of ½‖x − Hw‖² + l1 Σw over w ≥ 0.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from diffnmf import NNLSLayer
from diffnmf.figures.montages import image_grid
from diffnmf.metrics import relative_error
from diffnmf.solvers import largest_useful_l1

# %%
# Patches of 8 × 8 pixels from the two photographs that scikit-learn ships. The mean of a patch is its brightness, which
# tells nothing about its shape: it is taken off. What is left has any sign, and so has H; only the codes are ≥ 0.

photographs = [photograph.mean(axis=2) / 255 for photograph in load_sample_images().images]
patches = np.concatenate([extract_patches_2d(p, (8, 8), max_patches=8000, random_state=0) for p in photographs])
X = torch.tensor(patches, dtype=torch.float32).flatten(1)  # (16000, 64), samples in rows
X = X - X.mean(dim=1, keepdim=True)
X = X[X.std(dim=1) > 0.05]  # no sky
X = X[torch.randperm(len(X), generator=torch.Generator().manual_seed(0))]
X = X / X.norm(dim=1).mean()
train, unseen = X[:-1000], X[-1000:]

# %%
# The dictionary of 64 atoms begins as random patches. Its columns are kept at length one: otherwise H would grow, the
# codes shrink, and the penalty would be escaped. The loss is the very objective whose minimum the codes are, so nothing
# of its gradient goes through them, and ``backward="detached"`` saves that way. Any other loss needs the default.


def learn(l1: float, steps: int = 250) -> torch.Tensor:
    H = torch.nn.Parameter(torch.nn.functional.normalize(train[:64].T.clone(), dim=0))  # (64 pixels, 64 atoms)
    layer = NNLSLayer(rows=True, l1=l1, backward="detached")
    optimizer = torch.optim.Adam([H], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = train[torch.randint(len(train), (256,), generator=generator)]
        codes = layer(H, batch)  # (256, 64)
        loss = 0.5 * (batch - codes @ H.T).square().sum(dim=1).mean() + l1 * codes.sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        H.data = torch.nn.functional.normalize(H.data, dim=0)
    return H.detach()


# %%
# From ``largest_useful_l1`` on every code is zero; useful values are a small part of it. A penalty makes codes not only
# few but also too small. ``allowed`` takes that back: it solves again, without l1, for the atoms that were chosen.

penalties = (0.0, 0.05, 0.2)
print(f"every code is zero from l1 = {largest_useful_l1(train[:64].T, train.T):.1f} on")
dictionaries = {l1: learn(l1) for l1 in penalties}
for l1, H in dictionaries.items():
    codes = NNLSLayer(rows=True, l1=l1)(H, unseen)
    again = NNLSLayer(rows=True)(H, unseen, allowed=codes > 0)
    atoms, errors = (codes > 0).sum(dim=1).double().mean(), [relative_error(unseen, W @ H.T) for W in (codes, again)]
    print(f"l1 = {l1:.2f}: {atoms:4.1f} atoms a patch, relative error {errors[0]:.3f}, solved again {errors[1]:.3f}")

# %%
# Without the penalty any dictionary that spans all patches is as good as another, and this one shows nothing. With it
# the atoms are edges and stripes, each at a place and of a width and direction of its own.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
for panel, l1 in zip(axes, penalties, strict=True):
    atoms = dictionaries[l1] / dictionaries[l1].abs().amax(dim=0)
    panel.imshow(image_grid(0.5 + 0.5 * atoms, (8, 8), columns_per_row=8, vmax=1, separator=1), cmap="gray", vmin=0)
    panel.set_title(f"l1 = {l1:g}")
    panel.axis("off")

# %%
# The patch with the most contrast, what its code makes of it, and the atoms of that code, the largest first.

H = dictionaries[0.2]
patch = unseen[unseen.norm(dim=1).argmax()]
codes = NNLSLayer(rows=True, l1=0.2)(H, patch[None])[0]
order = codes.argsort(descending=True)[: min(6, int((codes > 0).sum()))]
pictures = {"patch": patch, "sum": H @ codes} | {f"{codes[i]:.1f} ×": H[:, i] for i in order}
figure, axes = plt.subplots(1, len(pictures), figsize=(9, 1.8), layout="constrained")
for panel, (title, picture) in zip(axes, pictures.items(), strict=True):
    panel.imshow(picture.reshape(8, 8).numpy(), cmap="gray")
    panel.set_title(title)
    panel.axis("off")
plt.show()
