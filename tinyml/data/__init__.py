"""Data: packaged sets, readers of files and folders, splits, augmentation, reading ahead."""

from tinyml.data.augment import Augmented
from tinyml.data.binary import read_cifar10, read_idx
from tinyml.data.folders import Annotated, ImageClasses, ImageMasks, read_classes, read_masks
from tinyml.data.mnist import Mnist, fetch_mnist
from tinyml.data.packaged import Digits, Nuclei, load_digits, load_nuclei
from tinyml.data.pairs import read_image
from tinyml.data.prefetch import Prefetch
from tinyml.data.splits import holdout

__all__ = [
    "Annotated",
    "Augmented",
    "Digits",
    "ImageClasses",
    "ImageMasks",
    "Mnist",
    "Nuclei",
    "Prefetch",
    "fetch_mnist",
    "holdout",
    "load_digits",
    "load_nuclei",
    "read_cifar10",
    "read_classes",
    "read_idx",
    "read_image",
    "read_masks",
]
