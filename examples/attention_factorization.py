"""Attention blocks that factorise their features, inside a small segmenter: what do exact factors cost, and bring?

    python examples/attention_factorization.py       # some minutes; a table and a picture in runs/attention

Geng et al. (2021, "Is attention better than matrix decomposition?", ICLR) put a factorisation where self-attention was:
the features X (channels × positions, after a ReLU) become X ≈ HW of low rank, which passes on what positions have in
common and drops the rest. Their factors come from six multiplicative updates (Lee and Seung 2001) from a random start,
and the gradient passes through the last update only. Here that block, written from this description, stands beside one
with exact factors: three alternations of non-negative least squares, of which the last H and the last W carry the
implicit gradient of ``NNLSLayer``.

Ashtari et al. (2023, "Factorizer: A scalable interpretable approach to context modeling for medical image
segmentation", Medical Image Analysis 84) share the channels out to heads and the positions to windows, factorise each
of these small matrices by five rounds of HALS, with the gradient through all of them, and put normalisations and an MLP
around it. Ours is one such layer, without shifted windows, at rank 2; theirs is 1, at which HALS is exact NNLS.

The task: discs, squares and diamonds that differ from their background only in the direction of a grating, under noise
stronger than the gratings; to say for every pixel whether it is of a shape. The models are the same but for the block:
none at all, and for both kinds of block its convolutions without a factorisation between them, and with each of the
factorisations. "Other method" is the relative error on the same features of the exact factors, and in the rows with
exact factors that of six multiplicative updates: so all are seen on equal data.

Expect: at the same rank and on the same features the error of the exact factors is about 30 % smaller than that of
six multiplicative updates, in the windows of a Factorizer about 17 %, and there 12 % smaller than after five rounds of
HALS. The segmentation gains nothing from any of them: on this task no block at all is as good, within the spread of the
seeds. Exact factors are for models that use them, as codes or as parts; where a block only has to smooth, six updates
smooth as well.
"""

import argparse
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from attention_blocks import Alternating, Exact, FactorBlock, FactorizerLayer, Multiplicative
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from diffnmf.figures.montages import save_panels
from diffnmf.hardware import DEVICE_HELP, device_option
from diffnmf.interrupts import interruptible
from diffnmf.studies.report import markdown_table, mean_std

DIRECTIONS = 2  # of gratings: that of the background, and that of the shapes
SIZE, CHANNELS = 24, 16  # pixels along an edge, features of a position
# Of each model: its block, and how that factorises.
BLOCKS: dict[str, tuple[type[FactorBlock] | type[FactorizerLayer] | None, type[nn.Module] | None]] = {
    "none": (None, None),
    "convolutions": (FactorBlock, None),
    "multiplicative": (FactorBlock, Multiplicative),
    "exact": (FactorBlock, Exact),
    "factorizer: convolutions": (FactorizerLayer, None),
    "factorizer: HALS": (FactorizerLayer, Alternating),
    "factorizer: multiplicative": (FactorizerLayer, Multiplicative),
    "factorizer: exact": (FactorizerLayer, Exact),
}
HEADER = ["block", "parameters", "accuracy", "mean IoU", "relative error", "other method", "ms a step"]


