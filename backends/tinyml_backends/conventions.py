"""The conventions of max-pooling indices, and the rules for a cell that several windows chose.

In the convention "window" an index is the number of a cell in its window. In all others it is a
position in a flat array:

    index = offset + pitch · (position in the plane)

"plane" has offset 0 and pitch 1. "tensor" has pitch 1, and its offset is the number of cells in all
earlier planes. "nhwc" has the number of channels as its pitch and the channel as its offset; with
``include_batch`` the offset also counts the elements of all earlier images.
"""

from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Literal

import numpy as np

from tinyml_backends.arrays import Array
from tinyml_backends.cells import pitches
from tinyml_backends.geometry import Window

ConventionName = Literal["window", "plane", "tensor", "nhwc"]
Duplicates = Literal["last", "sum"]


@dataclass(frozen=True, slots=True)
class Convention:
    """What the numbers of an index array mean.

    Attributes
    ----------
    name : {"window", "plane", "tensor", "nhwc"}
    order : {"C", "F"}
        Whether the last ("C") or the first ("F") spatial axis varies fastest; "tensor" only.
    include_batch : bool
        Whether an index counts the elements of all earlier images; "nhwc" only.
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
        """Whether an index counts the cells of all planes before its own."""
        return self.name == "tensor" or self.include_batch

    def pitch(self, shape: tuple[int, ...], axes: int) -> int:
        """Difference between the indices of two consecutive positions in the plane."""
        return prod(shape[axes + 1 :]) if self.name == "nhwc" else 1

    def offsets(self, xp: ModuleType, shape: tuple[int, ...], axes: int, planes: range) -> Array:
        """Offset of the indices of each of some planes and of each channel, shaped to broadcast."""
        offset = xp.zeros([1] * len(shape), np.int64)
        if self.counts_planes:
            numbers = xp.arange(planes.start, planes.stop, dtype=np.int64) * prod(shape[1:])
            offset = offset + numbers.reshape(-1, *[1] * (len(shape) - 1))
        if self.name == "nhwc" and len(shape) > axes + 1:
            offset = offset + xp.arange(shape[-1], dtype=np.int64)
        return offset

    def plane_pitches(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Distance between the positions of neighbouring cells in the plane, along each axis."""
        return pitches(spatial) if self.order == "C" else pitches(spatial[::-1])[::-1]


#: The flat position of an element in a whole stack of planes, with or without an axis of channels.
IN_MEMORY = Convention("nhwc", include_batch=True)
