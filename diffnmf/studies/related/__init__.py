"""The systems of the related work in one table: what each is good for, on the same images."""

from diffnmf.studies.related.measure import measure_related
from diffnmf.studies.related.systems import SYSTEMS

__all__ = ["SYSTEMS", "measure_related"]
