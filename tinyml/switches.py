"""Max-pooling indices that carry their geometry.

Zeiler and Fergus call them switches: the record of which cell of each window was its maximum
("Visualizing and Understanding Convolutional Networks", ECCV 2014).
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NoReturn, Self, get_args

import numpy as np

from tinyml_backends import SwitchIndexError, Window, backend_for, home_of
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, lengths
from tinyml_backends.arrays import Array
from tinyml_backends.generic.indices import Convention
from tinyml_backends.geometry import pitches

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)


class Switches:
    """Winner of each pooling window, with the window and the shape of the input.

    `tinyml.max_pool` returns them, `tinyml.max_unpool` needs nothing else. They are immutable.
    Indices from elsewhere become switches, checked once, through `Switches.of`.

    Attributes
    ----------
    winners : array of unsigned integers, (…, *pooled shape)
        Row-major number of each window's maximum inside its window, ``0 … prod(size) - 1``, in the
        smallest dtype that holds it. Axes in front are those of the pooled array.
    window : Window
        Size, stride, padding, dilation and ceil_mode.
    input_shape : tuple of int
        Spatial shape of the array that was pooled.

    Examples
    --------
    >>> import numpy as np, tinyml
    >>> x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    >>> y, switches = tinyml.max_pool(x, size=2, stride=1)
    >>> switches
    Switches(shape (1, 1, 2, 2), size (2, 2), stride (1, 1), input (3, 3), 4 bytes)
    >>> switches.to("plane")
    array([[[[4, 5],
             [7, 8]]]])
    """

    __slots__ = ("input_shape", "window", "winners")

    winners: Array
    window: Window
    input_shape: tuple[int, ...]

    def __init__(self) -> None:
        raise TypeError("Switches come from tinyml.max_pool, or from Switches.of(indices, ...)")

    @classmethod
    def of(
        cls,
        indices: Array,
        convention: Convention,
        *,
        size: IntPerAxis,
        stride: IntPerAxis | None = None,
        padding: PaddingPerAxis = 0,
        dilation: IntPerAxis = 1,
        ceil_mode: bool = False,
        input_shape: Sequence[int],
    ) -> "Switches":
        """Switches from indices of another source, every one of them checked.

        Parameters
        ----------
        indices : array of integers, (channels, *pooled shape) or (samples, channels, …)
            One index for each window.
        convention : {"window", "plane"}
            "window": row-major number of the cell inside its window (this library, Chainer).
            "plane": flat row-major position in the unpadded plane (PyTorch, Paddle, MindSpore).
        size, stride, padding, dilation, ceil_mode
            The window, as for `tinyml.max_pool`.
        input_shape : sequence of int
            Spatial shape of the array that was pooled.

        Raises
        ------
        TypeError
            If the indices are no integers.
        ValueError
            If the convention is unknown, or the indices' shape is not that of the pooled array.
        SwitchIndexError
            If an index lies outside its window, outside the plane or in padding; it names the
            first such index.

        Examples
        --------
        >>> import numpy as np, tinyml
        >>> indices = np.array([[[[4, 5], [7, 8]]]])
        >>> tinyml.Switches.of(indices, "plane", size=2, stride=1, input_shape=(3, 3)).winners
        array([[[[3, 3],
                 [3, 3]]]], dtype=uint8)
        """
        backend = backend_for(indices)
        _check_convention(convention)
        spatial = lengths("input_shape", input_shape, None)
        window = Window.of(len(spatial), size, stride, padding, dilation, ceil_mode)
        pooled = window.pooled_shape(spatial)
        if indices.dtype.kind not in "iu":
            raise TypeError(f"indices have dtype {indices.dtype}; they must be integers")
        if indices.ndim not in (window.axes + 1, window.axes + 2) or (
            tuple(indices.shape[-window.axes :]) != pooled
        ):
            needed = f"(channels, {_listed(pooled)}) or (samples, channels, {_listed(pooled)})"
            raise ValueError(
                f"indices have shape {tuple(indices.shape)}; a window of {window} on an input of "
                f"{spatial} needs {needed}"
            )
        planes = indices.reshape(prod(indices.shape[: -window.axes]), *pooled)
        winners, first_bad = backend.winners_from_indices(planes, convention, window, spatial)
        if first_bad >= 0:
            value = int(backend.to_numpy(planes.reshape(-1)[first_bad : first_bad + 1])[0])
            position = np.unravel_index(first_bad, indices.shape)
            raise SwitchIndexError(
                _bad_index(convention, value, tuple(map(int, position)), window, spatial)
            )
        return trusted_switches(winners.reshape(indices.shape), window, spatial)

    def to(self, convention: Convention) -> Array:
        """Int64 indices in a convention of `Switches.of`, shaped like the pooled array."""
        _check_convention(convention)
        pooled = self.shape[-self.window.axes :]
        planes = self.winners.reshape(prod(self.shape[: -self.window.axes]), *pooled)
        indices = home_of(self.winners).indices_from_winners(
            planes, convention, self.window, self.input_shape
        )
        return indices.reshape(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pooled array."""
        return tuple(self.winners.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the winners."""
        return int(self.winners.nbytes)

    def __repr__(self) -> str:
        return (
            f"Switches(shape {self.shape}, {self.window}, input {self.input_shape}, "
            f"{self.nbytes} bytes)"
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"Switches are immutable; {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _checked_again, (self.winners, self.window, self.input_shape)


def trusted_switches(winners: Array, window: Window, input_shape: tuple[int, ...]) -> Switches:
    """Switches from winners that a kernel made; nothing is checked, and the winners are frozen."""
    if hasattr(winners, "setflags"):  # NumPy's; CuPy arrays cannot be made read-only
        winners.setflags(write=False)
    switches = Switches.__new__(Switches)
    object.__setattr__(switches, "winners", winners)
    object.__setattr__(switches, "window", window)
    object.__setattr__(switches, "input_shape", input_shape)
    return switches


def _checked_again(winners: Array, window: Window, input_shape: tuple[int, ...]) -> Switches:
    return Switches.of(
        winners,
        "window",
        size=window.size,
        stride=window.stride,
        padding=window.padding,
        dilation=window.dilation,
        ceil_mode=window.ceil_mode,
        input_shape=input_shape,
    )


def _check_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(
            f"convention is {convention!r}; it must be one of {', '.join(map(repr, CONVENTIONS))}"
        )


def _bad_index(
    convention: Convention,
    value: int,
    position: tuple[int, ...],
    window: Window,
    input_shape: tuple[int, ...],
) -> str:
    """One sentence: where, what, and which indices that window may have."""
    output = position[-window.axes :]
    covered = []
    allowed: list[Any] = [0]
    steps = pitches(window.size) if convention == "window" else pitches(input_shape)
    for axis, starts in enumerate(window.starts(input_shape)):
        cells = [
            (number, place)
            for number in range(window.size[axis])
            if 0
            <= (place := starts[output[axis]] + number * window.dilation[axis])
            < input_shape[axis]
        ]
        covered.append(f"{cells[0][1]} to {cells[-1][1]}")
        ours = [number if convention == "window" else place for number, place in cells]
        allowed = [a + steps[axis] * o for a in allowed for o in ours]
    if len(allowed) > 16:
        allowed = [*allowed[:8], "…", *allowed[-4:]]
    return (
        f"indices[{_listed(position)}] is {value}; the window there covers the input cells "
        f"[{', '.join(covered)}] of {input_shape}, whose {convention} indices are "
        f"{_listed(allowed)}"
    )


def _listed(numbers: Sequence[object]) -> str:
    return ", ".join(map(str, numbers))
