"""Rows of windows, one after the other, and which of their cells lie inside the input."""

from typing import Any

from tinyml_backends.numba_backend.compiled import inlined


@inlined
def row_at(number: int, g: Any) -> Any:
    """Plane, depth and height of a row of windows."""
    depths, heights = g[4], g[5]
    plane, rest = number // (depths * heights), number % (depths * heights)
    return plane, rest // heights, rest % heights


@inlined
def row_behind(row: Any, g: Any) -> Any:
    """As `row_at` of the next one; three divisions cost more than the windows of a short row."""
    plane, depth, height = row
    height += 1
    if height == g[5]:
        depth, height = depth + 1, 0
    if depth == g[4]:
        plane, depth = plane + 1, 0
    return plane, depth, height


@inlined
def inside(first: int, size: int, dilation: int, cells: int) -> Any:
    """Range of the ``size`` cells of a window along an axis that are among the input's."""
    low, high = 0, size
    if first < 0:
        low = -(first // dilation)
    if first + (size - 1) * dilation >= cells:
        high = (cells - 1 - first) // dilation + 1
    return low, high
