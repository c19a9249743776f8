"""Images, the public data sets and a user's own, and the groups that are factorised."""

from diffnmf.data.groups import ORDERS, GroupSampler, group_matrix
from diffnmf.data.images import DataSplit, ImageSet
from diffnmf.data.sources import DATASETS, load_dataset
from diffnmf.data.user_images import load_images

__all__ = [
    "DATASETS",
    "ORDERS",
    "DataSplit",
    "GroupSampler",
    "ImageSet",
    "group_matrix",
    "load_dataset",
    "load_images",
]
