"""Training GAN-UNET: configuration, losses, the loop, and the folder that a run leaves behind."""

from diffnmf.training.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from diffnmf.training.run_folder import RunFolder
from diffnmf.training.trainer import Trainer

__all__ = ["DataConfig", "ModelConfig", "RunConfig", "RunFolder", "Trainer", "TrainingConfig"]
