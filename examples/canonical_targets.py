"""What should a network be taught whose right answer may stand in any order? Raw against canonical targets for a U-Net.

    python examples/canonical_targets.py --datasets mnist faces      # about a quarter of an hour on one core

(HPD, D⁻¹PᵀW) is as good a factorisation as (H, W) for every permutation P and every positive diagonal D. The paper's
section 2 announces that breaking this symmetry (Tayal et al. 2020) makes learning easier, and shows no experiment. This
is that experiment: groups of m = 40 images in random column order are factorised by HALS, each from a random start of
its own, with k < m components; a U-Net sees a group and is taught to say its H. What differs is the target:

    raw         H as HALS left it
    scaled      columns of one length, in the order in which they came
    sorted      columns of one length, by the mass of their components, the largest first
    canonical   ``canonicalize``: columns of one length, matched to prototypes
    matched     columns of one length, matched to what the network says, anew in every step (a loss on sets)
    none        no target: the network lowers the relative error of HW, with W by NNLS, for as many steps

The loss of the first five is ‖H − T‖² / ‖T‖². All are judged by the same scores on groups of unseen images: the
relative error with W by NNLS, ``symmetry_adjusted_error`` against HALS of that group, and how alike equal slots are
from group to group. Beside them: HALS itself, and the prototypes as one dictionary for all groups.

A result is kept in the folder as soon as it is there; a call that was interrupted goes on where it stopped.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf import NNLSLayer
from diffnmf.data import GroupSampler, ImageSet, group_matrix, load_dataset
from diffnmf.data.resizing import resize_images
from diffnmf.factorization import canonicalize, factorize, match_slots, slot_prototypes, take_slots
from diffnmf.files import read_json, write_json
from diffnmf.interrupts import interruptible
from diffnmf.metrics import dead_components, relative_error, slot_consistency, symmetry_adjusted_error
from diffnmf.models.unet import UNet
from diffnmf.solvers.norms import with_unit_columns
from diffnmf.studies.report import markdown_table, mean_std

M, HALS_ROUNDS = 40, 100
TARGETS = ("raw", "scaled", "sorted", "canonical", "matched", "none")
SCORES = ("relative error", "distance to HALS", "equal slots", "dead components")


class Groups(NamedTuple):
    """Groups Y (G, n, m) and what HALS found for them, H (G, n, k) and W (G, k, m)."""

    Y: Tensor
    H: Tensor
    W: Tensor


def make_groups(images: ImageSet, count: int, k: int, seed: int) -> Groups:
    """Groups in random column order, each factorised from a random start of its own."""
    sampler = GroupSampler(images, M, seed=seed)
    epochs = -(-count // len(sampler))
    indices = torch.cat([sampler.epoch(epoch) for epoch in range(epochs)])[:count]
    Y = group_matrix(images, indices)
    starts = range(seed * 100_000, seed * 100_000 + count)
    factors = factorize(Y, k, init="random", seed=list(starts), tol=0.0, max_iter=HALS_ROUNDS)
    return Groups(Y, factors.H, factors.W)


def of_equal_length(H: Tensor) -> Tensor:
    """Columns with a root mean square of one, so that entries are as large as those that a network says."""
    return with_unit_columns(H) * H.shape[-2] ** 0.5


def targets_of(kind: str, groups: Groups, prototypes: Tensor) -> Tensor:
    """What the network is taught, (G, n, k)."""
    H, W = groups.H, groups.W
    if kind == "raw":
        return H
    if kind == "sorted":
        mass = torch.linalg.vector_norm(H, dim=-2) * torch.linalg.vector_norm(W, dim=-1)  # (G, k)
        H, _ = take_slots(H, W, mass.argsort(dim=-1, descending=True, stable=True))
    elif kind == "canonical":
        H, _ = canonicalize(H, W, prototypes)
    return of_equal_length(H)


def basis_of(model: UNet, Y: Tensor, shape: tuple[int, int]) -> Tensor:
    """H (B, n, k) ≥ 0 of groups Y (B, n, m): images as channels in, parts as channels out."""
    maps, _ = model(Y.mT.unflatten(-1, shape))  # (B, k, h, w)
    return torch.relu(maps).flatten(2).mT


def loss_of(kind: str, H: Tensor, Y: Tensor, T: Tensor) -> Tensor:
    """The loss of a batch: what the network says H (B, n, k), Y (B, n, m) and its targets T (B, n, k)."""
    if kind == "none":
        Y_hat = H @ NNLSLayer()(H, Y)
        return ((Y_hat - Y).square().sum((-2, -1)) / Y.square().sum((-2, -1))).mean()
    if kind == "matched":
        order = torch.cat([match_slots(t[None], h) for t, h in zip(T, H.detach(), strict=True)])
        T, _ = take_slots(T, T.mT, order)
    return ((H - T).square().sum((-2, -1)) / T.square().sum((-2, -1))).mean()


def train(kind: str, groups: Groups, prototypes: Tensor, shape: tuple[int, int], options: argparse.Namespace) -> UNet:
    """Adam for so many steps, its rate falling to zero as a cosine; weights and batches of ``options.seed``."""
    torch.manual_seed(options.seed)
    model = UNet(M, groups.H.shape[-1], shape, options.width, normalize_maps=True)
    targets = targets_of(kind, groups, prototypes)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    for _ in range(options.steps):
        chosen = torch.randint(len(groups.Y), (options.batch_size,))
        Y = groups.Y[chosen]
        loss = loss_of(kind, basis_of(model, Y, shape), Y, targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def scores(H: Tensor, W: Tensor, unseen: Groups) -> dict[str, float]:
    """Means over the unseen groups."""
    return {
        "relative error": relative_error(unseen.Y, H @ W).mean().item(),
        "distance to HALS": symmetry_adjusted_error(H, of_equal_length(unseen.H)).mean().item(),
        "equal slots": slot_consistency(H[:64]).unmatched,
        "dead components": dead_components(H, W).double().mean().item(),
    }


@torch.no_grad()
def predicted(model: UNet, Y: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """H (G, n, k) of the network, and the W (G, k, m) that fits best."""
    H = torch.cat([basis_of(model.eval(), part, shape) for part in Y.split(16)])
    return H, NNLSLayer()(H, Y)


def results_of(name: str, folder: Path, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """The scores of every row, a dictionary for each seed; trained where they are not in the folder yet."""
    split = load_dataset(name, data_dir=options.data_dir)
    train_images, test_images = (resize_images(x, options.size) for x in (split.train, split.test))
    shape = train_images.image_shape
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        options.seed = seed
        groups = make_groups(train_images, options.groups, options.k, seed)
        unseen = make_groups(test_images, options.unseen, options.k, seed + options.seeds)
        prototypes = slot_prototypes(groups.H[:64])
        fixed = prototypes.expand(len(unseen.Y), -1, -1)
        found.setdefault("HALS itself", []).append(scores(unseen.H, unseen.W, unseen))
        found.setdefault("the prototypes", []).append(scores(fixed, NNLSLayer()(fixed, unseen.Y), unseen))
        for kind in options.targets:
            file = folder / f"{name}-{kind}-{seed}.json"
            if not file.exists():
                start = time.process_time()
                model = train(kind, groups, prototypes, shape, options)
                seconds = time.process_time() - start
                write_json(file, {**scores(*predicted(model, unseen.Y, shape), unseen), "CPU seconds": seconds})
                print(f"{file.name}: {read_json(file)}", flush=True)
            found.setdefault(kind, []).append(read_json(file))
    return found


def table_of(name: str, found: dict[str, list[dict[str, float]]]) -> str:
    """Means and standard deviations over the seeds."""
    rows = []
    for label, results in found.items():
        cells = [mean_std([r[score] for r in results]) for score in SCORES]
        rows.append([label, len(results), *cells])
    return f"## {name}\n\n{markdown_table(['target', 'seeds', *SCORES], rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["mnist", "faces"], help="mnist, faces, fashion, digits")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--k", type=int, default=10, help=f"components, fewer than the {M} images of a group")
    parser.add_argument("--size", type=int, nargs=2, default=(16, 16), help="height and width, to which all are scaled")
    parser.add_argument("--groups", type=int, default=512, help="to train on, of each data set")
    parser.add_argument("--unseen", type=int, default=64, help="groups of unseen images")
    parser.add_argument("--steps", type=int, default=500, help="of every training")
    parser.add_argument("--batch-size", type=int, default=8, help="groups in a step")
    parser.add_argument("--width", type=int, default=24, help="channels of the U-Net at full resolution")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of Adam")
    parser.add_argument("--seeds", type=int, default=3, help="of weights, groups and starts")
    parser.add_argument("--data-dir", default=None, help="where the data sets are; they download themselves")
    parser.add_argument("--output", type=Path, default=Path("runs/canonical_targets"))
    options = parser.parse_args()
    options.size = tuple(options.size)

    options.output.mkdir(parents=True, exist_ok=True)
    tables = [table_of(name, results_of(name, options.output, options)) for name in options.datasets]
    (options.output / "canonical_targets.md").write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))
    print(options.output)


if __name__ == "__main__":
    with interruptible():
        main()
