"""Rows of windows, one after the other, and what of them lies inside the input."""

from typing import Any

from tinyml_backends.numba_backend.compiled import inlined
from tinyml_backends.numba_backend.vectors import WIDE, evens, fetch_ahead, fetch_pairs_ahead, load


@inlined
def unpacked(g: Any) -> Any:
    """The numbers of a plan as a tuple: those of an array would be read again after each store."""
    shapes = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    size, stride = (g[7], g[8], g[9]), (g[10], g[11], g[12])
    padding, dilation = (g[13], g[14], g[15]), (g[16], g[17], g[18])
    return (*shapes, *size, *stride, *padding, *dilation)


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
def corner_of(row: Any, g: Any) -> Any:
    """Depth, height and flat position of the first cell of the first window, in padding or not."""
    d, h, w, c = g[0], g[1], g[2], g[3]
    plane, depth, height = row
    front, top = depth * g[10] - g[13], height * g[11] - g[14]
    return front, top, (((plane * d + front) * h + top) * w - g[15]) * c


@inlined
def steps_of(g: Any) -> Any:
    """Flat distances of the cells of a window, along depth, height and width."""
    h, w, c = g[1], g[2], g[3]
    return g[16] * h * w * c, g[17] * w * c, g[18] * c


@inlined
def reach_of(g: Any, apart: Any) -> int:
    """Elements that vectors of cells read from the first cell of the first of their windows on."""
    steps = steps_of(g)
    last: int = (g[7] - 1) * steps[0] + (g[8] - 1) * steps[1] + (g[9] - 1) * steps[2]
    return last + len(WIDE) * len(apart)


@inlined
def inside_along(first: int, size: int, dilation: int, cells: int) -> Any:
    """Range of the ``size`` cells of a window along an axis that are among the input's."""
    low, high = 0, size
    if first < 0:
        low = -(first // dilation)
    if first + (size - 1) * dilation >= cells:
        high = (cells - 1 - first) // dilation + 1
    return low, high


@inlined
def inside_of(row: Any, g: Any, spans: Any) -> Any:
    """Range of the windows in a row that have all cells inside; none where the row reaches out."""
    front, top, _ = corner_of(row, g)
    if (
        front < 0
        or top < 0
        or front + (g[7] - 1) * g[16] >= g[0]
        or top + (g[8] - 1) * g[17] >= g[1]
    ):
        return g[6], g[6]
    return spans[0], spans[2 * g[9] - 1]


@inlined
def side_by_side(g: Any, spans: Any) -> Any:
    """How many elements to treat at once: windows with all cells inside, or else channels.

    And to how many windows those belong, at least one.
    """
    c, windows = g[3], max(1, spans[2 * g[9] - 1] - spans[0])
    return (windows, windows) if c == 1 else (c, 1)


@inlined
def load_cells(lanes: Any, apart: Any, x: Any, of: int) -> Any:
    """One cell each of neighbouring windows, from one on."""
    return load(lanes, x, of) if len(apart) == 1 else evens(lanes, x, of)


@inlined
def fetch_cells_ahead(lanes: Any, apart: Any, x: Any, of: int) -> None:
    """Ask for what `load_cells` will read some iterations later."""
    if len(apart) == 1:
        fetch_ahead(lanes, x, of)
    else:
        fetch_pairs_ahead(lanes, x, of)
