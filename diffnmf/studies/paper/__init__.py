"""Reproduces every table and figure of the GAN-UNET paper, adds numbers to its pictures, and compares with fair rivals.

The paper: Sihan Wei, "GAN-UNET: Non-negative Matrix Factorization Using Deep Neural Networks", University of Minnesota.
"""

from diffnmf.studies.paper.reproduction import reproduce
from diffnmf.studies.paper.study import STUDIES, Study

__all__ = ["STUDIES", "Study", "reproduce"]
