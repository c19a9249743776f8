"""
Deep NMF of strokes, signs and digits
=====================================

X ≈ S₀A₀, S₀ ≈ S₁A₁: the codes of the fine level are the samples of the coarse one. ``DeepNMF`` solves for the codes of
both exactly, and learns A₀ and A₁ together by the gradient through the solutions.
"""

import math

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from diffnmf.autoencoders import DeepNMF
from diffnmf.figures.montages import image_grid, unit_peak
from diffnmf.metrics import relative_error

torch.manual_seed(0)

# %%
# First with a known answer: the seven strokes of a digital clock, and three signs of them, H, 7 and L. An image is a
# sum of signs. Strokes of the same sign come together, but not equally strong, and some belong to two signs.

boxes = [(1, 3, 3, 8), (2, 7, 8, 10), (8, 13, 8, 10), (12, 14, 3, 8), (8, 13, 1, 3), (2, 7, 1, 3), (6, 9, 3, 8)]
strokes = torch.zeros(7, 15, 11)
for stroke, (top, bottom, left, right) in zip(strokes, boxes, strict=True):
    stroke[top:bottom, left:right] = 1
signs = torch.zeros(3, 7)
for sign, made_of in zip(signs, ([1, 2, 4, 5, 6], [0, 1, 2], [3, 4, 5]), strict=True):
    sign[made_of] = 1
amounts = torch.distributions.Gamma(0.5, 1.0).sample((600, 3))
images = (amounts @ signs * (0.6 + 0.8 * torch.rand(600, 7))) @ strokes.flatten(1)  # (600, 165)
images += 0.05 * torch.rand(images.shape)

clock = DeepNMF(165, 3, hidden=(7,), epochs=40, batch_size=100).fit(images)

# %%
# Eight of the images, the fine parts and the coarse ones: strokes and signs, as they were put in.

rows = {"images": images[:8], "fine parts": clock.level_components(0), "coarse parts": clock.level_components(1)}
figure, axes = plt.subplots(3, 1, figsize=(6, 4.2), layout="constrained")
for panel, (title, pictures) in zip(axes, rows.items(), strict=True):
    panel.imshow(image_grid(unit_peak(pictures.T), (15, 11), columns_per_row=8, separator=math.nan), cmap="gray")
    panel.set_title(title, loc="left")
    panel.axis("off")

# %%
# Now handwritten digits. ``epochs=0`` leaves NMF level by level, where the fine parts do not know what they will be
# used for. Learnt together the coarse level gains, and the fine one gives a little away.

X = torch.tensor(load_digits().data, dtype=torch.float32) / 16  # (1797, 64)
for name, epochs in (("level by level", 0), ("together", 20)):
    model = DeepNMF(64, 6, hidden=(20,), epochs=epochs).fit(X)
    levels = enumerate(model.encode_levels(X))
    fine, coarse = (relative_error(X, codes @ model.level_components(level)).item() for level, codes in levels)
    print(f"{name}: relative error of the fine level {fine:.3f}, of the coarse one {coarse:.3f}")

# %%
# Each coarse part, and the six fine ones that it holds most of, as bright as their shares. Fine parts are pieces of
# strokes; coarse ones are what some digits have in common.

parts = model.level_components(0)  # (20, 64)
shares = model.level_weights(1) * parts.norm(dim=1)  # (6, 20)
figure, axes = plt.subplots(6, 7, figsize=(6, 5.2), layout="constrained")
for row, whole, share in zip(axes, model.components_, shares, strict=True):
    largest = share.argsort(descending=True)[:6]
    cells = [whole / whole.max(), *(share[i] / share.max() * parts[i] / parts[i].max() for i in largest)]
    for panel, cell in zip(row, cells, strict=True):
        panel.imshow(cell.reshape(8, 8).numpy(), cmap="gray", vmin=0, vmax=1)
        panel.axis("off")
plt.show()
