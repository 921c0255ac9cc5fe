"""Max-pooling, max-unpooling and their gradients, for one to three spatial axes.

Arrays are (samples, channels, *spatial), or (samples, *spatial, channels) with
``layout="channels_last"``. A tuple ``size`` fixes the number of spatial axes, and the batch axis
may then be left out.
"""

from typing import Literal, get_args

import numpy as np

from tinyml.arrays import check_dtype, check_out, check_shape
from tinyml.layout import Layout, Unpooling, pooling_of, stack, unpooling_of
from tinyml.switches import Switches, trusted_switches
from tinyml_backends import Backend, SwitchIndexError, backend_for
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.arrays import Array

Duplicates = Literal["last", "sum", "error"]


def max_pool(
    x: Array,
    size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: PaddingPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
    *,
    layout: Layout = "channels_first",
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Switches]:
    """Maximum of each window, and the switches that undo it.

    Parameters
    ----------
    x : array, (samples, channels, *spatial), or (channels, *spatial) if ``size`` is a tuple
        float16/32/64, int8 to int64 or uint8 to uint64.
    size : int or tuple of int
        Cells of the window, along all spatial axes or along each.
    stride : int, tuple of int or None
        Input cells from one window to the next; None means ``size``.
    padding : int, tuple of int, or tuple of (before, after)
        Cells added around the input. They never win.
    dilation : int or tuple of int
        Input cells from one cell of a window to its next.
    ceil_mode : bool
        Round the number of windows up; a window that would start behind the input is left out.
    layout : {"channels_first", "channels_last"}
        Where the channels of ``x`` stand.
    out : (values, winners) or None
        Two contiguous arrays of the result's shape to write, ``values`` of the dtype of ``x`` and
        ``winners`` of the switches' (uint8 for windows of up to 256 cells), apart from ``x`` and
        each other. ``y`` is then ``values``, and the switches are a view of ``winners``: valid
        until these are written again.

    Returns
    -------
    y : array, (…, *pooled), dtype of ``x``
        The bits of each winning cell. The first maximum wins a tie, −0.0 ties with 0.0, and a NaN
        wins over every number, the last one over the others.
    switches : Switches
        Where the maxima stand.

    Raises
    ------
    TypeError
        If ``x`` is no array of a known library, or of another dtype.
    ValueError
        If the window does not fit ``x``, or would hold only padding; or ``out`` does not fit.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    >>> y, switches = tinyml.max_pool(x, size=(2, 2), stride=1)
    >>> y
    array([[[[5, 6],
             [8, 9]]]])
    """
    backend = backend_for(x) if out is None else backend_for(x, *_pair(out))
    check_dtype("x", x)
    window, spatial, stacked, shape = pooling_of(
        "x", x.shape, size, stride, padding, dilation, ceil_mode, layout
    )
    to = None
    if out is not None:
        y, winners = out
        check_out("out[0]", y, shape, x.dtype, ("x", x))
        check_out("out[1]", winners, shape, window.winner_dtype, ("x", x), ("out[0]", y))
        to = stack(y, window.axes, layout), stack(winners, window.axes, layout)
    values, chosen = backend.max_pool(x.reshape(stacked), window, out=to)
    switches = trusted_switches(chosen.reshape(shape), window, spatial, layout)
    return (values.reshape(shape) if out is None else out[0]), switches


def _pair(out: object) -> tuple[Array, Array]:
    if not isinstance(out, tuple | list) or len(out) != 2:
        raise TypeError(f"out is a {type(out).__name__}; it must be a pair of arrays")
    return out[0], out[1]


def max_unpool(
    y: Array, switches: Switches, duplicates: Duplicates = "last", *, out: Array | None = None
) -> Array:
    """Put each value of ``y`` where its window had its maximum, and zero elsewhere.

    Parameters
    ----------
    y : array, shape of the switches
        Values to place; any dtype of `max_pool`.
    switches : Switches
        Winners with their geometry, from `max_pool` or `Switches.of`.
    duplicates : {"last", "sum", "error"}
        What becomes of a cell that several overlapping windows chose: the last of them in row-major
        order writes it; their values are summed by the rules of `max_pool_gradient`; or it is a
        SwitchIndexError.
    out : array or None
        Contiguous array of the result's shape and dtype, apart from the inputs, to write and
        return.

    Returns
    -------
    array, (…, *switches.input_shape), dtype of ``y``

    Raises
    ------
    TypeError
        If ``y`` has another dtype, or ``switches`` are none.
    ValueError
        If ``y`` has another shape than the switches, or ``out`` does not fit.
    MixedBackendError
        If the two live in different places.
    SwitchIndexError
        With ``duplicates="error"``, naming the first such cell and the first two windows.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    >>> tinyml.max_unpool(*tinyml.max_pool(x, size=2, stride=1))
    array([[[[0, 0, 0],
             [0, 5, 6],
             [0, 8, 9]]]])
    """
    backend, rule, shapes = _prepared("y", y, switches, duplicates, out)
    result = backend.max_unpool(
        y.reshape(shapes.pooled),
        switches.winners.reshape(shapes.pooled),
        switches.window,
        switches.input_shape,
        rule,
        out=None if out is None else out.reshape(shapes.unpooled),
    )
    return result.reshape(shapes.shape) if out is None else out


