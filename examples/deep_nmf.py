"""Parts that are made of parts: deep NMF on images, level by level and end to end, without labels and with them.

    python examples/deep_nmf.py                      # MNIST; a minute; a table and a picture in runs/deep_nmf

Every row is one learning, judged on unseen images: the relative error of each level, and how many labels are right, of
the linear head where there is one, otherwise of a logistic regression on the codes of the training images. The picture
shows the parts of the coarse level, learnt end to end without labels, each before the fine parts that it is made of.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffnmf.autoencoders import DeepNMF
from diffnmf.data import DATASETS, ImageSet, load_dataset
from diffnmf.figures.hierarchy import save_hierarchy
from diffnmf.interrupts import interruptible
from diffnmf.metrics import relative_error
from diffnmf.studies.report import markdown_table

HEADER = ["learning", "label weight", "fine level", "coarse level", "accuracy", "CPU seconds"]


def samples(images: ImageSet, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images as rows (N, n), drawn at random, and their labels (N,)."""
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    assert images.labels is not None
    return images.pixels(chosen).flatten(1), images.labels[chosen]


@torch.no_grad()
def errors(model: DeepNMF, X: Tensor) -> list[float]:
    """The relative error of each level."""
    levels = enumerate(model.encode_levels(X))
    return [relative_error(X, codes @ model.level_components(level)).item() for level, codes in levels]


@torch.no_grad()
def accuracy(model: DeepNMF, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """The share of right labels of unseen images."""
    if model.head is not None:
        return (model.predict(test[0]) == test[1]).double().mean().item()
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(model.encode(train[0]).numpy(), train[1].numpy())
    return float(classifier.score(model.encode(test[0]).numpy(), test[1].numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="mnist", choices=DATASETS)
    parser.add_argument("--count", type=int, default=4000, help="images to learn from")
    parser.add_argument("--unseen", type=int, default=1000, help="images to judge on")
    parser.add_argument("--hidden", type=int, default=40, help="components of the fine level")
    parser.add_argument("--k", type=int, default=10, help="of the coarse one")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--label-weights", type=float, nargs="*", default=[0.01, 0.1, 1.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", default=None, help="where the data sets are; they download themselves")
    parser.add_argument("--output", type=Path, default=Path("runs/deep_nmf"))
    options = parser.parse_args()

    split = load_dataset(options.dataset, data_dir=options.data_dir)
    train, test = samples(split.train, options.count, options.seed), samples(split.test, options.unseen, options.seed)
    classes = int(train[1].max()) + 1
    ways = [("level by level", 0, None), ("end to end", options.epochs, None)]
    ways += [("end to end", options.epochs, weight) for weight in options.label_weights]
    rows, models = [], []
    for name, epochs, weight in ways:
        head: dict[str, Any] = {} if weight is None else {"classes": classes, "label_weight": weight}
        start = time.process_time()
        model = DeepNMF(
            train[0].shape[1], options.k, hidden=(options.hidden,), epochs=epochs, seed=options.seed, **head
        )
        model.fit(*(train[:1] if weight is None else train))
        seconds = time.process_time() - start
        rows.append([name, weight, *errors(model, test[0]), accuracy(model, train, test), round(seconds)])
        models.append(model)

    table = markdown_table(HEADER, rows)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "deep_nmf.md").write_text(f"{table}\n", encoding="utf-8")
    fine, mixing = models[1].level_components(0).T, models[1].level_weights(1).T
    title = f"{split.train.name}: {options.k} coarse parts of {options.hidden} fine ones"
    save_hierarchy(options.output / "hierarchy.png", fine, mixing, split.train.image_shape, title=title)
    print(table)
    print(options.output)


if __name__ == "__main__":
    with interruptible():
        main()
