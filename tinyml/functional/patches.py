"""Padding and patches: ``pad``, ``unfold`` and ``fold`` of ``torch.nn.functional``, and gradients.

`fold` is the gradient of `unfold`, and `unfold` that of `fold`, with the same options.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyml.arrays import check_dtype, check_shape
from tinyml.functional.interpolation import Table, applied, transposed
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, integer, lengths, number
from tinyml_backends.arrays import Array

_MODES = ("constant", "reflect", "replicate", "circular")


def pad(
    input: Array, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Array:
    """As ``torch.nn.functional.pad``.

    Parameters
    ----------
    input : array
    pad : sequence of int
        Cells before and after the last axis, then the axis before it, and so on. Negative numbers
        crop, in mode "constant".
    mode : "constant", "reflect", "replicate" or "circular"
    value : float, optional
        Of mode "constant"; by default 0.

    Raises
    ------
    ValueError
        If the numbers do not fit the input or the mode.

    Examples
    --------
    >>> import numpy as np
    >>> import tinyml.functional as F
    >>> F.pad(np.array([[[1.0, 2.0, 3.0]]]), (2, 1), mode="reflect")
    array([[[3., 2., 1., 2., 3., 2.]]])
    """
    check_dtype("input", input)
    pairs = _pairs(tuple(input.shape), pad, mode)
    if mode == "constant":
        fill = 0.0 if value is None else number("value", value)
        backend = backend_for(input)
        with backend.scope(input):
            shape = [n + sum(pair) for n, pair in zip(input.shape, pairs, strict=True)]
            out = backend.xp.full(shape, fill, input.dtype)
            inside, outside = _overlap(pairs, tuple(input.shape))
            out[outside] = input[inside]
            return out
    if value is not None:
        raise ValueError(f"value is {value}; it is for mode='constant'")
    return applied(input, _tables(tuple(input.shape), pairs, mode), first=0)


def pad_gradient(
    gradient: Array, input_size: Sequence[int], pad: Sequence[int], mode: str = "constant"
) -> Array:
    """Gradient of `pad` with respect to an input of the shape ``input_size``."""
    shape = tuple(input_size)
    pairs = _pairs(shape, pad, mode)
    padded = tuple(n + sum(pair) for n, pair in zip(shape, pairs, strict=True))
    check_shape("gradient", gradient, padded)
    if mode != "constant":
        tables = [(t, table) for table, t in _tables(shape, pairs, mode)]
        return applied(gradient, tables, first=0)
    backend = backend_for(gradient)
    with backend.scope(gradient):
        out = backend.xp.zeros(shape, gradient.dtype)
        inside, outside = _overlap(pairs, shape)
        out[inside] = gradient[outside]
        return out


def unfold(
    input: Array,
    kernel_size: IntPerAxis,
    dilation: IntPerAxis = 1,
    padding: IntPerAxis = 0,
    stride: IntPerAxis = 1,
) -> Array:
    """As ``torch.nn.functional.unfold``: (samples, channels · cells, windows).

    Examples
    --------
    >>> import numpy as np
    >>> import tinyml.functional as F
    >>> F.unfold(np.arange(6.0).reshape(1, 1, 2, 3), 2)
    array([[[0., 1.],
            [1., 2.],
            [3., 4.],
            [4., 5.]]])
    """
    check_dtype("input", input)
    check_shape("input", input, ("samples", "channels", "height", "width"))
    window = Window.of(2, kernel_size, stride, padding, dilation)
    window.output_shape(input.shape[2:])
    backend = backend_for(input)
    with backend.scope(input):
        cols = backend.patches(input, window)
        samples, channels = cols.shape[:2]
        return cols.reshape(samples, channels * window.count, -1)


def fold(
    input: Array,
    output_size: IntPerAxis,
    kernel_size: IntPerAxis,
    dilation: IntPerAxis = 1,
    padding: IntPerAxis = 0,
    stride: IntPerAxis = 1,
) -> Array:
    """As ``torch.nn.functional.fold``: cells of several windows are summed.

    Examples
    --------
    >>> import numpy as np
    >>> import tinyml.functional as F
    >>> F.fold(np.ones((1, 4, 2)), (2, 3), 2)
    array([[[[1., 2., 1.],
             [1., 2., 1.]]]])
    """
    check_dtype("input", input)
    given = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    size = lengths("output_size", given, 2)
    window = Window.of(2, kernel_size, stride, padding, dilation)
    outputs = window.output_shape(size)
    check_shape("input", input, ("samples", "channels · cells", outputs[0] * outputs[1]))
    samples, rows = input.shape[:2]
    if rows % window.count:
        raise ValueError(
            f"input has shape {tuple(input.shape)}; its second length must be a multiple of the "
            f"{window.count} cells of a window"
        )
    backend = backend_for(input)
    with backend.scope(input):
        channels = rows // window.count
        out = backend.xp.zeros((samples, channels, *size), input.dtype)
        cols = backend.xp.ascontiguousarray(input)
        backend.add_patches(cols.reshape(samples, channels, window.count, *outputs), out, window)
        return out


def _pairs(shape: tuple[int, ...], pad: Sequence[int], mode: str) -> list[tuple[int, int]]:
    """(before, after) of every axis of ``shape``."""
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(map(repr, _MODES))}")
    numbers = [integer("pad", n, -(2**63)) for n in pad]
    if len(numbers) % 2 or len(numbers) > 2 * len(shape):
        raise ValueError(
            f"pad is {tuple(pad)}; it must be two numbers for each of at most {len(shape)} axes"
        )
    listed = list(zip(numbers[::2], numbers[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (len(shape) - len(listed)) + listed
    for n, pair in zip(shape, pairs, strict=True):
        most = {"reflect": n - 1, "circular": n}.get(mode, max(pair))
        least = -n if mode == "constant" else 0
        if (
            min(pair) < least
            or max(pair) > most
            or n + sum(pair) < 0
            or (mode != "constant" and not n)
        ):
            raise ValueError(
                f"pad is {tuple(pad)}; mode={mode!r} allows {least} to "
                f"{'any number' if most == max(pair) else most} cells for an axis of length {n}"
            )
    return pairs


def _overlap(
    pairs: list[tuple[int, int]], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What is not cropped, in the input and in the result."""
    inside, outside = [], []
    for (before, after), n in zip(pairs, shape, strict=True):
        start, stop = max(0, -before), n - max(0, -after)
        inside.append(slice(start, max(start, stop)))
        outside.append(slice(start + before, max(start, stop) + before))
    return tuple(inside), tuple(outside)


def _tables(
    shape: tuple[int, ...], pairs: list[tuple[int, int]], mode: str
) -> list[tuple[Table, Table]]:
    kinds: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    tables = []
    for n, pair in zip(shape, pairs, strict=True):
        indices = np.pad(np.arange(n), pair, mode=kinds[mode])[None] if any(pair) else None
        if indices is None:
            indices = np.arange(n)[None]
        table = Table(indices, np.ones(indices.shape))
        tables.append((table, transposed(table, n)))
    return tables
