"""Four protocols to score a way of factorising groups: that of the paper, and fair ones.

What Table 1 of the GAN-UNET paper calls the test error of a classical method is ``frozen``: HW of a training group is
compared with a test group that the method never saw. The network, however, does see the test group (``refit``). The
fair protocols for a classical method are ``refit_w`` and ``refit``; the latter is what a user does without a network.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffnmf.checks import check_flag, check_floating, check_same_device, set_fields
from diffnmf.evaluation.scoring import Scores, mean_of, reconstruction_errors
from diffnmf.hardware import now
from diffnmf.layers import NNLSLayer
from diffnmf.metrics import summarize

PROTOCOLS = ("fit", "frozen", "refit_w", "refit")
BATCH = 16  # ANLS on groups of faces takes 0.1 GB a group


@dataclass(frozen=True)
class Factorizer:
    """A way to factorise groups, as two functions.

    Attributes:
        factorize: Y (B, n, m) to H (B, n, k) and W (B, k, m).
        weights: H (B, n, k) and Y (B, n, m) to the W (B, k, m) that fits Y best with this H; by default with W ≥ 0.
        non_negative: whether H and W are non-negative. Otherwise only the errors are scored, since sparsity, copying
            and the like mean nothing.

    Example:
        >>> import torch
        >>> from diffnmf.evaluation import Factorizer
        >>> from diffnmf.factorization import merge
        >>> factorizer = Factorizer(lambda Y: merge(Y, 3))
        >>> H, W = factorizer.factorize(torch.rand(2, 30, 20))
        >>> factorizer.weights(H, torch.rand(2, 30, 8)).shape  # of other columns in the same parts
        torch.Size([2, 3, 8])
    """

    factorize: Callable[[Tensor], tuple[Tensor, Tensor]]
    weights: Callable[[Tensor, Tensor], Tensor] = field(default_factory=lambda: NNLSLayer(backward="detached"))
    non_negative: bool = True

    def __post_init__(self) -> None:
        set_fields(self, non_negative=check_flag("non_negative", self.non_negative))


@torch.no_grad()
def run_protocols(factorizer: Factorizer, train: Tensor, test: Tensor) -> dict[str, Scores]:
    """Score a factorizer under every protocol, as means over the groups.

    - ``fit``: factorise a training group, and compare HW with that group.
    - ``frozen``: compare the same HW with a test group. Column i of one is compared with column i of the other, which
      are images of different classes unless the columns of both are sorted by class.
    - ``refit_w``: keep the H of the training group, and solve for the best W for the test group.
    - ``refit``: factorise the test group itself. For a trained network this is its test error.

    Arguments:
        factorizer: what is scored.
        train: (G, n, m), groups of training images.
        test: (G, n, m), groups of test images; test group i is paired with training group i.

    Returns:
        protocol -> scores: ``column_error`` (also as ``eps``) and ``relative_error``; for ``fit`` and ``refit`` also
        the other scores of ``summarize`` (where H and W are non-negative) and ``seconds``, the wall-clock time of a
        group.

    Raises:
        TypeError, ValueError: train and test are no groups of the same shape and dtype.

    Example:
        >>> import torch
        >>> from diffnmf.evaluation import Factorizer, run_protocols
        >>> from diffnmf.factorization import merge
        >>> scores = run_protocols(Factorizer(lambda Y: merge(Y, 3)), torch.rand(4, 30, 20), torch.rand(4, 30, 20))
        >>> list(scores)
        ['fit', 'frozen', 'refit_w', 'refit']
        >>> scores["refit"]["relative_error"] < scores["refit_w"]["relative_error"] < scores["frozen"]["relative_error"]
        True
    """
    check_same_device("test", check_floating("test", test), "train", check_floating("train", train).device)
    if train.shape != test.shape or train.ndim != 3 or len(train) == 0:
        raise ValueError(
            f"train and test: expected groups (G, n, m), G ≥ 1, of the same shape; got {tuple(train.shape)} and "
            f"{tuple(test.shape)} (take as many groups of each)"
        )
    if train.dtype != test.dtype:
        raise TypeError(f"test: expected the dtype of train, {train.dtype}; got {test.dtype} (convert one with .to)")
    H, W, seconds = _factorize(factorizer, train)
    H_test, W_test, seconds_test = _factorize(factorizer, test)
    refitted = torch.cat([h @ factorizer.weights(h, y) for h, y in _batches(H, test)])
    return {
        "fit": {**_scores(factorizer, train, H, W), "seconds": seconds},
        "frozen": _errors(test, H @ W),
        "refit_w": _errors(test, refitted),
        "refit": {**_scores(factorizer, test, H_test, W_test), "seconds": seconds_test},
    }


def _factorize(factorizer: Factorizer, groups: Tensor) -> tuple[Tensor, Tensor, float]:
    """H, W, and the seconds per group."""
    start = now(groups.device)
    parts = [factorizer.factorize(batch) for batch in groups.split(BATCH)]
    seconds = (now(groups.device) - start) / len(groups)
    H, W = (torch.cat(part) for part in zip(*parts, strict=True))
    return H, W, seconds


def _scores(factorizer: Factorizer, Y: Tensor, H: Tensor, W: Tensor) -> Scores:
    if not factorizer.non_negative:
        return _errors(Y, H @ W)
    return mean_of(summarize(*batch) for batch in _batches(Y, H, W))


def _errors(Y: Tensor, Y_hat: Tensor) -> Scores:
    return mean_of([reconstruction_errors(Y, Y_hat)])


def _batches(*matrices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(matrix.split(BATCH) for matrix in matrices), strict=True)
