"""Every table and figure of the GAN-UNET paper, with numbers where it has only pictures, and honest rivals."""

from diffnmf.studies.paper.reproduction import reproduce
from diffnmf.studies.paper.study import STUDIES, Study

__all__ = ["STUDIES", "Study", "reproduce"]
