"""Real data that ships with the package, with its licences beside it in README.md."""

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
    with np.load(str(files(__name__) / "nuclei.npz")) as archive:
        return Nuclei(archive["image"], archive["instances"])
