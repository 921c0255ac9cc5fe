"""Data: packaged sets, readers of folders, splits, and a thread that reads ahead."""

from tinyml.data.folders import Annotated, ImageClasses, ImageMasks, read_classes, read_masks
from tinyml.data.packaged import Digits, Nuclei, load_digits, load_nuclei
from tinyml.data.pairs import read_image
from tinyml.data.prefetch import Prefetch
from tinyml.data.splits import holdout

__all__ = [
    "Annotated",
    "Digits",
    "ImageClasses",
    "ImageMasks",
    "Nuclei",
    "Prefetch",
    "holdout",
    "load_digits",
    "load_nuclei",
    "read_classes",
    "read_image",
    "read_masks",
]
