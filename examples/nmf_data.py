"""Matrices of every kind that the starts of NMF are compared on: images, planted parts, word counts, spectrograms.

Each is a function without arguments that gives Y (B, n, m), float32, columns as samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffnmf.data import GroupSampler, group_matrix, load_dataset


@dataclass(frozen=True)
class Case:
    """A name, what makes Y (B, n, m), and how many components are looked for."""

    name: str
    make: Callable[[], Tensor]
    k: int


def image_groups(dataset: str, count: int, seed: int, data_dir: str | None, m: int = 40) -> Tensor:
    """Groups of unseen images in random order; faces are so few that those of the training are taken."""
    split = load_dataset(dataset, data_dir=data_dir)
    images = split.train if dataset == "faces" else split.test
    sampler = GroupSampler(images, m, seed=seed)
    epochs = -(-count // len(sampler))
    return group_matrix(images, torch.cat([sampler.epoch(epoch) for epoch in range(epochs)])[:count])


def images(dataset: str, count: int, data_dir: str | None) -> Tensor:
    """One matrix of images drawn at random."""
    train = load_dataset(dataset, data_dir=data_dir).train
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:count]
    return group_matrix(train, chosen)[None]


def planted(n: int, m: int, rank: int, *, share: float = 1.0, noise: float = 0.0, batch: int = 4) -> Tensor:
    """HW with uniform entries, of which a share is not zero, and noise relative to the deviation of HW."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < share)

    Y = draw(batch, n, rank) @ draw(batch, rank, m)
    return (Y + noise * Y.std() * torch.randn(Y.shape, generator=generator)).clamp(min=0)


def word_counts(words: int = 1000, documents: int = 800, topics: int = 20) -> Tensor:
    """Counts of words in documents that mix a few topics each."""
    random = np.random.default_rng(0)
    topic_words = random.dirichlet(np.full(words, 0.05), topics)
    shares = random.dirichlet(np.full(topics, 0.1), documents)
    lengths = random.poisson(100, documents) + 5
    counts = [random.multinomial(length, share @ topic_words) for length, share in zip(lengths, shares, strict=True)]
    return torch.tensor(np.stack(counts).T, dtype=torch.float32)[None]


def spectrogram(bins: int = 257, frames: int = 500, notes: int = 12) -> Tensor:
    """Notes with eleven harmonics that are struck and fade, with a floor of noise."""
    random = np.random.default_rng(0)
    frequency = np.arange(bins)[:, None]
    base = random.uniform(4, 20, notes)
    sounds = sum(np.exp(-0.5 * ((frequency - h * base) / 1.2) ** 2) / h for h in range(1, 12))
    loudness = np.zeros((notes, frames))
    for note in range(notes):
        for start in random.integers(0, frames, 8):
            length = min(frames - start, 60)
            loudness[note, start : start + length] += random.uniform(0.5, 1) * np.exp(-np.arange(length) / 20)
    floor = 0.01 * random.exponential(size=(bins, frames))
    return torch.tensor(sounds @ loudness + floor, dtype=torch.float32)[None]


def cases(data_dir: str | None) -> list[Case]:
    """The matrices of the comparison, small ones first within a kind."""

    def groups(dataset: str) -> Callable[[], Tensor]:
        return lambda: image_groups(dataset, 8, 0, data_dir)

    def matrix(dataset: str, count: int) -> Callable[[], Tensor]:
        return lambda: images(dataset, count, data_dir)

    return [
        *(Case(f"{name} groups, 784×40", groups(name), k) for name in ("mnist", "fashion") for k in (2, 10, 20, 30)),
        *(Case("faces groups, 4096×40", groups("faces"), k) for k in (5, 10, 30)),
        *(Case("digits, 64×1437", matrix("digits", 1437), k) for k in (5, 10, 30, 64)),
        *(Case("mnist, 784×2000", matrix("mnist", 2000), k) for k in (10, 50, 100)),
        Case("fashion, 784×2000", matrix("fashion", 2000), 50),
        *(Case("faces, 4096×320", matrix("faces", 320), k) for k in (20, 50, 100)),
        Case("rank 5, 200×100", lambda: planted(200, 100, 5), 5),
        Case("rank 20, 200×100", lambda: planted(200, 100, 20), 20),
        Case("rank 10 and noise, 200×100", lambda: planted(200, 100, 10, noise=0.1), 10),
        Case("sparse parts, 200×150", lambda: planted(200, 150, 10, share=0.3), 10),
        Case("sparse parts and noise, 300×200", lambda: planted(300, 200, 20, share=0.3, noise=0.2), 20),
        Case("very sparse parts, 300×200", lambda: planted(300, 200, 20, share=0.1), 20),
        Case("very sparse parts and noise, 300×200", lambda: planted(300, 200, 20, share=0.1, noise=0.3), 20),
        Case("tall, 2000×60", lambda: planted(2000, 60, 20, share=0.3, noise=0.2, batch=1), 20),
        Case("wide, 60×2000", lambda: planted(60, 2000, 20, share=0.3, noise=0.2, batch=1), 20),
        *(Case("word counts, 1000×800", word_counts, k) for k in (5, 20, 50)),
        *(Case("spectrogram, 257×500", spectrogram, k) for k in (5, 12, 30)),
        Case("uniform noise, 20×100", lambda: planted(20, 100, 20, noise=1.0, batch=1), 5),
    ]
