"""Max-pooling indices together with the window and the shapes that they belong to.

Zeiler and Fergus call them switches: the record of which cell of each window was its maximum
("Visualizing and Understanding Convolutional Networks", ECCV 2014).
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tinyml.pooling.layout import Geometry, Layout, check_indices, check_layout, geometry_of
from tinyml_backends import (
    Convention,
    ConventionName,
    SwitchIndexError,
    Window,
    backend_for,
    owner_of,
)
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, lengths
from tinyml_backends.arrays import Array


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Switches:
    """Winner of each pooling window, with the window and the shape of the input.

    `tinyml.max_pool` returns them, and `tinyml.max_unpool` needs nothing else. They are immutable.
    `Switches.of` makes switches from indices of another library, and checks every index once.

    Attributes
    ----------
    winners : array of unsigned integers, (…, *pooled shape)
        Row-major number of each window's maximum inside its window, ``0 … prod(size) - 1``, in the
        smallest unsigned dtype that holds it. The leading axes are those of the pooled array.
    window : Window
        Size, stride, padding, dilation and ceil_mode.
    input_shape : tuple of int
        Spatial shape of the array that was pooled.
    layout : {"channels_first", "channels_last"}
        Position of the channels axis.

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

    # with slots=True, Python 3.11 raises TypeError where an unknown attribute is assigned
    __slots__ = ("geometry", "winners")

    winners: Array
    geometry: Geometry

    def __init__(self) -> None:
        raise TypeError("Switches come from tinyml.max_pool, or from Switches.of(indices, ...)")

    @classmethod
    def of(
        cls,
        indices: Array,
        convention: ConventionName,
        *,
        size: IntPerAxis,
        stride: IntPerAxis | None = None,
        padding: PaddingPerAxis = 0,
        dilation: IntPerAxis = 1,
        ceil_mode: bool = False,
        input_shape: Sequence[int],
        layout: Layout = "channels_first",
        order: Literal["C", "F"] = "C",
        include_batch: bool = False,
    ) -> "Switches":
        """Switches from indices of another library; every index is checked.

        Parameters
        ----------
        indices : array of integers, (channels, *pooled shape) or (samples, channels, …)
            One index for each window.
        convention : {"window", "plane", "tensor", "nhwc"}
            "window": row-major number of the cell inside its window (this library, Chainer).
            "plane": flat row-major position in the unpadded plane (PyTorch, Paddle, MindSpore).
            "tensor": flat position in the whole (N, C, …) array (ONNX); channels first only.
            "nhwc": flat position in (…, C), channels fastest (TensorFlow); channels last.
        size, stride, padding, dilation, ceil_mode
            The window, as for `tinyml.max_pool`.
        input_shape : sequence of int
            Spatial shape of the array that was pooled.
        layout : {"channels_first", "channels_last"}
            Of the indices; "nhwc" implies channels_last.
        order : {"C", "F"}
            "tensor" only: "F" counts the first spatial axis fastest (ONNX's storage_order=1).
        include_batch : bool
            "nhwc" only: whether the preceding images count (TensorFlow's
            include_batch_in_index).

        Raises
        ------
        TypeError
            If the indices are not integers.
        ValueError
            If the convention or the layout is unknown, an option does not belong to it, or the
            indices do not have the shape of the pooled array.
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
        if convention == "nhwc":
            layout = "channels_last"
        checked = _convention(convention, order, include_batch)
        spatial = lengths("input_shape", input_shape, None)
        window = Window.of(len(spatial), size, stride, padding, dilation, ceil_mode)
        return cls.from_indices(indices, checked, window, spatial, layout)

    @classmethod
    def from_indices(
        cls,
        indices: Array,
        convention: Convention,
        window: Window,
        input_shape: tuple[int, ...],
        layout: Layout = "channels_first",
    ) -> "Switches":
        """As `Switches.of`, with a `Convention` and a `Window`; unpickling calls it."""
        backend = backend_for(indices)
        _check_layout_of(convention, layout)
        check_indices(indices)
        shape, spatial = tuple(indices.shape), lengths("input_shape", input_shape, window.axes)
        geometry = geometry_of(shape, window, layout, spatial)
        if len(shape) - window.axes not in (1, 2) or shape != geometry.pooled:
            pooled = window.pooled_shape(spatial)
            is_first = layout == "channels_first"
            needed = _listed(("channels", *pooled) if is_first else (*pooled, "channels"))
            raise ValueError(
                f"indices have shape {shape}; a window of {window} on an input of "
                f"{spatial} needs ({needed}) or (samples, {needed})"
            )
        planes = indices.reshape(geometry.pooled_stack)
        winners, first_bad = backend.winners_from_indices(planes, convention, window, spatial)
        if first_bad >= 0:
            value = int(backend.to_numpy(planes.reshape(-1)[first_bad : first_bad + 1])[0])
            raise SwitchIndexError(_bad_index(convention, value, first_bad, geometry))
        return trusted_switches(winners.reshape(shape), geometry)

    def to(
        self,
        convention: ConventionName,
        *,
        order: Literal["C", "F"] = "C",
        include_batch: bool = False,
    ) -> Array:
        """Int64 indices in a convention of `Switches.of`, shaped like the pooled array.

        Raises
        ------
        ValueError
            If the convention is unknown, or does not fit the layout or an option.
        """
        checked = _convention(convention, order, include_batch)
        _check_layout_of(checked, self.layout)
        planes = self.winners.reshape(self.geometry.pooled_stack)
        backend = owner_of(planes)
        indices = backend.indices_from_winners(planes, checked, self.window, self.input_shape)
        return indices.reshape(self.shape)

    def to_numpy(self) -> "Switches":
        """Return the same switches with NumPy winners."""
        return trusted_switches(owner_of(self.winners).to_numpy(self.winners), self.geometry)

    def copy(self) -> "Switches":
        """Switches with a copy of the winners."""
        return trusted_switches(self.winners.copy(), self.geometry)

    @property
    def window(self) -> Window:
        """Size, stride, padding, dilation and ceil_mode."""
        return self.geometry.window

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Spatial shape of the array that was pooled."""
        return self.geometry.input_shape

    @property
    def layout(self) -> Layout:
        """Position of the channels axis."""
        return self.geometry.layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pooled array."""
        return self.geometry.pooled

    @property
    def unpooled_shape(self) -> tuple[int, ...]:
        """Shape of the array that was pooled."""
        return self.geometry.unpooled

    @property
    def nbytes(self) -> int:
        """Bytes of the winners."""
        return int(self.winners.nbytes)

    def __repr__(self) -> str:
        return (
            f"Switches(shape {self.shape}, {self.window}, input {self.input_shape}, "
            f"{'channels_last, ' if self.layout == 'channels_last' else ''}{self.nbytes} bytes)"
        )

    def __eq__(self, other: object) -> bool:
        """Same geometry, layout and winners."""
        if not isinstance(other, Switches):
            return NotImplemented
        return (
            self.geometry == other.geometry
            and owner_of(self.winners).library == owner_of(other.winners).library
            and bool((self.winners == other.winners).all())
        )

    def __len__(self) -> int:
        """Number of samples."""
        if len(self.shape) == self.window.axes + 1:
            raise TypeError("these switches have no batch axis")
        return len(self.winners)

    def __getitem__(self, samples: int | slice) -> "Switches":
        """Switches of some samples, or of one without its batch axis."""
        if not isinstance(samples, slice):
            samples = operator.index(samples)
        len(self)
        chosen = self.winners[samples]
        geometry = geometry_of(chosen.shape, self.window, self.layout, self.input_shape)
        return trusted_switches(chosen, geometry)

    def __copy__(self) -> "Switches":
        return self.copy()  # the winners may be a view of a caller's array, given as out=

    def __deepcopy__(self, memo: object) -> "Switches":
        return self.copy()

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (Convention("window"), self.window, self.input_shape, self.layout)
        return Switches.from_indices, (self.winners, *arguments)


# `Switches` is frozen, so fields are set by these; module globals are the fastest to look up
_new, _assign = object.__new__, object.__setattr__


def trusted_switches(winners: Array, geometry: Geometry) -> Switches:
    """Switches from winners that a kernel made, unchecked; the array object becomes read-only."""
    if isinstance(winners, np.ndarray):  # CuPy arrays cannot be made read-only
        winners.setflags(write=False)
    switches = _new(Switches)
    _assign(switches, "winners", winners)
    _assign(switches, "geometry", geometry)
    return switches


def _convention(name: ConventionName, order: Literal["C", "F"], include_batch: bool) -> Convention:
    """Check a convention and its options."""
    if name not in get_args(ConventionName):
        allowed = ", ".join(map(repr, get_args(ConventionName)))
        raise ValueError(f"convention is {name!r}; it must be one of {allowed}")
    if order not in ("C", "F"):
        raise ValueError(f"order is {order!r}; it must be 'C' or 'F'")
    if order == "F" and name != "tensor":
        raise ValueError(f"order='F' belongs to the convention 'tensor', not to {name!r}")
    if include_batch and name != "nhwc":
        raise ValueError(f"include_batch belongs to the convention 'nhwc', not to {name!r}")
    return Convention(name, order, bool(include_batch))


def _check_layout_of(convention: Convention, layout: Layout) -> None:
    check_layout(layout)
    name = convention.name
    needed = {"tensor": "channels_first", "nhwc": "channels_last"}.get(name, layout)
    if layout != needed:
        raise ValueError(f"the convention {name!r} is of arrays {needed}; the layout is {layout}")


def _bad_index(convention: Convention, value: int, first_bad: int, geometry: Geometry) -> str:
    """One sentence: the position, the index, and the indices allowed there."""
    window, input_shape = geometry.window, geometry.input_shape
    position = tuple(map(int, np.unravel_index(first_bad, geometry.pooled)))
    plane, *output = map(int, np.unravel_index(first_bad, geometry.pooled_stack))
    numbers, places = [], []
    for axis, starts in enumerate(window.starts(input_shape)):
        number = np.arange(window.size[axis])
        place = starts[output[axis]] + number * window.dilation[axis]
        is_inside = (place >= 0) & (place < input_shape[axis])
        numbers.append(number[is_inside])
        places.append(place[is_inside])
    if convention.name == "window":
        allowed = np.ravel_multi_index(np.ix_(*numbers), window.size)
    else:
        stack, axes = geometry.unpooled_stack, window.axes
        offsets = convention.offsets(np, stack, axes, range(plane, plane + 1)).reshape(-1)
        flat = np.ravel_multi_index(np.ix_(*places), input_shape, order=convention.order)
        offset = offsets[output[-1] if convention.name == "nhwc" else 0]
        allowed = flat * convention.pitch(stack, axes) + offset
    listed = [str(index) for index in allowed.flat]
    if len(listed) > 16:
        listed = [*listed[:8], "…", *listed[-4:]]
    covered = ", ".join(f"{place[0]} to {place[-1]}" for place in places)
    return (
        f"indices[{_listed(position)}] is {value}; the window there covers the input cells "
        f"[{covered}] of {input_shape}, whose {convention.name} indices are {_listed(listed)}"
    )


def _listed(numbers: Sequence[object]) -> str:
    return ", ".join(map(str, numbers))
