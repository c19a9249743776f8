"""Training GAN-UNET: configuration, losses, the loop, and the folder that a run leaves behind."""

from diffnmf.training.config import RunConfig
from diffnmf.training.options import DataConfig, ModelConfig, TrainingConfig
from diffnmf.training.presets import PRESETS
from diffnmf.training.run_folder import RunFolder
from diffnmf.training.trainer import Trainer

__all__ = ["PRESETS", "DataConfig", "ModelConfig", "RunConfig", "RunFolder", "Trainer", "TrainingConfig"]
