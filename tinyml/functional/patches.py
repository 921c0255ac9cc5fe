"""Padding and patches: ``pad``, ``unfold`` and ``fold`` of ``torch.nn.functional``, and gradients.

`fold` is the gradient of `unfold`, and `unfold` that of `fold`, with the same options.
"""

from collections.abc import Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from tinyml.arrays import check_dtype, check_shape
from tinyml.functional.interpolation import Table, applied, transposed
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, integer, lengths, number
from tinyml_backends.arrays import Array, as_floats

_MODES = ("constant", "reflect", "replicate", "circular")


def pad(
    input: Array, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Array:
    """As ``torch.nn.functional.pad``; the result has the input's dtype, also bool.

    Parameters
    ----------
    input : array
    pad : sequence of int
        Cells before and after the last axis, then the axis before it, and so on. Negative numbers
        crop; "circular" repeats what is left.
    mode : "constant", "reflect", "replicate" or "circular"
    value : float, optional
        Of mode "constant", where it must fit the dtype; by default 0. It may be infinite or NaN.

    Raises
    ------
    TypeError
        If ``pad`` holds no ints, ``value`` is no number, or ``input`` no real numbers.
    ValueError
        If the numbers do not fit the input or the mode.

    Examples
    --------
    >>> import numpy as np
    >>> import tinyml.functional as F
    >>> F.pad(np.array([[[1, 2, 3]]]), (2, 1), mode="reflect")
    array([[[3, 2, 1, 2, 3, 2]]])
    """
    if input.dtype != np.bool:
        check_dtype("input", input)
    pairs = _pairs(tuple(input.shape), pad, mode)
    backend = backend_for(input)
    with backend.scope(input):
        xp = backend.xp
        if mode == "constant":
            shape = [n + sum(pair) for n, pair in zip(input.shape, pairs, strict=True)]
            out = xp.full(shape, _filling(value, input.dtype), input.dtype)
            inside, outside = _overlap(pairs, tuple(input.shape))
            out[outside] = input[inside]
            return out
        if value is not None and value != 0:  # PyTorch allows 0, too
            raise ValueError(f"value is {value}; it is for mode='constant'")
        out = input
        for axis, (n, pair) in enumerate(zip(input.shape, pairs, strict=True)):
            if any(pair):
                out = xp.take(out, xp.asarray(_indices(n, pair, mode)), axis)
        return out.copy() if out is input else out


def pad_gradient(
    gradient: Array, input_size: Sequence[int], pad: Sequence[int], mode: str = "constant"
) -> Array:
    """Gradient of `pad` with respect to an input of the shape ``input_size``.

    It has the dtype of ``gradient``, float32 for integers; float16 is summed in float32.
    """
    check_dtype("gradient", gradient)
    shape = lengths("input_size", input_size, len(input_size), 0) if len(input_size) else ()
    pairs = _pairs(shape, pad, mode)
    padded = tuple(n + sum(pair) for n, pair in zip(shape, pairs, strict=True))
    check_shape("gradient", gradient, padded)
    gradient = as_floats(gradient)
    if mode == "constant":
        backend = backend_for(gradient)
        with backend.scope(gradient):
            out = backend.xp.zeros(shape, gradient.dtype)
            inside, outside = _overlap(pairs, shape)
            out[inside] = gradient[outside]
            return out
    tables: list[Table | None] = []
    for n, pair in zip(shape, pairs, strict=True):
        if not any(pair):
            tables.append(None)
            continue
        indices = _indices(n, pair, mode)[None]
        tables.append(transposed(Table(indices, np.ones(indices.shape)), n))
    return applied(gradient, tables, first=0)


def unfold(
    input: Array,
    kernel_size: IntPerAxis,
    dilation: IntPerAxis = 1,
    padding: IntPerAxis = 0,
    stride: IntPerAxis = 1,
) -> Array:
    """As ``torch.nn.functional.unfold``: (samples, channels · cells, windows).

    A single image, (channels, height, width), gives (channels · cells, windows). The gradient is
    `fold`, with the input's height and width as ``output_size``.

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
    if input.ndim == 3:
        return unfold(input[None], kernel_size, dilation, padding, stride)[0]
    check_shape("input", input, ("samples", "channels", "height", "width"))
    window = Window.of(2, kernel_size, stride, padding, dilation)
    outputs = window.output_shape(input.shape[2:])
    backend = backend_for(input)
    with backend.scope(input):
        cols = backend.patches(input, window)
        samples, channels = cols.shape[:2]
        return cols.reshape(samples, channels * window.count, prod(outputs))


def fold(
    input: Array,
    output_size: IntPerAxis,
    kernel_size: IntPerAxis,
    dilation: IntPerAxis = 1,
    padding: IntPerAxis = 0,
    stride: IntPerAxis = 1,
) -> Array:
    """As ``torch.nn.functional.fold``: cells of several windows are summed.

    The columns of a single image, (channels · cells, windows), give (channels, height, width). The
    gradient is `unfold`, with the same options.

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
    if input.ndim == 2:
        return fold(input[None], size, kernel_size, dilation, padding, stride)[0]
    check_shape("input", input, ("samples", "channels · cells", prod(outputs)))
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
    try:
        numbers = [integer("pad", n, -(2**63)) for n in pad]
    except TypeError:
        raise TypeError(f"pad is {pad!r}; it must be a sequence of ints") from None
    if len(numbers) % 2 or len(numbers) > 2 * len(shape):
        raise ValueError(
            f"pad is {tuple(pad)}; it must be two numbers for each of at most {len(shape)} axes"
        )
    listed = list(zip(numbers[::2], numbers[1::2], strict=True))[::-1]
    pairs = [(0, 0)] * (len(shape) - len(listed)) + listed
    for n, pair in zip(shape, pairs, strict=True):
        left = n + min(0, pair[0]) + min(0, pair[1])
        if left < 0 or (mode != "constant" and any(pair) and n + sum(pair) < 1):
            raise ValueError(f"pad is {tuple(pad)}; {pair} crops too much of an axis of length {n}")
        most = {"reflect": n - 1, "circular": left}.get(mode, max(pair))
        if mode != "constant" and any(pair) and (not n or max(pair) > most):
            allowed = f"at most {most} cells at an end" if n else "none"
            raise ValueError(
                f"pad is {tuple(pad)}; mode={mode!r} allows {allowed} of an axis of length {n}, "
                f"not {pair}"
            )
    return pairs


def _filling(value: float | None, dtype: "np.dtype[Any]") -> Any:
    """``value`` in ``dtype``; ValueError if that cannot hold it."""
    if value is None:
        return 0
    is_special = isinstance(value, float | np.floating) and not isfinite(value)
    is_plain = is_special or isinstance(value, bool | np.bool)
    given = float(value) if is_plain else number("value", value)
    if dtype == np.bool:
        return bool(given)
    if dtype.kind == "f":
        fits = not isfinite(given) or abs(given) <= float(np.finfo(dtype).max)
    else:
        fits = isfinite(given) and np.iinfo(dtype).min <= int(given) <= np.iinfo(dtype).max
    if not fits:
        raise ValueError(f"value is {value}; it must fit the input's dtype, {dtype}")
    return given if dtype.kind == "f" else int(given)


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


def _indices(
    length: int, pair: tuple[int, int], mode: str
) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """The input's cell of every cell of the result along an axis."""
    cells = np.arange(-pair[0], length + pair[1])
    result: np.ndarray[Any, np.dtype[np.int64]]
    if mode == "replicate":
        result = np.clip(cells, 0, length - 1)
    elif mode == "reflect":
        result = length - 1 - np.abs(length - 1 - np.abs(cells))
    else:
        first, left = max(0, -pair[0]), length + min(0, pair[0]) + min(0, pair[1])
        result = first + (cells - first) % max(1, left)
    return result
