"""Where channels stand, and the stacks of planes that kernels see."""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple, get_args

from tinyml_backends import Window
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.arrays import Array

Layout = Literal["channels_first", "channels_last"]


def check_layout(layout: str) -> None:
    """Refuse an unknown layout."""
    if layout not in get_args(Layout):
        allowed = " or ".join(map(repr, get_args(Layout)))
        raise ValueError(f"layout is {layout!r}; it must be {allowed}")


def spatial_of(shape: Sequence[int], axes: int, layout: Layout) -> tuple[int, ...]:
    """Spatial part of a shape."""
    return tuple(shape[-axes:] if layout == "channels_first" else shape[-axes - 1 : -1])


def with_spatial(
    shape: Sequence[int], axes: int, layout: Layout, spatial: Sequence[int]
) -> tuple[int, ...]:
    """The same samples and channels with another spatial part."""
    if layout == "channels_first":
        return (*shape[:-axes], *spatial)
    return (*shape[: -axes - 1], *spatial, shape[-1])


def stack(array: Array, axes: int, layout: Layout) -> Array:
    """View as a stack: (planes, *spatial), or (samples, *spatial, channels)."""
    return array.reshape(stacked(tuple(array.shape), axes, layout))


def stacked(shape: tuple[int, ...], axes: int, layout: Layout) -> tuple[int, ...]:
    """Shape of the stack."""
    behind = -axes if layout == "channels_first" else -axes - 1
    return prod(shape[:behind]), *shape[behind:]


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


class Pooling(NamedTuple):
    """A pooling of arrays of one shape, checked."""

    window: Window
    input_shape: tuple[int, ...]
    """Spatial."""
    stacked: tuple[int, ...]
    """Shape of the input as a stack of planes."""
    shape: tuple[int, ...]
    """Shape of the result."""


def pooling_of(
    name: str,
    shape: tuple[int, ...],
    size: IntPerAxis,
    stride: IntPerAxis | None,
    padding: PaddingPerAxis,
    dilation: IntPerAxis,
    ceil_mode: bool,
    layout: Layout,
) -> Pooling:
    """Pooling of the array ``name`` of ``shape`` from what a user wrote, checked.

    For arguments that were checked before it is remembered: a small array takes less time than the
    checks.

    Raises
    ------
    TypeError, ValueError
        As for `tinyml.max_pool`.
    """
    # 1, 1.0 and True are one key; only ints and tuples of them are looked up
    is_plain = (
        _is_plain(size)
        and (stride is None or _is_plain(stride))
        and _is_plain(padding)
        and _is_plain(dilation)
        and type(layout) is str
    )
    check = _pooling if is_plain else _pooling.__wrapped__
    return check(name, shape, size, stride, padding, dilation, bool(ceil_mode), layout)


def _is_plain(value: object) -> bool:
    return type(value) is int or (type(value) is tuple and all(type(v) is int for v in value))


@lru_cache(maxsize=1024)
def _pooling(
    name: str,
    shape: tuple[int, ...],
    size: IntPerAxis,
    stride: IntPerAxis | None,
    padding: PaddingPerAxis,
    dilation: IntPerAxis,
    ceil_mode: bool,
    layout: Layout,
) -> Pooling:
    check_layout(layout)
    axes = spatial_axes(name, shape, size)
    window = Window.of(axes, size, stride, padding, dilation, ceil_mode)
    spatial = spatial_of(shape, axes, layout)
    pooled = with_spatial(shape, axes, layout, window.pooled_shape(spatial))
    return Pooling(window, spatial, stacked(shape, axes, layout), pooled)


class Unpooling(NamedTuple):
    """The shapes on both sides of switches."""

    pooled: tuple[int, ...]
    """Of the stacked winners."""
    unpooled: tuple[int, ...]
    """Of the stack of planes that was pooled."""
    shape: tuple[int, ...]
    """Of the array that was pooled."""


@lru_cache(maxsize=1024)
def unpooling_of(
    shape: tuple[int, ...], axes: int, input_shape: tuple[int, ...], layout: Layout
) -> Unpooling:
    """Unpooling of an array of ``shape``."""
    unpooled = with_spatial(shape, axes, layout, input_shape)
    return Unpooling(stacked(shape, axes, layout), stacked(unpooled, axes, layout), unpooled)
