"""Interpolation of images, as ``torch.nn.functional.interpolate``, and its gradient.

Along each axis every result is a sum of one or two cells with weights, so that an axis is a table
of indices and weights. The gradient is the sum with the transposed table. docs/upsampling.md
"""

from collections.abc import Sequence
from functools import lru_cache
from math import floor
from typing import Any, NamedTuple

import numpy as np

from tinyml.arrays import check_dtype, check_shape
from tinyml_backends import backend_for
from tinyml_backends.arguments import boolean, lengths, number, per_axis
from tinyml_backends.arrays import Array, as_floats, quiet, widened

MODES = {"nearest": None, "linear": 1, "bilinear": 2, "trilinear": 3}


class Table(NamedTuple):
    """Result ``i`` along an axis is ``Σ over k of weights[k, i] · input[indices[k, i]]``."""

    indices: "np.ndarray[Any, np.dtype[np.int64]]"
    weights: "np.ndarray[Any, np.dtype[np.float64]]"


def interpolate(
    input: Array,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Array:
    """As ``torch.nn.functional.interpolate``, for the modes "nearest" and "(bi-, tri-)linear".

    Parameters
    ----------
    input : array, (samples, channels, *spatial), one to three spatial axes
    size : int or sequence of int
        Spatial shape of the result; or give ``scale_factor``.
    scale_factor : float or sequence of float
        Of each axis; the length is rounded down, the distance of the results is not: it is
        1 / ``scale_factor`` cells.
    mode : "nearest", "linear" (1-D), "bilinear" (2-D) or "trilinear" (3-D)
    align_corners : bool
        For linear modes: whether the outer cells' centres, not their edges, stay in place.
    recompute_scale_factor : bool
        With ``scale_factor``: only compute the size from it, and go on as if ``size`` were given.
    antialias : bool
        Must be False; antialiasing is not supported.

    Returns
    -------
    array
        With the input's floating dtype, float32 for integers; float16 is computed in float32.

    Raises
    ------
    ValueError
        If the mode does not fit the input, or not exactly one of ``size`` and ``scale_factor`` is
        given, or one that leaves nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import tinyml.functional as F
    >>> F.interpolate(np.array([[[1.0, 3.0]]]), scale_factor=2, mode="linear")
    array([[[1. , 1.5, 2.5, 3. ]]])
    """
    check_dtype("input", input)
    options = size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    tables = _tables(tuple(input.shape), as_floats(input).dtype, options)
    return applied(input, [table for table, _ in tables])


def interpolate_gradient(
    gradient: Array,
    input_size: Sequence[int],
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Array:
    """Gradient of `interpolate` with respect to an input of the shape ``input_size``."""
    check_dtype("gradient", gradient)
    shape = lengths("input_size", input_size, len(input_size), 0)
    options = size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    tables = _tables(shape, as_floats(gradient).dtype, options)
    outputs = tuple(table.indices.shape[1] for table, _ in tables)
    check_shape("gradient", gradient, (*shape[:2], *outputs))
    return applied(gradient, [adjoint for _, adjoint in tables])


def scales(name: str, scale_factor: float | Sequence[float], axes: int) -> tuple[float, ...]:
    """One positive float for each axis, from a number or a sequence."""
    is_listed = isinstance(scale_factor, Sequence) or getattr(scale_factor, "ndim", 0) > 0
    given: Any = scale_factor if is_listed else (scale_factor,) * axes
    if len(given) != axes or isinstance(scale_factor, str):
        raise ValueError(f"{name} is {scale_factor!r}; it must be one or {axes} numbers")
    return tuple(number(name, scale, more_than=0) for scale in given)


def scaled(shape: tuple[int, ...], factors: tuple[float, ...]) -> tuple[int, ...]:
    """Spatial shape of the result of a ``scale_factor``.

    Raises
    ------
    ValueError
        If a length is below 1, or too large.
    """
    exact = [n * factor for n, factor in zip(shape, factors, strict=True)]
    if not all(1 <= length < 2**63 for length in exact):
        raise ValueError(
            f"scale_factor is {factors}; times the spatial shape {shape} that is {exact}, and "
            "every length must be from 1 to 2**63 - 1"
        )
    return tuple(map(floor, exact))


_Options = tuple[
    int | Sequence[int] | None,
    float | Sequence[float] | None,
    str,
    bool | None,
    bool | None,
    bool,
]


def _tables(
    shape: tuple[int, ...], dtype: "np.dtype[Any]", options: _Options
) -> list[tuple[Table, Table]]:
    """For each spatial axis its table and the transposed one."""
    size, scale_factor, mode, align_corners, recompute, antialias = options
    axes = len(shape) - 2
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(map(repr, MODES))}")
    if not 1 <= axes <= 3 or MODES[mode] not in (None, axes):
        wanted = MODES[mode] or "one to three"
        raise ValueError(
            f"input has shape {shape}; mode={mode!r} takes (samples, channels) and {wanted} "
            "spatial axes"
        )
    if min(shape[2:]) < 1:
        raise ValueError(f"input has shape {shape}; every spatial length must be at least 1")
    if align_corners is not None and mode == "nearest":
        raise ValueError("align_corners is for linear modes; with mode='nearest' it must be None")
    if boolean("antialias", antialias):
        raise ValueError("antialias is True; it must be False, since it is not supported")
    if (size is None) == (scale_factor is None):
        raise ValueError("size and scale_factor: exactly one of them must be given")
    recompute = boolean("recompute_scale_factor", recompute or False)
    align_corners = boolean("align_corners", align_corners or False)
    factors: tuple[float | None, ...] = (None,) * axes
    if scale_factor is None:
        if recompute:
            raise ValueError("recompute_scale_factor is True; it is for scale_factor, not size")
        outputs = per_axis("size", size, axes, 1)  # type: ignore[arg-type]
    else:
        given = scales("scale_factor", scale_factor, axes)
        outputs = scaled(shape[2:], given)
        factors = factors if recompute else given
    in_double = dtype == np.float64
    return [
        _table(n, out, factor, mode == "nearest", align_corners, in_double)
        for n, out, factor in zip(shape[2:], outputs, factors, strict=True)
    ]


@lru_cache(maxsize=64)
def _table(
    length: int,
    outputs: int,
    scale: float | None,
    nearest: bool,
    align_corners: bool,
    in_double: bool,
) -> tuple[Table, Table]:
    place = np.arange(outputs)
    step = length / outputs if scale is None else 1 / scale
    if nearest:  # rounded as PyTorch rounds, which decides where the quotient is near an integer
        at = place * step if in_double else place.astype(np.float32) * np.float32(step)
        cells = np.floor(at.astype(np.float32)).astype(np.int64)
        indices = np.minimum(cells, length - 1)[None]
        weights = np.ones((1, outputs))
    else:
        if align_corners:
            source = place * ((length - 1) / (outputs - 1) if outputs > 1 else 0.0)
        elif outputs == length:  # whatever the scale, as in PyTorch
            source = place.astype(np.float64)
        else:
            source = np.maximum(0, (place + 0.5) * step - 0.5)
        low = np.minimum(source.astype(np.int64), length - 1)
        indices = np.stack([low, np.minimum(low + 1, length - 1)])
        share = source - low
        weights = np.stack([1 - share, share])
    table = Table(indices, weights)
    return table, transposed(table, length)


def transposed(table: Table, length: int) -> Table:
    """The table of the adjoint: result ``j`` is the sum over all (k, i) with index ``j``.

    Terms of the same ``i`` are added up here, and those with the weight 0 left out.
    """
    results = table.indices.shape[1]
    pairs = table.indices * results + np.arange(results)
    unique, number = np.unique(pairs[table.weights != 0], return_inverse=True)
    sums = np.bincount(number.reshape(-1), table.weights[table.weights != 0], len(unique))
    cells, places = unique // results, unique % results
    counts = np.bincount(cells, minlength=length)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(cells)) - starts[cells]
    indices = np.zeros((max(1, counts.max(initial=0)), length), np.int64)
    weights = np.zeros(indices.shape)
    indices[rank, cells] = places
    weights[rank, cells] = sums
    return Table(indices, weights)


@quiet
def applied(array: Array, tables: Sequence[Table | None], first: int = 2) -> Array:
    """``array`` with the tables applied along the axes from ``first`` on; None leaves an axis.

    An axis that becomes shorter is the sooner, and one that becomes longer the later, so that the
    arrays between are small. Of those that become longer the last axis, which is the slowest, is
    the first.
    """
    backend = backend_for(array)
    dtype = as_floats(array).dtype
    with backend.scope(array):
        y = widened(as_floats(array))
        for axis, table in _in_order(array.shape, tables, first):
            y = backend.resample(y, axis, *table)
        return y.astype(dtype, copy=False)


def _in_order(
    shape: Sequence[int], tables: Sequence[Table | None], first: int
) -> list[tuple[int, Table]]:
    def growth(numbered: tuple[int, Table]) -> tuple[float, int]:
        axis, table = numbered
        factor = table.indices.shape[1] / max(1, shape[axis])
        return factor, -axis if factor > 1 else axis

    numbered = [(axis, table) for axis, table in enumerate(tables, first) if table is not None]
    return sorted(numbered, key=growth)
