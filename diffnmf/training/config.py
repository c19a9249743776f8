"""The options of the training, checked on construction; their defaults are those of ``diffnmf train``."""

from dataclasses import dataclass
from typing import Any

from diffnmf.checks import check_flag, check_name, check_number, check_seed
from diffnmf.options import Options, at_least, documented, one_of, option, within
from diffnmf.training.engine import PRECISIONS
from diffnmf.training.losses import ADVERSARIAL_FORMS, RECONSTRUCTION_LOSSES, current_loss

# Headings under which options are shown; what has none is shown under "Training".
LOSSES, KEEPING = "Losses", "Checkpoints and pictures"


def _check_betas(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:  # a list, since YAML has no tuples
        raise TypeError(f"{name}: expected two numbers in [0, 1); got {value!r}")
    first, second = (check_number(name, beta, "[0, 1)") for beta in value)
    return first, second


def _check_loss(name: str, value: Any) -> str:
    return check_name(name, current_loss(value), RECONSTRUCTION_LOSSES)


@documented
@dataclass(frozen=True)
class TrainingConfig(Options):
    """How the model is trained.

    Raises:
        TypeError, ValueError: an option is of the wrong kind, unknown or out of range; the message names it.

    Example:
        >>> from diffnmf.training import TrainingConfig
        >>> TrainingConfig(epochs=3, reconstruction="relative").reconstruction_weight
        1000.0
        >>> TrainingConfig(flip_probability=2)
        Traceback (most recent call last):
            ...
        ValueError: flip_probability: expected a number in [0, 1]; got 2
    """

    epochs: int = option(10, "Passes over the groups, which are drawn anew for each.", at_least(0))
    # A step sees batch_size · accumulate groups of every process.
    batch_size: int = option(4, "Groups in a batch of one process.", at_least(1))
    accumulate: int = option(1, "Batches whose gradients make one step.", at_least(1))
    learning_rate: float = option(1e-3, "Of Adam, for the generator, per step.", within("(0, inf)"))
    # At the rate of the generator the critic wins on MNIST within three epochs (accuracy above 0.9), and the
    # reconstruction gets worse from then on.
    critic_learning_rate: float = option(5e-5, "Of Adam, for the critic, per step.", within("(0, inf)"))
    constant_share: float = option(
        0.3,
        "Share of the epochs, in [0, 1], at the full learning rates; they fall linearly in the rest.",
        within("[0, 1]"),
    )
    betas: tuple[float, float] = option(
        (0.5, 0.999), "Of Adam, two numbers in [0, 1).", _check_betas, command_line=False
    )
    reconstruction: str = option(
        "l1",
        "The reconstruction loss: l1 (eq. (2)), l2 (squared), column_error (eq. (4)), relative (squared, over the "
        "size of the group) or relative_to_start (squared, over that of the start: 1 at first; needs basis_init).",
        _check_loss,
        topic=LOSSES,
    )
    # With pix2pix's 100 the critic leads on MNIST, whose pixels are mostly black: the test error rises from the second
    # epoch on. At 5000 the critic hardly matters: the L1 loss ends lower, both test errors higher (see docs/results).
    reconstruction_weight: float = option(
        1000.0, "Lambda of eq. (3), on the reconstruction loss of pixels in [0, 1].", within("[0, inf)"), topic=LOSSES
    )
    # Terms beside the reconstruction loss, inside of lambda: what is traded against what stays the same for any lambda.
    sparsity: float = option(
        0.0, "Weight of 1 - Hoyer sparsity of H, beside the reconstruction loss.", within("[0, inf)"), topic=LOSSES
    )
    overlap: float = option(
        0.0,
        "Weight of the mean cosine of two columns of H, beside the reconstruction loss.",
        within("[0, inf)"),
        topic=LOSSES,
    )
    closeness: float = option(
        0.0,
        "Weight of 1 - mean cosine of the columns of H and the prototypes of their slots, likewise; needs basis_init.",
        within("[0, inf)"),
        topic=LOSSES,
    )
    canonical: float = option(
        0.0,
        "Weight of 1 - mean cosine of the columns of H and those of the group's merging in canonical order, beside "
        "the reconstruction loss.",
        within("[0, inf)"),
        topic=LOSSES,
    )
    # Without it: the UNET ablation of the paper's Table 2.
    adversarial: bool = option(True, "Train against a critic.", check_flag, topic=LOSSES)
    adversarial_form: str = option(
        "non_saturating",
        "The generator's adversarial loss: non_saturating, or saturating as eq. (1) is written.",
        one_of(ADVERSARIAL_FORMS),
        topic=LOSSES,
    )
    flip_probability: float = option(
        0.1,
        "Share of the real samples, in [0, 1], that the critic is told are reconstructions.",
        within("[0, 1]"),
        topic=LOSSES,
    )
    pca_rank: int | None = option(
        None, "Rank of the PCA that disturbs the real samples.", at_least(1), none="k", topic=LOSSES
    )
    ema_decay: float = option(
        0.999, "Of the moving average of the generator's weights, in [0, 1), a step; 0 keeps none.", within("[0, 1)")
    )
    precision: str = option(
        "float32",
        "float32, bfloat16 or float16 (on a GPU), of the U-Net and the critic; NNLS, losses and scores stay in float32 "
        "or better.",
        one_of(PRECISIONS),
    )
    deterministic: bool = option(
        False, "Only algorithms that give the same bits every time, on a GPU, too (slower there).", check_flag
    )
    checkpoint_every: int | None = option(
        None,
        "Steps between checkpoints inside an epoch.",
        at_least(1),
        none="at the end of an epoch",
        topic=KEEPING,
    )
    picture_every: int | None = option(
        10,
        "Epochs between pictures of an unseen group and its factors.",
        at_least(1),
        none="after the last epoch only",
        topic=KEEPING,
    )
    seed: int = option(0, "Of the weights, the groups and the flips, below 2^64.", check_seed)
