"""What indices of maxima count, and what becomes of a cell that several windows chose.

All conventions but "window" say where a maximum stands in some flat memory:

    index = offset + pitch · (position in the plane)

"plane" has offset 0 and pitch 1; "tensor" adds the cells of the planes before; "nhwc" has the
number of channels as its pitch and the channel as its offset, and adds the images before where it
includes the batch.
"""

from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Literal

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.geometry import Window, pitches

ConventionName = Literal["window", "plane", "tensor", "nhwc"]
Duplicates = Literal["last", "sum"]


@dataclass(frozen=True, slots=True)
class Convention:
    """How an index array is meant.

    Attributes
    ----------
    name : {"window", "plane", "tensor", "nhwc"}
    order : {"C", "F"}
        Whether the last or the first spatial axis is the fastest; "tensor" only.
    include_batch : bool
        Whether the images before count; "nhwc" only.
    """

    name: ConventionName
    order: Literal["C", "F"] = "C"
    include_batch: bool = False

    def limit(self, shape: tuple[int, ...], window: Window) -> int:
        """One more than the largest index in a stack of planes of ``shape``."""
        if self.name == "window":
            return window.count
        if self.name == "plane":
            return prod(shape[1 : window.axes + 1])
        return prod(shape if self.counts_planes else shape[1:])

    @property
    def counts_planes(self) -> bool:
        """Whether an index counts the cells of the planes before its own."""
        return self.name == "tensor" or self.include_batch

    def pitch(self, shape: tuple[int, ...], axes: int) -> int:
        """Distance of neighbours in the plane."""
        return prod(shape[axes + 1 :]) if self.name == "nhwc" else 1

    def offsets(self, xp: ModuleType, shape: tuple[int, ...], axes: int, planes: range) -> Array:
        """What is added for each of some planes, and each channel, shaped to broadcast."""
        offset = xp.zeros([1] * len(shape), np.int64)
        if self.counts_planes:
            numbers = xp.arange(planes.start, planes.stop, dtype=np.int64) * prod(shape[1:])
            offset = offset + numbers.reshape(-1, *[1] * (len(shape) - 1))
        if self.name == "nhwc" and len(shape) > axes + 1:
            offset = offset + xp.arange(shape[-1], dtype=np.int64)
        return offset

    def plane_pitches(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Distance of neighbours along each axis, inside the plane."""
        return pitches(spatial) if self.order == "C" else pitches(spatial[::-1])[::-1]


#: Where an element stands in the memory of a whole stack of planes, channels last or not.
IN_MEMORY = Convention("nhwc", include_batch=True)
