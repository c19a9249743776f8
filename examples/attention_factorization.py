"""An attention block that factorises its features, inside a small segmenter: what do exact factors cost, and bring?

    python examples/attention_factorization.py       # under a minute; a table and a picture in runs/attention

Geng et al. (2021, "Is attention better than matrix decomposition?", ICLR) put a factorisation where self-attention was:
the features X (channels × positions, after a ReLU) become X ≈ HW of low rank, which passes on what positions have in
common and drops the rest. Their factors come from six multiplicative updates (Lee and Seung 2001) from a random start,
and the gradient passes through the last update only. Here that block, written from this description, stands beside one
with exact factors: three alternations of non-negative least squares, of which the last H and the last W carry the
implicit gradient of ``NNLSLayer``.

The task: discs, squares and diamonds that differ from their background only in the direction of a grating, under noise
stronger than the gratings; to say for every pixel whether it is of a shape. Four models, the same but for the block:
none at all, the 1 × 1 convolutions of the block without a factorisation between them, and the two factorisations.
"Other method" is the relative error of the other factorisation on the same features, so that both are seen on equal
data.

Expect: at the same rank and on the same features the error of the exact factors is about 30 % smaller, and a step takes
up to 1.6 times as long. The segmentation gains nothing from either: on this task no block at all is as good, within the
spread of the seeds. Exact factors are for models that use them, as codes or as parts; where a block only has to smooth,
six updates smooth as well.
"""

import argparse
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from diffnmf import NNLSLayer
from diffnmf.figures.montages import save_panels
from diffnmf.interrupts import interruptible
from diffnmf.studies.report import markdown_table, mean_std

DIRECTIONS = 2  # of gratings: that of the background, and that of the shapes
SIZE, CHANNELS = 24, 16  # pixels along an edge, features of a position
BLOCKS = ("none", "convolutions", "multiplicative", "exact")
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


class Multiplicative(nn.Module):
    """Six multiplicative updates of both factors, the gradient through the last one only."""

    def __init__(self, updates: int = 6) -> None:
        super().__init__()
        self.updates = updates

    def update(self, X: Tensor, H: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        W = W * (H.mT @ X) / (H.mT @ H @ W + 1e-6)
        H = H * (X @ W.mT) / (H @ (W @ W.mT) + 1e-6)
        return H, W

    def forward(self, X: Tensor, H: Tensor) -> Tensor:
        """HW (*batch, n, m) from X (*batch, n, m) ≥ 0 and a start H (*batch, n, k)."""
        with torch.no_grad():
            W = torch.softmax(H.mT @ X, dim=-2)
            for _ in range(self.updates - 1):
                H, W = self.update(X, H, W)
        H, W = self.update(X, H, W)
        return H @ W


class Exact(nn.Module):
    """Alternations of exact NNLS; the last H and the last W carry the implicit gradient to X."""

    def __init__(self, alternations: int = 3) -> None:
        super().__init__()
        self.alternations = alternations
        self.nnls = NNLSLayer()

    def forward(self, X: Tensor, H: Tensor) -> Tensor:
        """HW (*batch, n, m) from X (*batch, n, m) ≥ 0 and a start H (*batch, n, k)."""
        with torch.no_grad():
            W = self.nnls(H, X)
            for _ in range(self.alternations - 2):
                H = self.nnls(W.mT, X.mT, W0=H.mT).mT
                W = self.nnls(H, X, W0=W)
        H = self.nnls(W.mT, X.mT, W0=H.mT).mT
        return H @ self.nnls(H, X, W0=W)


class FactorBlock(nn.Module):
    """X + out(HW), where HW ≈ relu(into(X)) is of rank k: into and out are 1 × 1 convolutions."""

    def __init__(self, channels: int, k: int, factorize: nn.Module | None) -> None:
        super().__init__()
        self.into, self.out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.k, self.factorize = k, factorize

    def matrix(self, features: Tensor) -> Tensor:
        return torch.relu(self.into(features)).flatten(2)  # (B, channels, positions)

    def start(self, X: Tensor) -> Tensor:
        return torch.rand(*X.shape[:-1], self.k, dtype=X.dtype, device=X.device)

    def forward(self, features: Tensor) -> Tensor:
        X = self.matrix(features)
        smooth = X if self.factorize is None else self.factorize(X, self.start(X))
        return features + self.out(smooth.unflatten(2, features.shape[2:]))


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
        factorize = {"multiplicative": Multiplicative, "exact": Exact}.get(block)
        self.block = None if block == "none" else FactorBlock(channels, k, factorize() if factorize else None)
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
        other = Exact() if isinstance(block.factorize, Multiplicative) else Multiplicative()
        for name, factorize in (("error", block.factorize), ("other", other)):
            found[name] = (torch.linalg.vector_norm(factorize(X, H) - X) / torch.linalg.vector_norm(X)).item()
    return found, predicted


def compare(options: argparse.Namespace) -> tuple[list[list[Any]], dict[str, Tensor]]:
    """A row for each block, over the seeds; and what the models of the last seed say of unseen images."""
    sets = (make_images(count, SIZE, options.noise, seed) for count, seed in ((1024, 0), (256, 1)))
    images, labels, unseen, truth = (part.to(options.device) for pair in sets for part in pair)
    rows: list[list[Any]] = []
    panels = {"Unseen images": 0.5 + unseen[:20, 0] / 4, "Truth": truth[:20] / (DIRECTIONS - 1)}
    for name in BLOCKS:
        results = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            model = Segmenter(name, CHANNELS, options.k).to(options.device)
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
    parser.add_argument("--steps", type=int, default=200, help="of every training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every model")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
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
