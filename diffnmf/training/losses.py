"""Losses (1) and (2) of GAN-UNET, and others in their place: means, whatever the number of groups and pixels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from diffnmf.checks import check_name
from diffnmf.solvers.norms import one_where_zero

ADVERSARIAL_FORMS = ("non_saturating", "saturating")
TO_START = "relative_to_start"  # the loss that has to know where the generator begins
# A start is taken to be at least this far off, as a relative error: one that is exact could not be divided by.
SMALLEST_START_ERROR = 1e-3


def reconstruction_loss(Y_hat: Tensor, Y: Tensor, kind: str = "l1", Y_start: Tensor | None = None) -> Tensor:
    """What the generator's reconstruction is off by, in [0, ∞).

    Arguments:
        Y_hat: (B, n, m).
        Y: (B, n, m), pixels in [0, 1].
        kind: a name of ``RECONSTRUCTION_LOSSES``. "l1" is eq. (2), the mean absolute error of a pixel. "l2" is the mean
            squared error of a pixel: what NNLS minimises, so that the gradient through W vanishes. "column_error" is
            eq. (4) over √n, the mean over the images of the root mean square error of their pixels. "relative" is the
            squared relative error of a group, ‖Ŷ − Y‖²/‖Y‖²: with the penalties of H, what ``UnitColumns`` reduces.
            "relative_to_start" is the squared error over that of the start, ‖Ŷ − Y‖²/‖Y₀ − Y‖²: 1 before the first
            step on whatever images, or a little less where W fits better, so that a weight beside it means the same.
        Y_start: (B, n, m), Y₀ = H₀W₀ of the start; needed for "relative_to_start" alone.

    Raises:
        ValueError: ``kind`` is unknown, or "relative_to_start" without ``Y_start``.
    """
    loss = RECONSTRUCTION_LOSSES[check_name("reconstruction", kind, RECONSTRUCTION_LOSSES)]
    if kind == TO_START:
        if Y_start is None:
            raise ValueError(f"Y_start: expected the reconstruction of the start (B, n, m) with {TO_START!r}; got None")
        return loss(Y_hat - Y, _squares(Y_start - Y).clamp_min(SMALLEST_START_ERROR**2 * _squares(Y)))
    return loss(Y_hat - Y, _squares(Y))


def _column_loss(difference: Tensor, scale: Tensor) -> Tensor:
    # The root of zero has no derivative: an image that is met to the last bit would make the gradient NaN.
    return (difference.square().mean(dim=-2) + 1e-12).sqrt().mean()


def _relative_loss(difference: Tensor, scale: Tensor) -> Tensor:
    return (_squares(difference) / one_where_zero(scale)).mean()


# Each is told Ŷ − Y (B, n, m), and a squared length (B,) of every group, by which the relative ones divide.
RECONSTRUCTION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda difference, scale: difference.abs().mean(),
    "l2": lambda difference, scale: difference.square().mean(),
    "column_error": _column_loss,
    "relative": _relative_loss,
    TO_START: _relative_loss,
}


def _squares(X: Tensor) -> Tensor:
    return X.square().sum(dim=(-2, -1))


def current_loss(name: object) -> object:
    """A name of ``RECONSTRUCTION_LOSSES`` from a file or a user: "column_error" was called "column" at first."""
    return "column_error" if name == "column" else name


def critic_loss(real_logits: Tensor, fake_logits: Tensor, flipped: Tensor) -> Tensor:
    """Eq. (1) as the critic sees it, as binary cross-entropy, halved as in pix2pix to slow the critic down.

    Arguments:
        real_logits: (B, ...), of the disturbed sources.
        fake_logits: (B, ...), of the reconstructions.
        flipped: (B,) bool, the groups whose real label is flipped; this keeps the critic from winning outright.
    """
    labels = (~flipped).to(real_logits).view(-1, *[1] * (real_logits.ndim - 1)).expand_as(real_logits)
    real = F.binary_cross_entropy_with_logits(real_logits, labels)
    fake = F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return 0.5 * (real + fake)


def adversarial_loss(fake_logits: Tensor, form: str = "non_saturating") -> Tensor:
    """Eq. (1) as the generator sees it.

    Arguments:
        fake_logits: (B, ...), of the reconstructions.
        form: "saturating" is eq. (1) itself, mean log(1 − D); "non_saturating" is −mean log D, which has the same fixed
            points and does not vanish while the critic wins (Goodfellow et al. 2014, section 3).
    """
    if check_name("adversarial_form", form, ADVERSARIAL_FORMS) == "non_saturating":
        return F.softplus(-fake_logits).mean()  # −log σ(z)
    return -F.softplus(fake_logits).mean()  # log(1 − σ(z))


def accuracy(logits: Tensor, real: bool) -> Tensor:
    """The share of logits, in [0, 1], on the right side of zero."""
    return ((logits > 0) == real).float().mean()
