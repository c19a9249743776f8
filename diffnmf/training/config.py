"""The options of the training, checked on construction; their defaults are those of ``diffnmf train``."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from diffnmf.checks import set_fields
from diffnmf.errors import unknown_name
from diffnmf.models.blocks import check_positive
from diffnmf.training.engine import PRECISIONS
from diffnmf.training.losses import ADVERSARIAL_FORMS, RECONSTRUCTION_LOSSES, current_loss


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained.

    Attributes:
        epochs: passes over the groups, ≥ 0; the groups themselves are drawn anew for each.
        batch_size: groups in a batch of one process.
        accumulate: batches whose gradients make one step: a step sees batch_size · accumulate groups of every process.
        learning_rate: of Adam, for the generator.
        critic_learning_rate: of Adam, for the critic. At the same rate as the generator the critic wins on MNIST within
            three epochs (accuracy above 0.9), and the reconstruction gets worse from then on.
        constant_share: share of the epochs, in [0, 1], at the full learning rates; they fall linearly in the rest.
        betas: of Adam.
        reconstruction: what is compared, see ``RECONSTRUCTION_LOSSES``: "l1" (eq. (2)), "l2" or "column_error"
            (eq. (4) over √n).
        reconstruction_weight: λ of eq. (3), on the reconstruction loss. With pix2pix's 100 the critic leads on MNIST,
            whose pixels are mostly black: the test error rises from the second epoch on. At 5000 the critic hardly
            matters: the L1 loss ends lower, both test errors higher (see docs/results).
        adversarial: False leaves the critic out: the UNET ablation of the paper's Table 2.
        adversarial_form: "non_saturating", or "saturating" as eq. (1) is written.
        flip_probability: share of the real labels that are told wrongly, in [0, 1].
        pca_rank: rank of the disturbance of the real samples; None for k.
        ema_decay: of the moving average of the generator's weights, in [0, 1), a step; 0 keeps none.
        precision: "float32", "bfloat16" or "float16" (on a GPU), of the U-Net and the critic; NNLS and the losses stay
            in float32 or better, and so do all scores.
        deterministic: only algorithms that give the same bits every time; matters on a GPU, and is slower there.
        checkpoint_every: steps between checkpoints inside an epoch; None for one at the end of each epoch only.
        picture_every: epochs between pictures of an unseen group and its factorisation; None for the end only.
        seed: of the weights, the groups and the flips.
    """

    epochs: int = 10
    batch_size: int = 4
    accumulate: int = 1
    learning_rate: float = 1e-3
    critic_learning_rate: float = 5e-5
    constant_share: float = 0.3
    betas: tuple[float, float] = (0.5, 0.999)
    reconstruction: str = "l1"
    reconstruction_weight: float = 1000.0
    adversarial: bool = True
    adversarial_form: str = "non_saturating"
    flip_probability: float = 0.1
    pca_rank: int | None = None
    ema_decay: float = 0.999
    precision: str = "float32"
    deterministic: bool = False
    checkpoint_every: int | None = None
    picture_every: int | None = 10
    seed: int = 0

    def __post_init__(self) -> None:
        set_fields(self, reconstruction=current_loss(self.reconstruction))
        for name in ("batch_size", "accumulate"):
            check_positive(name, getattr(self, name))
        if not isinstance(self.epochs, int) or self.epochs < 0:
            raise ValueError(f"epochs: expected an int ≥ 0; got {self.epochs!r}")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed: expected an int ≥ 0; got {self.seed!r}")
        for name in ("learning_rate", "critic_learning_rate"):
            _check_number(name, getattr(self, name), "finite and > 0", lambda x: 0 < x < math.inf)
        weight = self.reconstruction_weight
        _check_number("reconstruction_weight", weight, "finite and ≥ 0", lambda x: 0 <= x < math.inf)
        for name in ("flip_probability", "constant_share"):
            _check_number(name, getattr(self, name), "in [0, 1]", lambda x: 0 <= x <= 1)
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise TypeError(f"betas: expected two numbers; got {self.betas!r}")
        for beta in self.betas:
            _check_number("betas", beta, "in [0, 1)", lambda x: 0 <= x < 1)
        _check_number("ema_decay", self.ema_decay, "in [0, 1)", lambda x: 0 <= x < 1)
        names = {
            "reconstruction": RECONSTRUCTION_LOSSES,
            "adversarial_form": ADVERSARIAL_FORMS,
            "precision": PRECISIONS,
        }
        for name, known in names.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for name in ("pca_rank", "checkpoint_every", "picture_every"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))


def _check_number(name: str, value: object, range_: str, holds: Callable[[float], bool]) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)" if isinstance(value, str) else ""
        raise TypeError(f"{name}: expected a number {range_}; got {value!r}{hint}")
    if not holds(value):  # False for NaN
        raise ValueError(f"{name}: expected a number {range_}; got {value!r}")
