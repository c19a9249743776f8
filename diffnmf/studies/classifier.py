"""A small classifier of real images, trained once and kept."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from diffnmf.data import ImageSet
from diffnmf.errors import RunFolderError
from diffnmf.models.saved_model import save_weights
from diffnmf.studies.progress import Announce

STEPS, BATCH, SEED = 1500, 64, 0
PIECE = 4096  # images that are classified at once


def trained_classifier(file: Path, images: ImageSet, announce: Announce) -> nn.Module:
    """A convolutional network that tells the classes of the images apart; read from the file if it is there.

    Arguments:
        file: where its weights are, or go.
        images: to train on, with labels.
        announce: told before it is trained.

    Raises:
        RunFolderError: the file holds something else.
    """
    assert images.labels is not None
    device = images.images.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        classifier = _network(images.image_shape, int(images.labels.max()) + 1).to(device)
    if file.exists():
        try:
            classifier.load_state_dict(load_file(file))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise RunFolderError(f"{file}: not a classifier of these images, or damaged: {error}") from error
        return classifier.eval()
    announce(f"training a classifier of {images.name}")
    _train(classifier, images)
    save_weights(classifier.state_dict(), file)
    return classifier.eval()


def accuracy(classifier: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """Whether each of pictures (N, 1, h, w) is taken for its label (N,): (N,) bools."""
    guesses = torch.cat([classifier(piece).argmax(-1) for piece in pictures.split(PIECE)])
    return guesses == labels.to(guesses.device)


def _network(image_shape: tuple[int, int], classes: int) -> nn.Module:
    h, w = image_shape
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (h // 4) * (w // 4), classes),
    )


def _train(classifier: nn.Module, images: ImageSet) -> None:
    assert images.labels is not None
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(classifier.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        there = chosen.to(images.images.device)
        loss = F.cross_entropy(classifier(images.pixels(there).unsqueeze(1)), images.labels.to(there.device)[there])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
