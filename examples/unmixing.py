"""Spectral unmixing: learn the endmembers by gradient descent through exact abundances on the simplex.

    python examples/unmixing.py                      # under a minute; a table and a picture in runs/unmixing
    python examples/unmixing.py --pure 0.0 --seed 1  # another scene, with fewer pure pixels

A synthetic scene: every pixel mixes five smooth, overlapping spectra, its abundances sum to one, and the noise of a
band is known but differs, by a factor of up to eighty in two regions ("water bands"). Two questions to each method:

1. Which abundances does it find when the endmembers are given?
2. Which endmembers and abundances does it find from the pixels alone, from the same start (SPA)?

Methods: ``NNLSLayer(rows=True, total=1.0)`` with weights 1/σ², the same without weights, plain NNLS whose abundances
are divided by their sum, and a softmax of free logits that are learned together with the endmembers. All of them
penalise the logarithm of the volume of the simplex (as Fu et al. 2016, IEEE TSP 64 (23), do): any larger simplex
explains the pixels as well, and their noise better. Angles are those of the bands that are not water bands.

Expect: the weights matter most. With the endmembers given, abundances on the simplex are nearer than divided ones;
with learned endmembers the two are alike, and the volume decides. The softmax is worse after as many steps and as good
after ten times as many, each of them far cheaper, once the rate of its logits is tuned; it has no zeros, and a new
pixel needs new logits.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from diffnmf import NNLSLayer
from diffnmf.factorization import spa
from diffnmf.figures.drawing import COLOURS, label_axes, new_figure, save_figure
from diffnmf.hardware import DEVICE_HELP, device_option
from diffnmf.interrupts import interruptible
from diffnmf.studies.report import markdown_table

WATER = 0.4  # the deviation of the noise in the two water bands
SHORTEST = 0.01  # square of an edge of the simplex, in standard deviations, below which it counts as that long
LOGITS_RATE = 0.3  # of Adam; 0.02, 0.05 and 0.1 are worse
HEADER = ["method", "steps", "abundance error, H given", "abundance error", "angle, degrees", "zeros", "seconds"]
DIVIDED = "plain NNLS, divided by the sum"


@dataclass(frozen=True)
class Scene:
    """Pixels Y (N, bands) = abundances (N, k) · endmembers (bands, k)ᵀ + noise of deviation sigma (bands,)."""

    Y: Tensor
    endmembers: Tensor
    abundances: Tensor
    sigma: Tensor


def make_scene(side: int, bands: int, k: int, pure: float, seed: int) -> Scene:
    """Smooth spectra and smooth maps; a share of the pixels next to the peak of each map holds one endmember alone."""
    generator = torch.Generator().manual_seed(seed)
    band = torch.linspace(0, 1, bands)[:, None, None]
    # Three broad humps each, so that all spectra overlap.
    centre, height = torch.rand(2, k, 3, generator=generator)
    width = 0.08 + 0.17 * torch.rand(k, 3, generator=generator)
    endmembers = 0.1 + (height * torch.exp(-0.5 * ((band - centre) / width) ** 2)).sum(-1)  # (bands, k)

    field = torch.randn(k, 1, side, side, generator=generator)
    for _ in range(6):
        field = nn.functional.avg_pool2d(nn.functional.pad(field, (2, 2, 2, 2), mode="circular"), 5, stride=1)
    field = field.flatten(1).T  # (N, k)
    abundances = torch.softmax(3 * field / field.std(dim=0), dim=1)
    abundances = (abundances - 0.05).clamp(min=0)  # most pixels lack some of the endmembers
    abundances = abundances / abundances.sum(dim=1, keepdim=True)
    mixed = abundances.amax(dim=1) > 1 - pure
    abundances = torch.where(mixed[:, None], (abundances == abundances.amax(dim=1, keepdim=True)).float(), abundances)

    sigma = 0.005 + 0.02 * torch.rand(bands, generator=generator)
    for water in (0.35, 0.7):
        sigma = torch.where((band[:, 0, 0] - water).abs() < 0.04, WATER, sigma)
    clean = abundances @ endmembers.T
    return Scene(clean + sigma * torch.randn(clean.shape, generator=generator), endmembers, abundances, sigma)


class Unmixing(nn.Module):
    """Endmembers H > 0 as parameters, abundances as ``solve`` gives them from H and the pixels."""

    def __init__(self, start: Tensor, solve: Callable[[Tensor, Tensor], Tensor] | None, pixels: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(start.clamp(min=1e-3).expm1().log())  # softplus of it is the start
        self.solve = solve
        self.logits = nn.Parameter(torch.zeros(pixels, start.shape[1]), requires_grad=solve is None)

    @property
    def endmembers(self) -> Tensor:
        return softplus(self.raw)

    def abundances(self, H: Tensor, Y: Tensor) -> Tensor:
        return torch.softmax(self.logits, dim=1) if self.solve is None else self.solve(H, Y)

    def forward(self, Y: Tensor) -> Tensor:
        H = self.endmembers  # (bands, k)
        return self.abundances(H, Y) @ H.T


def divided(layer: NNLSLayer) -> Callable[[Tensor, Tensor], Tensor]:
    """Abundances that sum to one because they are divided by their sum."""

    def solve(H: Tensor, Y: Tensor) -> Tensor:
        W = layer(H, Y)  # (N, k)
        return W / W.sum(dim=1, keepdim=True).clamp(min=1e-6)

    return solve


def log_volume(H: Tensor, weights: Tensor) -> Tensor:
    """Twice the logarithm of the volume of the simplex of the endmembers (bands, k), up to a constant.

    With a little on the diagonal, as Leplat, Ang and Gillis (2019) have it: where endmembers meet the logarithm has no
    lower bound, and no gradient that could be followed.
    """
    edges = weights.sqrt()[:, None] * (H[:, 1:] - H[:, :1])  # (bands, k - 1), in standard deviations
    gram = (edges.mT @ edges).double()
    return torch.logdet(gram + SHORTEST * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).to(H.dtype)


def fit(model: Unmixing, scene: Scene, weights: Tensor, steps: int, *, volume: float | None) -> float:
    """Gradient descent on the weighted mean square error, in place; returns the seconds.

    Arguments:
        volume: weight of the logarithm of the volume; without it the endmembers stay as they are.
    """
    model.raw.requires_grad_(volume is not None)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return 0.0
    groups = [{"params": [p], "lr": LOGITS_RATE if p is model.logits else 0.02} for p in parameters]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = time.perf_counter()
    for _ in range(steps):
        loss = (weights * (model(scene.Y) - scene.Y).square()).mean()
        if volume is not None:
            loss = loss + volume * log_volume(model.endmembers, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return time.perf_counter() - start


def start_endmembers(Y: Tensor, weights: Tensor, k: int) -> Tensor:
    """(bands, k): the pixels that SPA chooses, each averaged with the nine that are nearest to it."""
    whitened = Y * weights.sqrt()
    chosen = spa(whitened.mT, k).mT  # (k, bands)
    nearest = torch.cdist(chosen, whitened).topk(min(10, len(Y)), largest=False).indices  # (k, 10)
    return Y[nearest].mean(dim=1).mT.clamp(min=0.01)


def matched(found: Tensor, true: Tensor) -> tuple[Tensor, float]:
    """Which found spectrum (bands, k) is which true one, and the mean angle between the pairs in degrees."""
    from scipy.optimize import linear_sum_assignment

    cosines = nn.functional.normalize(true, dim=0).T @ nn.functional.normalize(found, dim=0)
    angles = torch.rad2deg(torch.acos(cosines.double().clamp(max=1)))
    rows, order = linear_sum_assignment(angles.cpu().numpy())
    return torch.as_tensor(order, device=found.device), angles[rows, order].mean().item()


def root_mean_square(X: Tensor) -> float:
    return X.square().mean().sqrt().item()


def compare(
    scene: Scene, steps: int, longer: int, volume: float
) -> tuple[list[list[object]], dict[str, tuple[Tensor, Tensor]]]:
    """A row of the table for each method, and the endmembers and abundances that it found."""
    weights = scene.sigma**-2  # (bands,), broadcasts to Y (N, bands)
    even = weights.median().expand_as(weights)
    simplex = NNLSLayer(rows=True, total=1.0)
    methods: dict[str, tuple[Callable[[Tensor, Tensor], Tensor] | None, Tensor, int]] = {
        "simplex, weights": (NNLSLayer(rows=True, total=1.0, weights=weights), weights, steps),
        "simplex, no weights": (simplex, even, steps),
        DIVIDED: (divided(NNLSLayer(rows=True, weights=weights)), weights, steps),
        "softmax": (None, weights, steps),
        f"softmax, {longer} times the steps": (None, weights, longer * steps),
    }
    k = scene.endmembers.shape[1]
    start = start_endmembers(scene.Y, weights, k)
    clean = scene.sigma < WATER
    rows, found = list[list[object]](), {}
    for name, (solve, loss_weights, count) in methods.items():
        given = Unmixing(scene.endmembers, solve, len(scene.Y)).to(scene.Y)
        fit(given, scene, loss_weights, count, volume=None)
        model = Unmixing(start, solve, len(scene.Y)).to(scene.Y)
        seconds = fit(model, scene, loss_weights, count, volume=volume)
        with torch.no_grad():
            with_given = given.abundances(scene.endmembers, scene.Y)
            H, A = model.endmembers, model.abundances(model.endmembers, scene.Y)
        order, angle = matched(H[clean], scene.endmembers[clean])
        H, A = H[:, order], A[:, order]
        errors = root_mean_square(with_given - scene.abundances), root_mean_square(A - scene.abundances)
        rows.append([name, count, *errors, angle, f"{100 * (A == 0).float().mean():.0f} %", f"{seconds:.1f}"])
        found[name] = (H, A)
    return rows, found


def save_picture(path: Path, scene: Scene, found: dict[str, tuple[Tensor, Tensor]], side: int) -> None:
    """True and found spectra on top, below them the abundance maps: a row for the truth and for each method."""
    k = scene.endmembers.shape[1]
    figure = new_figure(2.0 * k + 2.2, 3.4 + 1.75 * (1 + len(found)))
    grid = figure.add_gridspec(2 + len(found), k, height_ratios=[1.6] + [1] * (1 + len(found)))
    ax = figure.add_subplot(grid[0, :])
    best = next(iter(found))
    for j, colour in zip(range(k), COLOURS, strict=False):
        ax.plot(scene.endmembers[:, j].cpu().numpy(), color=colour, linewidth=2.5, alpha=0.45)
        ax.plot(found[best][0][:, j].cpu().numpy(), color=colour, linestyle="--", linewidth=1.2)
        ax.plot(found[DIVIDED][0][:, j].cpu().numpy(), color=colour, linestyle=":", linewidth=1.2)
    label_axes(ax, f"Spectra: true (pale), {best} (dashed), {DIVIDED} (dotted)", "band", "reflectance")
    maps = {"true": scene.abundances, **{name: A for name, (_, A) in found.items()}}
    for row, (name, A) in enumerate(maps.items(), start=1):
        for j in range(k):
            ax = figure.add_subplot(grid[row, j])
            image = ax.imshow(A[:, j].reshape(side, side).cpu().numpy(), vmin=0, vmax=1, cmap="viridis")
            ax.set(xticks=[], yticks=[])
            if j == 0:
                ax.set_ylabel(name.replace(", ", ",\n"), fontsize=10)
    figure.colorbar(image, ax=figure.axes[1:], label="abundance", shrink=0.4)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=32, help="pixels along an edge of the scene")
    parser.add_argument("--bands", type=int, default=100)
    parser.add_argument("--k", type=int, default=5, help=f"endmembers, at most {len(COLOURS)}")
    parser.add_argument("--pure", type=float, default=0.1, help="purer pixels than 1 - PURE hold one endmember alone")
    parser.add_argument("--steps", type=int, default=300, help="of gradient descent")
    parser.add_argument("--longer", type=int, default=10, help="times the steps, for the softmax")
    parser.add_argument("--volume", type=float, default=0.2, help="weight of the volume of the simplex in the loss")
    parser.add_argument("--seed", type=int, default=0, help="of the scene")
    parser.add_argument("--device", type=device_option, default="cpu", help=DEVICE_HELP)
    parser.add_argument("--output", type=Path, default=Path("runs/unmixing"))
    options = parser.parse_args()
    if not 2 <= options.k <= len(COLOURS):
        parser.error(f"k: expected 2 to {len(COLOURS)} endmembers, a colour for each; got {options.k}")

    scene = make_scene(options.side, options.bands, options.k, options.pure, options.seed)
    scene = Scene(*(part.to(options.device) for part in (scene.Y, scene.endmembers, scene.abundances, scene.sigma)))
    rows, found = compare(scene, options.steps, options.longer, options.volume)
    table = markdown_table(HEADER, rows)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "unmixing.md").write_text(f"{table}\n", encoding="utf-8")
    save_picture(options.output / "unmixing.png", scene, found, options.side)
    print(table)
    print(options.output)


if __name__ == "__main__":
    with interruptible():
        main()
