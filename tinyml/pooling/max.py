"""Max-pooling, max-unpooling and their gradients, for one to three spatial axes.

Arrays are (samples, channels, *spatial), or (samples, *spatial, channels) with
``layout="channels_last"``. A tuple ``size`` fixes the number of spatial axes, and the batch axis
may then be left out.
"""

from typing import Literal, get_args

import numpy as np

from tinyml.arrays import check_dtype, check_out, check_shape
from tinyml.pooling.layout import Geometry, Layout, geometry_for, geometry_from, out_stack
from tinyml.pooling.switches import Switches, trusted_switches
from tinyml_backends import Backend, SwitchIndexError, Window, backend_for
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
    layout: Layout | None = None,
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Switches]:
    """Maximum of each window, and the switches that `max_unpool` takes.

    Parameters
    ----------
    x : array, (samples, channels, *spatial), or (channels, *spatial) if ``size`` is a tuple
        float16/32/64, int8 to int64 or uint8 to uint64.
    size : int or tuple of int
        Cells of the window, along all spatial axes or along each.
    stride : int, tuple of int or None
        Input cells from one window to the next; None means ``size``.
    padding : int, tuple of int, or tuple of (before, after)
        Cells added around the input. They are never a maximum.
    dilation : int or tuple of int
        Input cells from one cell of a window to its next.
    ceil_mode : bool
        Round the number of windows up; a window that would start after the input is left out.
    layout : {"channels_first", "channels_last"}, optional
        Position of the channels axis of ``x``; by default first. If it is not given and ``size`` is
        an int, there is a UserWarning where this may not be what is meant: for an array of three
        axes, which is pooled along one, and for images whose last axis has 1 to 4 entries.
    out : (values, winners) or None
        Two contiguous arrays of the result's shape to write, ``values`` of the dtype of ``x`` and
        ``winners`` of the switches' (uint8 for windows of up to 256 cells), sharing no memory with
        ``x`` or each other. ``y`` is then ``values``, and the switches are a view of ``winners``,
        valid until these are written again.

    Returns
    -------
    y : array, (…, *pooled), dtype of ``x``
        The bits of the cell that wins in each window: the first of equal maxima (−0.0 equals 0.0),
        or the last NaN if the window has one.
    switches : Switches
        The positions of the maxima.

    Raises
    ------
    TypeError
        If ``x`` is not an array of a known library, or has another dtype.
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
    geometry = geometry_from(x.shape, size, stride, padding, dilation, ceil_mode, layout)
    return _max_pool(backend, x, geometry, out)


def max_pool_windowed(
    x: Array,
    window: Window,
    layout: Layout = "channels_first",
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Switches]:
    """As `max_pool`, with a `Window`; the batch axis may be left out."""
    backend = backend_for(x) if out is None else backend_for(x, *_pair(out))
    check_dtype("x", x)
    return _max_pool(backend, x, geometry_for("x", x, window, layout), out)


def _max_pool(
    backend: Backend, x: Array, geometry: Geometry, out: tuple[Array, Array] | None
) -> tuple[Array, Switches]:
    planes, shape, window = x.reshape(geometry.unpooled_stack), geometry.pooled, geometry.window
    fitting = window.clipped(geometry.input_shape)
    if out is None:
        y, winners = backend.max_pool(planes, fitting)
        if fitting is not window:
            winners = backend.renumber(winners, fitting, window)
        return y.reshape(shape), trusted_switches(winners.reshape(shape), geometry)
    (y, winners), dtype, stack = out, window.winner_dtype, geometry.pooled_stack
    check_out("out[0]", y, shape, x.dtype, ("x", x))
    check_out("out[1]", winners, shape, dtype, ("x", x), ("out[0]", y))
    if fitting.winner_dtype == dtype:
        found = backend.max_pool(planes, fitting, out=(y.reshape(stack), winners.reshape(stack)))
    else:
        found = backend.max_pool(planes, fitting)
        y.reshape(stack)[...] = found[0]
    if fitting is not window:
        winners.reshape(stack)[...] = backend.renumber(found[1], fitting, window)
    return y, trusted_switches(winners.view(), geometry)


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
        The rule for a cell that several overlapping windows chose: the last of them in row-major
        order writes it; their values are summed as by `max_pool_gradient`; or a SwitchIndexError
        is raised.
    out : array or None
        Contiguous array of the result's shape and dtype, sharing no memory with the inputs. The
        result is written to it, and it is returned.

    Returns
    -------
    array, (…, *switches.input_shape), dtype of ``y``

    Raises
    ------
    TypeError
        If ``y`` has another dtype, or ``switches`` is not a `Switches`.
    ValueError
        If ``y`` has another shape than the switches, or ``out`` does not fit.
    MixedBackendError
        If the two are on different devices.
    SwitchIndexError
        With ``duplicates="error"``: the message names the first such cell and its first two
        windows.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    >>> tinyml.max_unpool(*tinyml.max_pool(x, size=2, stride=1))
    array([[[[0, 0, 0],
             [0, 5, 6],
             [0, 8, 9]]]])
    """
    backend, rule, planes, winners, window, to = _prepared("y", y, switches, duplicates, out)
    g = switches.geometry
    result = backend.max_unpool(planes, winners, window, g.input_shape, rule, out=to)
    return result.reshape(g.unpooled) if out is None else out


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
    >>> _, switches = tinyml.max_pool(np.array([[[1.0, 3.0, 2.0]]]), size=(2,), stride=1)
    >>> tinyml.max_pool_gradient(np.array([[[10.0, 20.0]]]), switches)
    array([[[ 0., 30.,  0.]]])
    """
    backend, _, planes, winners, window, to = _prepared("gradient", gradient, switches, "sum", out)
    g = switches.geometry
    result = backend.max_pool_gradient(planes, winners, window, g.input_shape, out=to)
    return result.reshape(g.unpooled) if out is None else out


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
        Contiguous array of the shape of the switches and the dtype of ``gradient``, sharing no
        memory with the inputs. The result is written to it, and it is returned.

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
    >>> _, switches = tinyml.max_pool(np.array([[[1.0, 3.0, 2.0]]]), size=(2,), stride=1)
    >>> tinyml.max_unpool_gradient(np.array([[[0.5, 0.7, 0.9]]]), switches)
    array([[[0. , 0.7]]])
    """
    backend, rule, planes, winners, window, to = _prepared(
        "gradient", gradient, switches, duplicates, out, is_pooled=False
    )
    result = backend.max_unpool_gradient(planes, winners, window, rule, out=to)
    return result.reshape(switches.shape) if out is None else out


