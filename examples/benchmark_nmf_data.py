"""NMF of a sparse corpus and of a spectrogram (Kullback-Leibler), against scikit-learn: time to the same error.

    python examples/benchmark_nmf_data.py --part corpus        # 11,000 documents, 40,000 words, about 0.4 %, k = 50
    python examples/benchmark_nmf_data.py --part spectrogram   # 513 frequencies, 4,000 frames, k = 20

Both begin from the same factors, on one thread. scikit-learn runs a number of iterations; the other one the least
number after which its error is not larger, which is looked for beforehand and not timed.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import save_csv
from scipy import sparse
from sklearn.decomposition import non_negative_factorization
from sklearn.feature_extraction.text import TfidfTransformer

from diffnmf.factorization import HALS, MU, Factors, factorize
from diffnmf.factorization.sample_arrays import sparse_tensor_of
from nmf_data_race import Race


def corpus(documents: int, words: int, topics: int = 60) -> sparse.csr_matrix:
    """Documents drawn from topics over words whose frequencies follow Zipf's law, weighted as tf-idf."""
    random = np.random.default_rng(0)
    frequencies = random.gamma(0.05, 1, (topics, words)) / np.arange(1, words + 1)
    cumulative = (frequencies / frequencies.sum(1, keepdims=True)).cumsum(1)
    rows, columns = [], []
    for document in range(documents):
        mixture = random.dirichlet(np.full(topics, 0.05))
        topic = random.choice(topics, size=int(random.gamma(2, 110)) + 20, p=mixture)
        place = random.random(len(topic))
        for t in np.unique(topic):
            found = np.searchsorted(cumulative[t], place[topic == t])
            columns.append(np.minimum(found, words - 1))
            rows.append(np.full(len(found), document))
    entries = (np.concatenate(rows), np.concatenate(columns))
    counts = sparse.csr_matrix((np.ones(len(entries[0])), entries), shape=(documents, words))
    counts.sum_duplicates()
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts).tocsr()


def spectrogram(frequencies: int, frames: int, sources: int = 20) -> np.ndarray:
    """Power of sources that come and go, with the multiplicative noise of a spectrogram; frames in rows."""
    random = np.random.default_rng(0)
    power = random.gamma(0.3, 1, (frames, sources)) @ random.gamma(0.3, 1, (sources, frequencies))
    return power * random.gamma(2, 0.5, power.shape)


def start(X: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """W and H, with the mean of X."""
    random = np.random.default_rng(1)
    scale = 2 * np.sqrt(X.mean() / k)
    W, H = (scale * (random.random(shape) + 0.01) for shape in ((X.shape[0], k), (k, X.shape[1])))
    return W.astype(X.dtype), H.astype(X.dtype)
