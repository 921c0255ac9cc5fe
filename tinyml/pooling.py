"""Max-pooling, max-unpooling and their gradients, for one to three spatial axes.

Arrays are (samples, channels, *spatial), or (samples, *spatial, channels) with
``layout="channels_last"``. A tuple ``size`` fixes the number of spatial axes, and the batch axis
may then be left out.
"""

from typing import Literal, get_args

import numpy as np

from tinyml.arrays import check_dtype, check_shape
from tinyml.layout import Layout, check_layout, spatial_axes, spatial_of, stack, with_spatial
from tinyml.switches import Switches, trusted_switches
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
    layout: Layout = "channels_first",
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
        If the window does not fit ``x``, or would hold only padding.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    >>> y, switches = tinyml.max_pool(x, size=(2, 2), stride=1)
    >>> y
    array([[[[5, 6],
             [8, 9]]]])
    """
    backend = backend_for(x)
    check_dtype("x", x)
    check_layout(layout)
    axes = spatial_axes("x", x, size)
    window = Window.of(axes, size, stride, padding, dilation, ceil_mode)
    spatial = spatial_of(x.shape, axes, layout)
    shape = with_spatial(x.shape, axes, layout, window.pooled_shape(spatial))
    values, winners = backend.max_pool(stack(x, axes, layout), window)
    return values.reshape(shape), trusted_switches(winners.reshape(shape), window, spatial, layout)


def max_unpool(y: Array, switches: Switches, duplicates: Duplicates = "last") -> Array:
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

    Returns
    -------
    array, (…, *switches.input_shape), dtype of ``y``

    Raises
    ------
    TypeError
        If ``y`` has another dtype, or ``switches`` are none.
    ValueError
        If ``y`` has another shape than the switches.
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
    backend, rule = _prepared("y", y, switches, duplicates)
    out = backend.max_unpool(
        switches.stack(y),
        switches.stack(switches.winners),
        switches.window,
        switches.input_shape,
        rule,
    )
    return out.reshape(switches.unpooled_shape)


def max_pool_gradient(gradient: Array, switches: Switches) -> Array:
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
    backend, _ = _prepared("gradient", gradient, switches, "sum")
    out = backend.max_pool_gradient(
        switches.stack(gradient),
        switches.stack(switches.winners),
        switches.window,
        switches.input_shape,
    )
    return out.reshape(switches.unpooled_shape)


def max_unpool_gradient(
    gradient: Array, switches: Switches, duplicates: Duplicates = "last"
) -> Array:
    """Gradient of `max_unpool` with respect to the values it placed.

    Parameters
    ----------
    gradient : array, (…, *switches.input_shape)
        Gradient with respect to the unpooled array.
    switches, duplicates
        What `max_unpool` was given.

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
    backend, rule = _prepared("gradient", gradient, switches, duplicates, pooled=False)
    winners = switches.stack(switches.winners)
    out = backend.max_unpool_gradient(switches.stack(gradient), winners, switches.window, rule)
    return out.reshape(switches.shape)


def _prepared(
    name: str, array: Array, switches: Switches, duplicates: Duplicates, *, pooled: bool = True
) -> tuple[Backend, Literal["last", "sum"]]:
    """Check what every operation on switches is given; the backend, and the rule for duplicates."""
    if not isinstance(switches, Switches):
        raise TypeError(
            f"switches is a {type(switches).__name__}; it must be Switches, from max_pool or from "
            "Switches.of(indices, ...)"
        )
    backend = backend_for(array, switches.winners)
    check_dtype(name, array)
    check_shape(name, array, switches.shape if pooled else switches.unpooled_shape)
    if duplicates not in get_args(Duplicates):
        allowed = ", ".join(map(repr, get_args(Duplicates)))
        raise ValueError(f"duplicates is {duplicates!r}; it must be one of {allowed}")
    if duplicates == "error":
        _refuse_duplicates(backend, switches)
        return backend, "last"  # there are none, so that nothing is overwritten
    return backend, duplicates


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
