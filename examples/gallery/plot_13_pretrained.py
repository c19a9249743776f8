"""
GAN-UNET, pretrained
====================

A trained network predicts the basis H of a whole group of images in one pass; the weights W for it are exact.
``digits-k16`` comes with the library: a basis of 16 for groups of 40 digits of 8 × 8 pixels. So many for so few images
are hardly parts: most columns of H look like one of the images.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from diffnmf.figures.montages import image_grid, unit_peak
from diffnmf.metrics import hoyer_H, relative_error
from diffnmf.models import GANUNMF

images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
Y = images[-40:].T  # (64, 40): a group, an image in each column

# %%
# ``refine=3`` adds three rounds of HALS. They see the squared error alone.

model = GANUNMF.pretrained("digits-k16")
H, W, Y_hat = model.factorize(Y)  # (64, 16), (16, 40), (64, 40)
refined = model.factorize(Y, refine=3)
for name, factors in (("one pass", (H, W)), ("and three rounds of HALS", refined[:2])):
    error, sparsity = relative_error(Y, factors[0] @ factors[1]), hoyer_H(factors[0])
    print(f"{name}: relative error {error:.3f}, Hoyer sparsity of H {sparsity:.3f}")

# %%
# The group, its basis, and HW.

pictures: dict[str, np.ndarray] = {
    "Y": image_grid(Y, (8, 8), columns_per_row=8),
    "H": image_grid(unit_peak(H), (8, 8), columns_per_row=4),
    "HW": image_grid(Y_hat, (8, 8), columns_per_row=8),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for panel, (title, picture) in zip(axes, pictures.items(), strict=True):
    panel.imshow(picture, cmap="gray")
    panel.set_title(title)
    panel.axis("off")
plt.show()
