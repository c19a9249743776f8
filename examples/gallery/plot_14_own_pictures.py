"""
GAN-UNET on pictures of your own
================================

A folder of pictures of one size is all that a training needs. What
``diffnmf train --preset scratch --dataset letters --k 16 --width 24 --epochs 30`` does on the command line is done here
from Python. The folder is made by this page.
"""

import tempfile
from pathlib import Path
from string import ascii_uppercase

import matplotlib
import matplotlib.pyplot as plt
import torch
from PIL import Image, ImageDraw, ImageFont

from diffnmf.data import group_matrix, load_images
from diffnmf.factorization import factorize
from diffnmf.figures.montages import image_grid, unit_peak
from diffnmf.metrics import copying, hoyer_H, relative_error
from diffnmf.models import GANUNMF
from diffnmf.runs import PRESETS, run_experiment

# %%
# The pictures are the letters of fonts that come with matplotlib. Those of DejaVu are for the training, those of
# another font, STIX, for afterwards.


def draw_letters(folder: Path, fonts: str) -> None:
    """A file of 20 × 20 pixels for every letter, in three sizes of every font whose file is called so."""
    folder.mkdir()
    for file in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob(fonts)):
        for size in (15, 17, 19):
            font = ImageFont.truetype(str(file), size)
            for letter in ascii_uppercase:
                picture = Image.new("L", (20, 20))
                ImageDraw.Draw(picture).text((10, 10), letter, fill=255, font=font, anchor="mm")
                picture.save(folder / f"{letter}-{file.stem}-{size}.png")


temporary = tempfile.TemporaryDirectory()
place = Path(temporary.name)
draw_letters(place / "letters", "DejaVuS*[!y].ttf")  # without those called Display, which have no letters
draw_letters(place / "others", "STIXGeneral*.ttf")

# %%
# The preset "scratch" trains from random weights, against a critic. A fifth of the pictures is held out, and scored
# after every epoch. What the run leaves in its folder, ``GANUNMF.load`` reads.

rows: list[dict[str, float]] = []  # of the table of scores, one an epoch
config = PRESETS["scratch"].with_options(dataset=str(place / "letters"), k=16, width=24, epochs=30, picture_every=None)
run = run_experiment(config, place / "run", brief=True, on_epoch=rows.append)
model = GANUNMF.load(run.folder)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
for panel, score in zip(axes, ("relative_error", "hoyer_H", "part_overlap"), strict=True):
    panel.plot([row["epoch"] for row in rows], [row[f"test_{score}"] for row in rows])
    panel.set(xlabel="epoch", title=f"{score}, held out")

# %%
# A new group: 40 letters of the other font, in columns. For this group alone merging finds a basis with a much smaller
# error. It does so by copying: its columns are letters. Those of the network are strokes, and it makes all letters of
# them, less sharply. What is black is not used.

others = load_images(place / "others")
chosen = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))[:40]
Y = group_matrix(others, chosen)  # (400, 40)
H, W, Y_hat = model.factorize(Y)
merged = factorize(Y, 16, method="merge")
for name, (parts, weights) in {"network": (H, W), "merging": (merged.H, merged.W)}.items():
    error, sparsity, copied = relative_error(Y, parts @ weights), hoyer_H(parts), copying(parts, Y)
    print(f"{name}: relative error {error:.2f}, Hoyer sparsity of H {sparsity:.2f}, copying {copied:.2f}")

# %%
# The group, the two bases, and the group as the network has it.

panels = {"Y": Y, "H of merging": unit_peak(merged.H), "H of the network": unit_peak(H, W), "HW of the network": Y_hat}
figure, axes = plt.subplots(1, 4, figsize=(11, 2.4), layout="constrained")
for panel, (title, columns) in zip(axes, panels.items(), strict=True):
    panel.imshow(image_grid(columns, (20, 20), columns_per_row=8 if columns.shape[1] == 40 else 4), cmap="gray")
    panel.set_title(title)
    panel.axis("off")
temporary.cleanup()
plt.show()
# sphinx_gallery_thumbnail_number = 2