def max_pool_gradient(gradient: Array, switches: Switches, *, out: Array | None = None) -> Array:
    """Gradient of `max_pool` with respect to its input.

    Each input cell gets the sum of the gradients of the windows it won. The sum starts at +0.0 and
    takes its terms in row-major order of the windows; float16 is summed in float32 and rounded
    once; integers wrap.

    Parameters
    ----------
    gradient : array, shape of the switches
        Gradient with respect to the pooled array.
    switches : Switches
        What `max_pool` returned.
    out
        As for `max_unpool`.

    Returns
    -------
    array, (…, *switches.input_shape), dtype of ``gradient``

    Raises
    ------
    TypeError, ValueError, MixedBackendError
        As for `max_unpool`.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> _, switches = tinyml.max_pool(np.array([[[1.0, 3.0, 2.0]]]), size=2, stride=1)
    >>> tinyml.max_pool_gradient(np.array([[[10.0, 20.0]]]), switches)
    array([[[ 0., 30.,  0.]]])
    """
    backend, _, shapes = _prepared("gradient", gradient, switches, "sum", out)
    result = backend.max_pool_gradient(
        gradient.reshape(shapes.pooled),
        switches.winners.reshape(shapes.pooled),
        switches.window,
        switches.input_shape,
        out=None if out is None else out.reshape(shapes.unpooled),
    )
    return result.reshape(shapes.shape) if out is None else out


def max_unpool_gradient(
    gradient: Array,
    switches: Switches,
    duplicates: Duplicates = "last",
    *,
    out: Array | None = None,
) -> Array:
    """Gradient of `max_unpool` with respect to the values it placed.

    Parameters
    ----------
    gradient : array, (…, *switches.input_shape)
        Gradient with respect to the unpooled array.
    switches, duplicates
        What `max_unpool` was given.
    out : array or None
        Contiguous array of the shape of the switches and the dtype of ``gradient``, apart from the
        inputs, to write and return.

    Returns
    -------
    array, shape of the switches, dtype of ``gradient``
        With "last", zero for a value that a later window overwrote.

    Raises
    ------
    TypeError, ValueError, MixedBackendError, SwitchIndexError
        As for `max_unpool`.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> _, switches = tinyml.max_pool(np.array([[[1.0, 3.0, 2.0]]]), size=2, stride=1)
    >>> tinyml.max_unpool_gradient(np.array([[[0.5, 0.7, 0.9]]]), switches)
    array([[[0. , 0.7]]])
    """
    backend, rule, shapes = _prepared("gradient", gradient, switches, duplicates, out, pooled=False)
    result = backend.max_unpool_gradient(
        gradient.reshape(shapes.unpooled),
        switches.winners.reshape(shapes.pooled),
        switches.window,
        rule,
        out=None if out is None else out.reshape(shapes.pooled),
    )
    return result.reshape(switches.shape) if out is None else out


def _prepared(
    name: str,
    array: Array,
    switches: Switches,
    duplicates: Duplicates,
    out: Array | None,
    *,
    pooled: bool = True,
) -> tuple[Backend, Literal["last", "sum"], Unpooling]:
    """Check what every operation on switches is given.

    The backend, the rule for duplicates, and the shapes. ``pooled`` says which side of the switches
    ``array`` is on; ``out`` is on the other.
    """
    if not isinstance(switches, Switches):
        raise TypeError(
            f"switches is a {type(switches).__name__}; it must be Switches, from max_pool or from "
            "Switches.of(indices, ...)"
        )
    winners = switches.winners
    shape = winners.shape
    shapes = unpooling_of(shape, switches.window.axes, switches.input_shape, switches.layout)
    arrays = (array, winners) if out is None else (array, winners, out)
    backend = backend_for(*arrays)
    check_dtype(name, array)
    expected, result = (shape, shapes.shape) if pooled else (shapes.shape, shape)
    check_shape(name, array, expected)
    if out is not None:
        check_out("out", out, result, array.dtype, (name, array), ("the winners", winners))
    if duplicates == "last" or duplicates == "sum":
        return backend, duplicates, shapes
    if duplicates != "error":
        allowed = ", ".join(map(repr, get_args(Duplicates)))
        raise ValueError(f"duplicates is {duplicates!r}; it must be one of {allowed}")
    _refuse_duplicates(backend, switches)
    return backend, "last", shapes  # there are none, so that nothing is overwritten


def _refuse_duplicates(backend: Backend, switches: Switches) -> None:
    winners = switches.stack(switches.winners)
    found = backend.first_duplicate(winners, switches.window, switches.input_shape)
    if found is None:
        return
    cell, *windows = found
    place = tuple(map(int, np.unravel_index(cell, switches.unpooled_shape)))
    first, second = (tuple(map(int, np.unravel_index(w, switches.shape))) for w in windows)
    raise SwitchIndexError(
        f"the windows at {first} and {second} both chose the cell {place}; where windows overlap, "
        'take duplicates="last" or "sum"'
    )
