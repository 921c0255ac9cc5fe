"""Data sets that ship with the package; their licences are in README.md in this folder."""

from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Nuclei(NamedTuple):
    """A microscope image and its annotation."""

    image: NDArray[np.uint8]
    """(512, 512) grey values."""
    instances: NDArray[np.uint8]
    """(512, 512): 0 is background, every other value one of 125 nuclei."""


class Digits(NamedTuple):
    """Handwritten digits."""

    images: NDArray[np.uint8]
    """(1797, 8, 8) grey values from 0 to 16."""
    labels: NDArray[np.uint8]
    """(1797,) digits from 0 to 9."""


def load_digits() -> Digits:
    """Handwritten digits of 8×8 pixels.

    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49. Licence: CC BY 4.0.

    Examples
    --------
    >>> from tinyml.data import load_digits
    >>> images, labels = load_digits()
    >>> images.shape, labels[:4]
    ((1797, 8, 8), array([0, 1, 2, 3], dtype=uint8))
    """
    with np.load(str(files("tinyml.data") / "digits.npz")) as archive:
        return Digits(archive["images"], archive["labels"])


def load_nuclei() -> Nuclei:
    """Fluorescence microscopy of 125 nuclei, with each pixel's nucleus.

    From image set BBBC038v1 of the Broad Bioimage Benchmark Collection, used in the 2018 Data
    Science Bowl: Caicedo et al., Nature Methods 16, 1247–1253 (2019). Licence: CC0 1.0.

    Examples
    --------
    >>> from tinyml.data import load_nuclei
    >>> image, instances = load_nuclei()
    >>> image.shape, len(set(instances.flat)) - 1
    ((512, 512), 125)
    """
    with np.load(str(files("tinyml.data") / "nuclei.npz")) as archive:
        return Nuclei(archive["image"], archive["instances"])
