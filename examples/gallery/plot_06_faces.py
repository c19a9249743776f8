"""
Faces, whole and in parts
=========================

What NMF finds in faces are not their parts but faces: pale ones that overlap, of which others are mixed. Parts, such as
eyes and mouths, appear when H is asked to be sparse, or its columns to have little in common, and cost some error.

The images are the Olivetti faces (AT&T Laboratories Cambridge; for research) where the environment variable
``DIFFNMF_DATA`` names a folder of data sets. Otherwise this page draws faces of its own, and says so.
"""

import os

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from diffnmf.data import load_dataset
from diffnmf.errors import DataUnavailableError
from diffnmf.factorization import UnitColumns, factorize
from diffnmf.figures.montages import image_grid, unit_peak
from diffnmf.metrics import hoyer_H, part_overlap, relative_error


def drawn_faces(count: int = 320, side: int = 48) -> Tensor:
    """Heads with eyes, brows, a nose and a mouth (count, side, side), each with sizes, greys and light of its own."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    def spot(across: Tensor, down: Tensor, width: Tensor, height: Tensor) -> Tensor:
        return torch.exp(-(((x - across) / width) ** 4) - ((y - down) / height) ** 4)

    head = torch.sigmoid(12 * (1 - (x / between(0.6, 0.9)) ** 2 - (y / between(0.9, 1.1)) ** 2))
    faces = between(0.0, 0.4) * (1 - head) + head * between(0.6, 0.8) * (1 + between(-0.3, 0.3) * x)
    apart, level, wide = between(0.27, 0.4), between(-0.3, -0.15), between(0.1, 0.18)
    brow, eyes, brows = level - between(0.12, 0.25), between(0.2, 0.9), between(0.0, 0.8)
    for side_of_face in (-1, 1):
        faces = faces * (1 - eyes * spot(side_of_face * apart, level, wide, between(0.05, 0.09)))
        faces = faces * (1 - brows * spot(side_of_face * apart, brow, 1.4 * wide, between(0.03, 0.06)))
    faces = faces * (1 - between(0.0, 0.5) * spot(between(-0.1, 0.1), between(0.05, 0.15), wide / 2, 2 * wide))
    return faces * (1 - between(0.2, 0.8) * spot(0 * level, between(0.4, 0.55), 2 * wide, between(0.03, 0.1)))


def load_faces() -> tuple[str, Tensor]:
    if os.environ.get("DIFFNMF_DATA"):
        try:
            return "Olivetti faces", load_dataset("faces").train.images
        except DataUnavailableError as error:
            print(error)
    return "faces drawn by this page, no photographs", drawn_faces()


kind, images = load_faces()
image_shape = (images.shape[1], images.shape[2])
Y = images.flatten(1).T  # (pixels, images)
print(f"{len(images)} {kind}, {image_shape[0]} × {image_shape[1]} pixels")

# %%
# ``UnitColumns`` is HALS with columns of H at length one, so that penalties on them have a meaning. It goes on from
# what NMF found. A useful weight is a few times the squared relative error.

k = 25
nmf = factorize(Y, k, max_iter=100, tol=0.0)
weight = nmf.errors[-1].item() ** 2
methods = {
    "NMF": None,
    "a little sparse": UnitColumns(sparsity=1.5 * weight),
    "sparse": UnitColumns(sparsity=4 * weight),
    "little overlap": UnitColumns(overlap=4 * weight),
}
bases = {}
for name, method in methods.items():
    H, W = nmf.H, nmf.W
    if method is not None:
        H, W, *_ = factorize(Y, k, method=method, H0=H, W0=W, max_iter=60, tol=0.0)
    bases[name] = unit_peak(H, W)
    error, sparsity, overlap = relative_error(Y, H @ W), hoyer_H(H), part_overlap(H)
    print(f"{name}: relative error {error:.3f}, Hoyer sparsity of H {sparsity:.2f}, overlap of parts {overlap:.2f}")

# %%
# Sparsity and overlap are scores between 0 and 1. The columns of H, from whole faces to parts of them:

figure, axes = plt.subplots(2, 2, figsize=(9, 9.4), layout="constrained")
for panel, (name, basis) in zip(axes.flat, bases.items(), strict=True):
    panel.imshow(image_grid(basis, image_shape, columns_per_row=5), cmap="gray")
    panel.set_title(name)
    panel.axis("off")
figure.suptitle(kind)
plt.show()