def make_images(count: int, size: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Images (count, 1, size, size) and labels (count, size, size), three shapes in each."""
    generator = torch.Generator().manual_seed(seed)

    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    def grating(direction: Tensor) -> Tensor:
        angle = direction * torch.pi / DIRECTIONS + draw(-0.15, 0.15)
        return torch.sin(1.5 * (x * angle.cos() + y * angle.sin()) + draw(0, 6.3))

    labels = torch.zeros(count, size, size, dtype=torch.long)
    images = grating(labels)
    for _ in range(3):
        dx, dy = (x - draw(4, size - 4)).abs(), (y - draw(4, size - 4)).abs()
        radius = draw(3.5, 6)
        outline = torch.randint(3, (1, count, 1, 1), generator=generator).expand(1, count, size, size)
        norms = torch.stack([(dx**2 + dy**2).sqrt(), torch.maximum(dx, dy) * 1.13, (dx + dy) * 0.8])  # equal areas
        inside = norms.gather(0, outline)[0] < radius
        direction = torch.randint(1, DIRECTIONS, (count, 1, 1), generator=generator)
        images = torch.where(inside, grating(direction), images)
        labels = torch.where(inside, direction, labels)
    images = images + noise * torch.randn(images.shape, generator=generator)
    return images[:, None], labels


class Segmenter(nn.Module):
    """Convolutions at half resolution, the block, and a head that says a direction for every pixel."""

    def __init__(self, block: str, channels: int, k: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, channels, 5, padding=2),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )
        kind, factorize = BLOCKS[block]
        self.block = None if kind is None else kind(channels, k, factorize() if factorize else None)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * DIRECTIONS, 1),
            nn.PixelShuffle(2),
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.encode(images)  # (B, channels, size / 2, size / 2)
        return self.head(features if self.block is None else self.block(features))  # (B, directions, size, size)


def train(model: Segmenter, images: Tensor, labels: Tensor, steps: int, batch_size: int = 16) -> float:
    """Adam on the cross-entropy; returns the lower decile of the milliseconds of a step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(0)  # its own: the blocks draw starts from the global one
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        chosen = torch.randint(len(images), (batch_size,), generator=generator).to(images.device)
        loss = cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return 1000 * quantiles(seconds, n=10)[0]  # other programs only add to a time


@torch.no_grad()
def scores(model: Segmenter, images: Tensor, labels: Tensor) -> tuple[dict[str, float], Tensor]:
    """Accuracy, mean IoU and relative errors of the factorisations on unseen images; and the predictions."""
    model.eval()
    predicted = torch.cat([model(part).argmax(1) for part in images.split(64)])
    both, either = (
        torch.stack([combine(predicted == c, labels == c).sum() for c in range(DIRECTIONS)])
        for combine in (torch.logical_and, torch.logical_or)
    )
    found = {"accuracy": (predicted == labels).float().mean().item(), "iou": (both / either).mean().item()}
    block = model.block
    if block is not None and block.factorize is not None:
        X = block.matrix(model.encode(images[:64]))
        H = block.start(X)
        other = Multiplicative() if isinstance(block.factorize, Exact) else Exact()
        for name, factorize in (("error", block.factorize), ("other", other)):
            found[name] = (torch.linalg.vector_norm(factorize(X, H) - X) / torch.linalg.vector_norm(X)).item()
    return found, predicted


def compare(options: argparse.Namespace) -> tuple[list[list[Any]], dict[str, Tensor]]:
    """A row for each block, over the seeds; and what the models of the last seed say of unseen images."""
    sets = (make_images(count, SIZE, options.noise, seed) for count, seed in ((1024, 0), (256, 1)))
    images, labels, unseen, truth = (part.to(options.device) for pair in sets for part in pair)
    rows: list[list[Any]] = []
    panels = {"Unseen images": 0.5 + unseen[:20, 0] / 4, "Truth": truth[:20] / (DIRECTIONS - 1)}
    for name in options.blocks:
        results = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            k = options.window_k if BLOCKS[name][0] is FactorizerLayer else options.k
            model = Segmenter(name, CHANNELS, k).to(options.device)
            milliseconds = train(model, images, labels, options.steps)
            found, predicted = scores(model, unseen, truth)
            results.append({**found, "ms": milliseconds})
        columns = [
            mean_std([r[key] for r in results if key in r]) if key in results[0] else None
            for key in ("accuracy", "iou", "error", "other")
        ]
        parameters = sum(p.numel() for p in model.parameters())
        rows.append([name, parameters, *columns, median(r["ms"] for r in results)])
        panels[f"Block: {name}"] = predicted[:20] / (DIRECTIONS - 1)
    return rows, {label: part.flatten(1).T.cpu() for label, part in panels.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation, the gratings reach from -1 to 1")
    parser.add_argument("--k", type=int, default=5, help="rank of the factorisation")
    parser.add_argument("--window-k", type=int, default=2, help="that of a window of a Factorizer")
    parser.add_argument("--steps", type=int, default=200, help="of every training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every model")
    parser.add_argument("--blocks", nargs="+", default=list(BLOCKS), choices=BLOCKS, help="which models")
    parser.add_argument("--device", type=device_option, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--output", type=Path, default=Path("runs/attention"))
    options = parser.parse_args()

    rows, panels = compare(options)
    table = markdown_table(HEADER, rows)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "attention_factorization.md").write_text(f"{table}\n", encoding="utf-8")
    title = "Shapes that differ by the direction of their grating"
    save_panels(options.output / "segmentations.png", panels, (SIZE, SIZE), title=title, columns_per_row=20)
    print(table)
    print(options.output)


if __name__ == "__main__":
    with interruptible():
        main()
