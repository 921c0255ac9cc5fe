"""What layers for images share: channels and one to three spatial axes."""

from typing import ClassVar

from tinyml.layers.base import Dim, Layer
from tinyml_backends.arguments import lengths
from tinyml_backends.arrays import Array

#: Names of the spatial axes in messages and attributes, by their number.
AXIS_NAMES = (), ("length",), ("height", "width"), ("depth", "height", "width")


class SpatialLayer(Layer):
    """A layer for images: channels first, then one to three spatial axes.

    A network checks ``input_dim`` when the layer is added. A forward pass takes images of any size
    that the window fits into; only the number of channels must be that of ``input_dim``.

    Attributes
    ----------
    axes : int
        Number of spatial axes.
    input_channel, input_height, input_width : int
        Entries of ``input_dim``. Layers in 3-D also have ``input_depth``; layers in 1-D have
        ``input_length`` instead of height and width.
    out_height, out_width : int
        Entries of ``out_dim``, likewise.
    num_of_entries : int
        Samples in the last forward pass.
    """

    axes: ClassVar[int] = 2
    num_of_entries: int = 0
    input_channel: int
    input_height: int
    input_width: int
    out_height: int
    out_width: int

    def set_dims(self, input_dim: Dim) -> None:
        """Set ``input_dim`` and ``out_dim``, and the attributes named after their axes."""
        dim = lengths(f"{self!r}: input_dim", input_dim, self.axes + 1)
        self.input_channel = dim[0]
        self.set_out_dim(self.output_dim(dim))
        self.input_dim = dim
        for name, length in zip(AXIS_NAMES[self.axes], dim[1:], strict=True):
            setattr(self, f"input_{name}", length)

    def set_out_dim(self, out_dim: Dim) -> None:
        """Set ``out_dim`` and the attributes named after its axes."""
        self.out_dim = out_dim
        for name, length in zip(AXIS_NAMES[self.axes], out_dim[1:], strict=True):
            setattr(self, f"out_{name}", length)

    def output_dim(self, *dims: Dim) -> Dim:
        """Shape of one output sample, given the shape of one input sample.

        Raises
        ------
        ValueError
            If the input has another number of channels, or is too small for the window.
        """
        if len(dims) != 1:
            raise ValueError(f"{self!r} takes one input; got {len(dims)}")
        (dim,) = dims
        if len(dim) != self.axes + 1 or dim[0] != self.input_channel:
            wanted = ", ".join((str(self.input_channel), *AXIS_NAMES[self.axes]))
            raise ValueError(f"{self!r}: the input's dim is {dim}; it must be ({wanted})")
        try:
            return self.output_of(dim)
        except ValueError as error:
            raise ValueError(f"{self!r}: {error}") from None

    def output_of(self, dim: Dim) -> Dim:
        """As `output_dim`, for a shape that has been checked; by default the same shape."""
        return dim

    def check_channels(self, x: Array) -> None:
        """Raise an error unless ``x`` is (samples, channels, *spatial) with the right channels."""
        self.check("input", x, ("samples", self.input_channel, *AXIS_NAMES[self.axes]))

    def check_input(self, x: Array) -> None:
        """As `check_channels`; also raise ValueError if ``x`` is too small for the window."""
        self.check_channels(x)
        self.output_dim(tuple(x.shape[1:]))