def _prepared(
    name: str,
    array: Array,
    switches: Switches,
    duplicates: Duplicates,
    out: Array | None,
    *,
    is_pooled: bool = True,
) -> tuple[Backend, Literal["last", "sum"], Array, Array, Window, Array | None]:
    """Check the arguments that all operations on switches share.

    Returns the backend, the rule for duplicates, ``array`` and the winners as stacks of planes, the
    window without cells that no input reaches, and ``out`` as a stack. With ``is_pooled``,
    ``array`` has the pooled shape and ``out`` the unpooled one; else the other way round.
    """
    if not isinstance(switches, Switches):
        raise TypeError(
            f"switches is a {type(switches).__name__}; it must be Switches, from max_pool or from "
            "Switches.of(indices, ...)"
        )
    winners, geometry = switches.winners, switches.geometry
    backend = backend_for(array, winners) if out is None else backend_for(array, winners, out)
    check_dtype(name, array)
    shapes = geometry.pooled, geometry.pooled_stack
    out_shapes = geometry.unpooled, geometry.unpooled_stack
    if not is_pooled:
        shapes, out_shapes = out_shapes, shapes
    check_shape(name, array, shapes[0])
    to = out_stack(out, *out_shapes, (name, array), ("the winners", winners))
    if duplicates not in ("last", "sum", "error"):
        allowed = ", ".join(map(repr, get_args(Duplicates)))
        raise ValueError(f"duplicates is {duplicates!r}; it must be one of {allowed}")
    winners = winners.reshape(geometry.pooled_stack)
    window = geometry.window.clipped(geometry.input_shape)
    if window is not geometry.window:
        winners = backend.renumber(winners, geometry.window, window)
    if duplicates == "error":
        _refuse_duplicates(backend, winners, window, geometry)
        duplicates = "last"  # no cell was chosen twice, so that both rules give the same
    return backend, duplicates, array.reshape(shapes[1]), winners, window, to


def _refuse_duplicates(
    backend: Backend, winners: Array, window: Window, geometry: Geometry
) -> None:
    found = backend.first_duplicate(winners, window, geometry.input_shape)
    if found is None:
        return
    shapes = geometry.unpooled, geometry.pooled, geometry.pooled
    cell, first, second = (
        tuple(map(int, np.unravel_index(flat, shape)))
        for flat, shape in zip(found, shapes, strict=True)
    )
    raise SwitchIndexError(
        f"the windows at {first} and {second} both chose the cell {cell}; where windows overlap, "
        'take duplicates="last" or "sum"'
    )
