"""Where channels stand, the shapes on both sides of a pooling, and the checks of their ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, get_args

from tinyml.arrays import check_out
from tinyml_backends import Window
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.arrays import Array

Layout = Literal["channels_first", "channels_last"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A pooling of arrays of one shape, checked.

    Kernels get stacks of planes: (planes, *spatial), or (samples, *spatial, channels).

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
    shape: tuple[int, ...], window: Window, input_shape: tuple[int, ...], layout: Layout
) -> Geometry:
    """Geometry for the samples and channels of ``shape``, whose spatial part does not matter."""
    pooled, axes = window.pooled_shape(input_shape), window.axes
    last = 0 if layout == "channels_first" else 1
    split = len(shape) - axes - last
    lead, channels = shape[:split], shape[split + axes :]
    return Geometry(
        window,
        input_shape,
        layout,
        (*lead, *input_shape, *channels),
        (prod(lead), *input_shape, *channels),
        (*lead, *pooled, *channels),
        (prod(lead), *pooled, *channels),
    )


def geometry_of_input(x: Array, window: Window, layout: Layout) -> Geometry:
    """Geometry of a pooling of ``x``."""
    check_layout(layout)
    check_rank("x", x, window.axes)
    shape = tuple(x.shape)
    return geometry_of(shape, window, _spatial(shape, window.axes, layout), layout)


def geometry_of_arguments(
    shape: tuple[int, ...],
    size: IntPerAxis,
    stride: IntPerAxis | None,
    padding: PaddingPerAxis,
    dilation: IntPerAxis,
    ceil_mode: bool,
    layout: Layout,
) -> Geometry:
    """Geometry of a pooling of an array "x" of ``shape``, from what a user wrote.

    It is cached: checking the arguments takes longer than pooling a small array.

    Raises
    ------
    TypeError, ValueError
        As for `tinyml.max_pool`.
    """
    # 1, 1.0 and True are one key, so that only ints and tuples of ints are looked up
    is_key = (
        (type(size) is int or _is_ints(size))
        and (stride is None or type(stride) is int or _is_ints(stride))
        and (type(padding) is int or _is_ints(padding))
        and (type(dilation) is int or _is_ints(dilation))
        and type(layout) is str
    )
    build = _from_arguments if is_key else _from_arguments.__wrapped__
    return build(shape, size, stride, padding, dilation, bool(ceil_mode), layout)


def _is_ints(value: object) -> bool:
    return type(value) is tuple and all(type(v) is int for v in value)


@lru_cache(maxsize=1024)
def _from_arguments(
    shape: tuple[int, ...],
    size: IntPerAxis,
    stride: IntPerAxis | None,
    padding: PaddingPerAxis,
    dilation: IntPerAxis,
    ceil_mode: bool,
    layout: Layout,
) -> Geometry:
    check_layout(layout)
    axes = spatial_axes("x", shape, size)
    window = Window.of(axes, size, stride, padding, dilation, ceil_mode)
    return geometry_of(shape, window, _spatial(shape, axes, layout), layout)


def _spatial(shape: tuple[int, ...], axes: int, layout: Layout) -> tuple[int, ...]:
    return shape[-axes:] if layout == "channels_first" else shape[-axes - 1 : -1]


def spatial_axes(name: str, shape: tuple[int, ...], size: object) -> int:
    """Return the number of spatial axes that ``size`` and the rank of an array stand for."""
    if isinstance(size, Sequence):
        axes = len(size)
        fits = len(shape) in (axes + 1, axes + 2)
    else:
        axes = len(shape) - 2
        fits = True
    if not (fits and 1 <= axes <= 3):
        raise ValueError(
            f"{name} has shape {shape} and size is {size!r}; {name} must have "
            "samples, channels and one to three spatial axes, one for each entry of a tuple "
            "size (samples may then be left out)"
        )
    return axes


def check_layout(layout: str) -> None:
    """Refuse an unknown layout."""
    if layout not in get_args(Layout):
        allowed = " or ".join(map(repr, get_args(Layout)))
        raise ValueError(f"layout is {layout!r}; it must be {allowed}")


def check_rank(name: str, array: Array, axes: int, *, filled: int = 0) -> None:
    """Refuse another rank, and empty axes among the last ``filled``."""
    if array.ndim not in (axes + 1, axes + 2) or (filled and 0 in array.shape[-filled:]):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}; it must have channels, or samples and "
            f"channels, and {axes} spatial axes{' that are not empty' if filled else ''}"
        )


def check_indices(indices: Array) -> None:
    """Refuse indices that are no integers."""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices have dtype {indices.dtype}; they must be integers")


def stack_to_write(
    out: Array | None, shape: tuple[int, ...], stack: tuple[int, ...], *inputs: tuple[str, Array]
) -> Array | None:
    """``out``, checked, as the stack of planes that a kernel writes; the first input's dtype."""
    if out is None:
        return None
    check_out("out", out, shape, inputs[0][1].dtype, *inputs)
    return out.reshape(stack)
