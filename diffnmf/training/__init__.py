"""How a step of GAN-UNET is made: options, batches, losses, the loop."""

from diffnmf.training.config import TrainingConfig
from diffnmf.training.trainer import Trainer

__all__ = ["Trainer", "TrainingConfig"]
