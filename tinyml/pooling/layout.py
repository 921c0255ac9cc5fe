"""Layouts, the shapes of the arrays before and after a pooling, and checks of arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Literal, get_args

from tinyml.arrays import check_out
from tinyml_backends import Window
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.arrays import Array
from tinyml_backends.errors import warn_caller

Layout = Literal["channels_first", "channels_last"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Shapes of the arrays of a pooling, and its window; checked once for each shape of input.

    Kernels take stacks of planes: (planes, *spatial), or (samples, *spatial, channels).

    Attributes
    ----------
    window : Window
    input_shape : tuple of int
        Spatial shape of the array that is pooled.
    layout : {"channels_first", "channels_last"}
    unpooled, unpooled_stack : tuple of int
        Shape of the array that is pooled, and of its stack of planes.
    pooled, pooled_stack : tuple of int
        Shape of the result, and of its stack of planes.
    """

    window: Window
    input_shape: tuple[int, ...]
    layout: Layout
    unpooled: tuple[int, ...]
    unpooled_stack: tuple[int, ...]
    pooled: tuple[int, ...]
    pooled_stack: tuple[int, ...]


@lru_cache(maxsize=1024)
def geometry_of(
    shape: tuple[int, ...],
    window: Window,
    layout: Layout,
    input_shape: tuple[int, ...] | None = None,
) -> Geometry:
    """Geometry of a pooling of an array of ``shape``.

    With an ``input_shape``, the spatial lengths in ``shape`` are not used.
    """
    axes = window.axes
    split = len(shape) - axes - (layout == "channels_last")
    lead, spatial, channels = shape[:split], shape[split : split + axes], shape[split + axes :]
    spatial = spatial if input_shape is None else input_shape
    pooled = window.pooled_shape(spatial)
    return Geometry(
        window,
        spatial,
        layout,
        (*lead, *spatial, *channels),
        (prod(lead), *spatial, *channels),
        (*lead, *pooled, *channels),
        (prod(lead), *pooled, *channels),
    )


def geometry_for(
    name: str,
    array: Array,
    window: Window,
    layout: Layout,
    input_shape: tuple[int, ...] | None = None,
) -> Geometry:
    """As `geometry_of`, after a check of the layout and of the array's rank."""
    check_layout(layout)
    check_rank(name, array, window.axes)
    return geometry_of(tuple(array.shape), window, layout, input_shape)


def geometry_from(
    shape: tuple[int, ...],
    size: IntPerAxis,
    stride: IntPerAxis | None,
    padding: PaddingPerAxis,
    dilation: IntPerAxis,
    ceil_mode: bool,
    layout: Layout | None,
) -> Geometry:
    """Geometry of a pooling of an array of ``shape``, from the arguments of `tinyml.max_pool`.

    Where ``layout`` is None, channels are first, and a shape that looks otherwise gives a warning.

    Results are cached: checking the arguments takes longer than pooling a small array.

    Raises
    ------
    TypeError, ValueError
        As for `tinyml.max_pool`.
    """
    # 1, 1.0 and True are equal as cache keys, so the cache serves only ints and tuples of ints
    is_key = (
        (type(size) is int or _is_ints(size))
        and (stride is None or type(stride) is int or _is_ints(stride))
        and (type(padding) is int or _is_ints(padding))
        and (type(dilation) is int or _is_ints(dilation))
        and (layout is None or type(layout) is str)
        and type(ceil_mode) is bool
    )
    build = _from_arguments if is_key else _from_arguments.__wrapped__
    return build(shape, layout, size, stride, padding, dilation, ceil_mode)


def _is_ints(value: object) -> bool:
    return type(value) is tuple and all(type(v) is int for v in value)


@lru_cache(maxsize=1024)
def _from_arguments(shape: tuple[int, ...], layout: Layout | None, *window: Any) -> Geometry:
    axes = axes_of("x", shape, window[0])
    if layout is None:
        warn_if_misread(shape, window[0])
        layout = "channels_first"
    check_layout(layout)
    return geometry_of(shape, Window.of(axes, *window), layout)


def warn_if_misread(shape: tuple[int, ...], size: object, argument: str = "size") -> None:
    """Warn where an int for every spatial axis may not mean the axes that the user has in mind."""
    if isinstance(size, Sequence):
        return
    if len(shape) == 3:
        last = ", with layout= if its channels are last" if argument == "size" else ""
        warn_caller(
            f"x has shape {shape} and {argument} is {size}, so it is read as (samples, channels, "
            f"length). Pass {argument}=({size}, {size}) for one image{last}; "
            f"{argument}=({size},) keeps this and does not warn"
        )
    elif len(shape) == 4 and 1 <= shape[3] <= 4 and min(shape[1:3]) >= 16:
        warn_caller(
            f"x has shape {shape} and is read as (samples, channels, height, width). If its "
            f'channels are last, pass layout="channels_last"; layout="channels_first" or '
            f"{argument}=({size}, {size}) keeps this and does not warn"
        )


def axes_of(name: str, shape: tuple[int, ...], size: object, argument: str = "size") -> int:
    """Return the number of spatial axes, from ``size`` and the rank of an array."""
    if isinstance(size, Sequence):
        axes = len(size)
        fits = len(shape) in (axes + 1, axes + 2)
    else:
        axes = len(shape) - 2
        fits = True
    if not (fits and 1 <= axes <= 3):
        raise ValueError(
            f"{name} has shape {shape} and {argument} is {size!r}; {name} must have samples, "
            "channels and one to three spatial axes, one for each entry of a tuple "
            f"{argument} (samples may then be left out)"
        )
    return axes


def check_layout(layout: str) -> None:
    """Raise ValueError for an unknown layout."""
    if layout not in get_args(Layout):
        allowed = " or ".join(map(repr, get_args(Layout)))
        raise ValueError(f"layout is {layout!r}; it must be {allowed}")


def check_rank(name: str, array: Array, axes: int, *, filled: int = 0) -> None:
    """Raise ValueError for another rank, or an empty axis among the last ``filled``."""
    if array.ndim not in (axes + 1, axes + 2) or (filled and 0 in array.shape[-filled:]):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}; it must have channels, or samples and "
            f"channels, and {axes} spatial axes{' that are not empty' if filled else ''}"
        )


def check_indices(indices: Array) -> None:
    """Raise TypeError for indices that are not integers."""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices have dtype {indices.dtype}; they must be integers")


def out_stack(
    out: Array | None, shape: tuple[int, ...], stack: tuple[int, ...], *inputs: tuple[str, Array]
) -> Array | None:
    """``out`` as the stack of planes that a kernel writes; its dtype must be the first input's."""
    if out is None:
        return None
    check_out("out", out, shape, inputs[0][1].dtype, *inputs)
    return out.reshape(stack)
