"""What is asked of a system that has learnt: its error on unseen images, its parts, its weights, and its codes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from diffnmf.autoencoders.learning import minimize
from diffnmf.data import ImageSet
from diffnmf.evaluation.scoring import Scores
from diffnmf.metrics import hoyer_H, part_overlap, relative_error
from diffnmf.studies.related.systems import Learnt

RIDGE = 1e-4  # of the linear classifier, whose codes have unit variance
STEPS = 200  # of L-BFGS for it
PIECE = 1000  # samples whose neighbours are looked for at once
NOT_MEASURED = float("nan")


def samples_of(images: ImageSet) -> Tensor:
    """The images as rows (N, n) in [0, 1]."""
    return images.pixels(torch.arange(len(images), device=images.images.device)).flatten(1)


@torch.no_grad()
def scores_of(system: Learnt, train: ImageSet, test: ImageSet) -> Scores:
    """The scores of a system that has learnt from ``train``, on ``test``.

    Returns:
        ``relative_error`` of all unseen images together; ``hoyer_H`` and ``part_overlap`` of the components;
        ``negative_share`` and ``smallest_weight`` of the weights that should be non-negative; ``linear_accuracy`` and
        ``neighbour_accuracy`` of classifiers of the codes that learn from the training images, NaN without classes.
    """
    unseen = samples_of(test)
    codes = system.encode(unseen)
    weights = torch.cat([weight.flatten() for weight in system.weights])
    scores = {
        "relative_error": relative_error(unseen.mT, system.decode(codes).mT).item(),
        "hoyer_H": hoyer_H(system.components.mT).item(),
        "part_overlap": part_overlap(system.components.mT).item(),
        "negative_share": (weights < 0).double().mean().item(),
        "smallest_weight": weights.min().item(),
        "linear_accuracy": NOT_MEASURED,
        "neighbour_accuracy": NOT_MEASURED,
    }
    if train.labels is not None and test.labels is not None:
        known = system.encode(samples_of(train))
        guesses = {
            "linear_accuracy": linear_guesses(known, train.labels, codes),
            "neighbour_accuracy": neighbour_guesses(known, train.labels, codes),
        }
        scores |= {name: (guess == test.labels).double().mean().item() for name, guess in guesses.items()}
    return scores


def linear_guesses(codes: Tensor, labels: Tensor, unseen: Tensor) -> Tensor:
    """The classes (M,) of unseen codes (M, k) by multinomial logistic regression on codes (N, k) with labels (N,).

    Codes are brought to mean 0 and variance 1 first, by those that it learns from; what never varies is left at 0.
    """
    mean, spread = codes.mean(dim=0), codes.std(dim=0)
    scale = torch.where(spread > 0, 1 / spread, 0.0)
    X, classes = ((codes - mean) * scale).double(), int(labels.max()) + 1
    weight, bias = X.new_zeros(classes, X.shape[1]).requires_grad_(), X.new_zeros(classes).requires_grad_()
    with torch.enable_grad():
        minimize(
            lambda: F.cross_entropy(F.linear(X, weight, bias), labels) + RIDGE * weight.square().sum() / 2,
            [weight, bias],
            max_iter=STEPS,
        )
    return F.linear(((unseen - mean) * scale).double(), weight.detach(), bias.detach()).argmax(dim=1)


def neighbour_guesses(codes: Tensor, labels: Tensor, unseen: Tensor) -> Tensor:
    """The class (M,) of the code of (N, k) that is nearest to each of (M, k); the first where several are."""
    return torch.cat([labels[torch.cdist(piece, codes).argmin(dim=1)] for piece in unseen.split(PIECE)])
