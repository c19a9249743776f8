"""GAN-UNET on groups of the same images: another task, whose rows stand beside the table and not in it."""

import torch

from diffnmf.data import GroupSampler, ImageSet
from diffnmf.evaluation.scoring import Scores, mean_scores
from diffnmf.factorization import factorize
from diffnmf.metrics import summarize
from diffnmf.models import GANUNMF
from diffnmf.models.pretrained import WITH_WEIGHTS, registry

LIMIT = 64  # groups
ROUNDS = 200  # of HALS on each group itself


def group_rows(dataset: str, test: ImageSet, device: torch.device | str) -> dict[str, Scores]:
    """The trained models that come with the library for this data set, and HALS on each group itself for the same k.

    Returns:
        Row -> means of ``summarize`` over at most 64 groups of unseen images; nothing where no model is for these.
    """
    rows: dict[str, Scores] = {}
    for name in WITH_WEIGHTS:
        data = registry()[name]["data"]
        if data["dataset"] != dataset:
            continue
        model = GANUNMF.pretrained(name, device=device)
        k, m = model.config.k, model.config.m
        groups = GroupSampler(test, m, order=data["order"], limit=LIMIT).epoch(0)
        images = ImageSet(test.name, test.images.to(device), test.labels)
        methods = {
            f"GAN-UNET {name}, k = {k} for {m} images": lambda Y, model=model: model.factorize(Y)[:2],
            f"HALS on the group, k = {k} for {m} images": lambda Y, k=k: factorize(
                Y, k, seed=0, max_iter=ROUNDS, tol=0.0
            )[:2],
        }
        for row, method in methods.items():
            rows[row] = mean_scores(lambda Y, method=method: summarize(Y, *method(Y)), images, groups.to(device))  # type: ignore[misc]
    return rows
