"""Where channels stand, and the stacks of planes that kernels see."""

from collections.abc import Sequence
from math import prod
from typing import Literal, get_args

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
    shape = tuple(array.shape)
    if layout == "channels_first":
        return array.reshape(prod(shape[:-axes]), *shape[-axes:])
    return array.reshape(prod(shape[: -axes - 1]), *shape[-axes - 1 :])


def spatial_axes(name: str, array: Array, size: object) -> int:
    """Return the number of spatial axes that ``size`` and the rank of an array stand for."""
    if isinstance(size, Sequence):
        axes = len(size)
        fits = array.ndim in (axes + 1, axes + 2)
    else:
        axes = array.ndim - 2
        fits = True
    if not (fits and 1 <= axes <= 3):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)} and size is {size!r}; {name} must have "
            "samples, channels and one to three spatial axes, one for each entry of a tuple "
            "size (samples may then be left out)"
        )
    return axes
