"""Structs that kernels take by value, field by field as in ``kernels/*.cu``.

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
    """A struct, and what it says of the sizes of arrays."""

    name: str
    index_type: DType
    data: "np.ndarray[tuple[()], np.dtype[np.void]]"
    facts: Mapping[str, int]


#: Spatial axes in a kernel; fewer are filled up with axes of length 1 in front.
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
            *((name, index) for name in ("channels", "parts", "per_channel")),
            *((name, divisor) for name in ("pixels", "part_count", "channel_count")),
        ],
    }
    return divisor if name == "Divisor" else np.dtype(fields[name])


def _divisor(number: int, index: DType) -> Any:
    """Fields of a Divisor: what turns a division into a multiplication and a shift."""
    number = max(1, number)  # of an empty array, on which nothing runs
    if index.itemsize == 8:
        return (number,)
    # q = (⌊n · factor / 2³²⌋ + n) >> shift for 0 <= n < 2³¹
    shift = (number - 1).bit_length()
    factor = (((1 << shift) - number) << 32) // number + 1
    return number, factor, shift


def divisor_struct(number: int, index: DType, name: str) -> ByValue:
    """A number to divide by, known as ``name``."""
    data = np.array(_divisor(number, index), struct_dtype("Divisor", index))
    return ByValue("Divisor", index, data, {name: number})


def struct(name: str, index: DType, **fields: Any) -> ByValue:
    """A struct by value; numbers for divisors are turned into such."""
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
    """A stack of planes of ``input_shape`` and the windows on it."""
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
    return made._replace(facts={"inputs": each * prod(input_shape), "outputs": each * prod(output)})


def farthest(input_shape: tuple[int, ...], window: Window) -> int:
    """What no number in the arithmetic of a geometry exceeds, along one axis or in one window."""
    return max(
        2 * window.count,
        *(
            length + 2 * (abs(before) + abs(after)) + 2 * extent + stride + dilation
            for length, (before, after), extent, stride, dilation in zip(
                input_shape,
                window.padding,
                window.extent,
                window.stride,
                window.dilation,
                strict=True,
            )
        ),
    )


@lru_cache(maxsize=1024)
def counted_struct(
    input_shape: tuple[int, ...],
    window: Window,
    count_include_pad: bool,
    divisor: int | None,
    index: DType,
) -> ByValue:
    """Which cells a mean counts."""
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
