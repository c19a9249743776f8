"""
Unmixing: weights that sum to one
=================================

Every pixel of a scene is a mixture of a few materials. Its spectrum is the sum of theirs, in shares that are not
negative and sum to one. ``total=1`` finds the best such shares. To divide the shares of plain NNLS by their sum
afterwards is another, worse answer.
"""

import matplotlib.pyplot as plt
import torch

from diffnmf import nnls

torch.manual_seed(0)
side, bands = 24, 60

# %%
# Three spectra with broad peaks, which overlap, and maps of shares that change smoothly.

wavelength = torch.linspace(0, 1, bands)[:, None]
centres = torch.tensor([[0.3, 0.45, 0.6]])
spectra = 0.2 + torch.exp(-(((wavelength - centres) / 0.3) ** 2))  # (bands, 3)
y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
shares = torch.stack((4 * x, 4 * y, -3 * (x + y))).flatten(1).softmax(dim=0)  # (3, pixels)
scene = spectra @ shares + 0.1 * torch.randn(bands, side**2)

# %%
# All 576 pixels in one call.

plain = nnls(spectra, scene).W
divided = plain / plain.sum(dim=0)
mixed = nnls(spectra, scene, total=1.0).W
for name, found in (("divided afterwards", divided), ("total=1", mixed)):
    print(f"{name}: error of the shares {(found - shares).square().mean().sqrt():.4f}")

# %%
# The shares of the three materials: true, by division, and with the sum as a constraint.

figure, axes = plt.subplots(3, 3, figsize=(6, 6), layout="constrained")
for row, name, maps in zip(axes, ("true", "divided", "total=1"), (shares, divided, mixed), strict=True):
    row[0].set_ylabel(name)
    for panel, image in zip(row, maps, strict=True):
        panel.imshow(image.reshape(side, side).numpy(), vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
plt.show()
