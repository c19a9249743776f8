"""Images, the public data sets and a user's own, and the groups that are factorised.

Example:
    >>> from diffnmf.data import DATASETS, ORDERS, GroupSampler, load_dataset
    >>> sorted(DATASETS), ORDERS
    (['digits', 'faces', 'fashion', 'mnist'], ('class', 'random'))
    >>> images = load_dataset("digits").train
    >>> groups = GroupSampler(images, group_size=20, order="class").epoch(0)
    >>> images.labels[groups[0]]
    tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9])
"""

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
