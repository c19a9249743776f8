"""Parts of handwritten digits: choose how many, find them, and see them. Needs no download.

Leaves the pictures digits_rank.png and digits_parts.png in the folder it runs in.
"""

import argparse

import torch
from sklearn.datasets import load_digits

from diffnmf import NMF
from diffnmf.factorization import cross_validate_rank, svd_curve
from diffnmf.figures.curves import save_rank_selection
from diffnmf.figures.montages import save_image_grid, unit_peak
from diffnmf.interrupts import interruptible


def main(samples: int = 1797) -> int:
    X = load_digits().data[:samples] / 16.0  # (samples, 64): images of 8 × 8 pixels in rows, in [0, 1]

    Y = torch.from_numpy(X.T)  # (64, samples): the library's own functions have samples in columns
    scores = cross_validate_rank(Y, range(2, 25, 2))
    k = int(scores.best)
    save_rank_selection("digits_rank.png", scores, svd_curve(Y), title="Handwritten digits")
    print(f"{k} parts predict hidden pixels best: relative error {scores.mean.min():.3f}")

    model = NMF(n_components=k, random_state=0, max_iter=1000).fit(X)
    parts = torch.from_numpy(model.components_.T)  # (64, k)
    save_image_grid("digits_parts.png", unit_peak(parts), (8, 8), title=f"{k} parts, each scaled to its maximum")
    print(f"relative error {model.errors_[-1]:.3f} after {model.n_iter_} iterations")
    return k


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # it has no options, and refuses some
    with interruptible():
        main()
