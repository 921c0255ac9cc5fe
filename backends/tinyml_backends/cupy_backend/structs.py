"""Structs that kernels take by value, declared with the same fields in ``kernels/``.

Each is a NumPy array of size one, which CuPy passes by value.
"""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyml_backends.geometry import Window

DType: TypeAlias = "np.dtype[Any]"


class ByValue(NamedTuple):
    """A struct, and the sizes in it that `Elements.count` uses."""

    name: str
    index_type: DType
    data: "np.ndarray[tuple[()], np.dtype[np.void]]"
    sizes: Mapping[str, int]


#: Spatial axes in a kernel. If an array has fewer, axes of length 1 are inserted before them.
AXES = 3


@cache
def struct_dtype(name: str, index: DType) -> DType:
    """Memory layout of a struct for one type of index arithmetic."""
    divisor = np.dtype(
        [("value", "i4"), ("factor", "u4"), ("shift", "i4")]
        if index.itemsize == 4
        else [("value", "i8")]
    )
    fields: dict[str, list[tuple[Any, ...]]] = {
        "Geometry": [
            ("planes", index),
            ("channels", divisor),
            *((axis, divisor, AXES) for axis in ("input", "output", "size", "stride", "dilation")),
            *((axis, index, AXES) for axis in ("before", "extent", "reach")),
        ],
        "Counted": [("low", index, AXES), ("high", index, AXES), ("divisor", "i8")],
        "Columns": [("samples", divisor), ("image_channels", divisor), ("cells", divisor)],
        "Flat": [("of_plane", index), ("of_channel", index), ("pitch", divisor)],
        "Images": [
            ("per_channel", index),
            *((name, divisor) for name in ("pixels", "partials", "channels")),
        ],
    }
    return divisor if name == "Divisor" else np.dtype(fields[name])


def _divisor(number: int, index: DType) -> Any:
    """Fields of a Divisor: a kernel divides int32 by a multiplication and a shift."""
    if index.itemsize == 8:
        return (number,)
    # q = (⌊n · factor / 2³²⌋ + n) >> shift for 0 <= n < 2³¹. No kernel divides by a length of 0.
    divisor = max(1, number)
    shift = (divisor - 1).bit_length()
    factor = (((1 << shift) - divisor) << 32) // divisor + 1
    return number, factor, shift


def divisor_struct(number: int, index: DType, name: str) -> ByValue:
    """A Divisor whose number has the key ``name`` in `ByValue.sizes`."""
    data = np.array(_divisor(number, index), struct_dtype("Divisor", index))
    return ByValue("Divisor", index, data, {name: number})


def struct(name: str, index: DType, **fields: Any) -> ByValue:
    """A struct by value; a field of type Divisor is given as its number."""
    data = np.zeros((), struct_dtype(name, index))
    for field, value in fields.items():
        data[field] = _filled(data.dtype[field], value, index)
    data.flags.writeable = False
    return ByValue(name, index, data, {k: v for k, v in fields.items() if isinstance(v, int)})


def _filled(dtype: DType, value: Any, index: DType) -> Any:
    if dtype.subdtype is not None:
        return [_filled(dtype.subdtype[0], one, index) for one in value]
    return _divisor(value, index) if dtype == struct_dtype("Divisor", index) else value


@lru_cache(maxsize=1024)
def geometry_struct(
    planes: int, channels: int, input_shape: tuple[int, ...], window: Window, index: DType
) -> ByValue:
    """Geometry of a stack of planes of ``input_shape`` and of its windows."""
    extent, output = window.extent, window.output_shape(input_shape)
    made = struct(
        "Geometry",
        index,
        planes=planes,
        channels=channels,
        input=_three(input_shape, 1),
        output=_three(output, 1),
        size=_three(window.size, 1),
        stride=_three(window.stride, 1),
        dilation=_three(window.dilation, 1),
        before=_three(window.padding_before, 0),
        extent=_three(extent, 1),
        reach=_three([(e - 1) // s for e, s in zip(extent, window.stride, strict=True)], 0),
    )
    each = planes * channels
    return made._replace(sizes={"inputs": each * prod(input_shape), "outputs": each * prod(output)})


def largest_offset(input_shape: tuple[int, ...], window: Window) -> int:
    """Upper bound of all numbers in index arithmetic along one axis or inside one window."""
    axes = zip(
        *(input_shape, window.padding, window.extent, window.stride, window.dilation), strict=True
    )
    return max(
        2 * window.count,
        *(n + 2 * (abs(low) + abs(high)) + 2 * e + s + d for n, (low, high), e, s, d in axes),
    )


@lru_cache(maxsize=1024)
def counted_struct(
    input_shape: tuple[int, ...],
    window: Window,
    count_include_pad: bool,
    divisor: int | None,
    index: DType,
) -> ByValue:
    """The cells that count in the divisor of a mean."""
    padding = window.padding if count_include_pad else ((0, 0),) * window.axes
    return struct(
        "Counted",
        index,
        low=_three([-before for before, _ in padding], 0),
        high=_three([n + after for n, (_, after) in zip(input_shape, padding, strict=True)], 1),
        divisor=divisor or 0,
    )


def _three(values: Sequence[int], fill: int) -> tuple[int, ...]:
    return (fill,) * (AXES - len(values)) + tuple(values)
