"""Max-pooling, max-unpooling and their gradients, for one to three spatial axes.

Arrays are (samples, channels, *spatial), channels first. A tuple ``size`` fixes the number of
spatial axes, and the batch axis may then be left out.
"""

from collections.abc import Sequence
from math import prod

from tinyml.arrays import check_dtype, check_shape
from tinyml.switches import Switches, trusted_switches
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.arrays import Array


def max_pool(
    x: Array,
    size: IntPerAxis,
    stride: IntPerAxis | None = None,
    padding: PaddingPerAxis = 0,
    dilation: IntPerAxis = 1,
    ceil_mode: bool = False,
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
    axes = _spatial_axes(x, size)
    window = Window.of(axes, size, stride, padding, dilation, ceil_mode)
    lead, spatial = tuple(x.shape[:-axes]), tuple(x.shape[-axes:])
    pooled = (*lead, *window.pooled_shape(spatial))
    values, winners = backend.max_pool(x.reshape(prod(lead), *spatial), window)
    return values.reshape(pooled), trusted_switches(winners.reshape(pooled), window, spatial)


def max_unpool(y: Array, switches: Switches) -> Array:
    """Put each value of ``y`` where its window had its maximum, and zero elsewhere.

    Where overlapping windows chose one cell, the last of them in row-major order writes it.

    Parameters
    ----------
    y : array, shape of the switches
        Values to place; any dtype of `max_pool`.
    switches : Switches
        Winners with their geometry, from `max_pool` or `Switches.of`.

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

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    >>> tinyml.max_unpool(*tinyml.max_pool(x, size=2, stride=1))
    array([[[[0, 0, 0],
             [0, 5, 6],
             [0, 8, 9]]]])
    """
    _check_switches(switches)
    backend = backend_for(y, switches.winners)
    check_dtype("y", y)
    check_shape("y", y, switches.shape)
    out = backend.max_unpool(*_planes(y, switches), switches.window, switches.input_shape)
    return out.reshape(*_lead(switches), *switches.input_shape)


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
    _check_switches(switches)
    backend = backend_for(gradient, switches.winners)
    check_dtype("gradient", gradient)
    check_shape("gradient", gradient, switches.shape)
    out = backend.max_pool_gradient(
        *_planes(gradient, switches), switches.window, switches.input_shape
    )
    return out.reshape(*_lead(switches), *switches.input_shape)


def max_unpool_gradient(gradient: Array, switches: Switches) -> Array:
    """Gradient of `max_unpool` with respect to the values it placed.

    Parameters
    ----------
    gradient : array, (…, *switches.input_shape)
        Gradient with respect to the unpooled array.
    switches : Switches
        What `max_unpool` was given.

    Returns
    -------
    array, shape of the switches, dtype of ``gradient``
        Zero for a value that a later window overwrote.

    Raises
    ------
    TypeError, ValueError, MixedBackendError
        As for `max_unpool`.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> _, switches = tinyml.max_pool(np.array([[[1.0, 3.0, 2.0]]]), size=2, stride=1)
    >>> tinyml.max_unpool_gradient(np.array([[[0.5, 0.7, 0.9]]]), switches)
    array([[[0. , 0.7]]])
    """
    _check_switches(switches)
    backend = backend_for(gradient, switches.winners)
    check_dtype("gradient", gradient)
    check_shape("gradient", gradient, (*_lead(switches), *switches.input_shape))
    stack = gradient.reshape(prod(_lead(switches)), *switches.input_shape)
    _, winners = _planes(switches.winners, switches)
    return backend.max_unpool_gradient(stack, winners, switches.window).reshape(switches.shape)


def _spatial_axes(x: Array, size: IntPerAxis) -> int:
    """Return the number of spatial axes that ``size`` and the rank of ``x`` stand for."""
    if isinstance(size, Sequence):
        axes = len(size)
        fits = x.ndim in (axes + 1, axes + 2)
    else:
        axes = x.ndim - 2
        fits = True
    if not (fits and 1 <= axes <= 3):
        raise ValueError(
            f"x has shape {tuple(x.shape)} and size is {size!r}; x must have samples, channels and "
            "one to three spatial axes, one for each entry of a tuple size (samples may then be "
            "left out)"
        )
    return axes


def _lead(switches: Switches) -> tuple[int, ...]:
    return switches.shape[: -switches.window.axes]


def _planes(pooled: Array, switches: Switches) -> tuple[Array, Array]:
    """``pooled`` and the winners as stacks of planes."""
    shape = (prod(_lead(switches)), *switches.shape[-switches.window.axes :])
    return pooled.reshape(shape), switches.winners.reshape(shape)


def _check_switches(switches: object) -> None:
    if not isinstance(switches, Switches):
        raise TypeError(
            f"switches is a {type(switches).__name__}; it must be Switches, from max_pool or from "
            "Switches.of(indices, ...)"
        )
