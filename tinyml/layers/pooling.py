"""Pooling layers. The mathematics is on the page docs/max_unpooling.md."""

from contextvars import ContextVar
from typing import ClassVar

from tinyml.layers.base import Dim
from tinyml.layers.spatial import SpatialLayer
from tinyml.pooling import Switches, max_pool_gradient
from tinyml.pooling.average import avg_pool_gradient_windowed, avg_pool_windowed, check_divisor
from tinyml.pooling.max import max_pool_windowed
from tinyml_backends import Window
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, lengths
from tinyml_backends.arrays import Array

#: While `tinyml.graph.Graph.output_dim` runs: the input shape of each pooling layer so far.
pooled_dims: "ContextVar[dict[MaxPool2D, Dim] | None]" = ContextVar("pooled_dims", default=None)


class MaxPool2D(SpatialLayer):
    """Maximum of each window of an image.

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input.
    size, stride : int or (int, int)
        As for `tinyml.max_pool`. Last rows and columns that do not fill a window are left out,
        unless ``ceil_mode``.
    return_index : bool
        Whether ``forward`` returns the indices too.
    padding, dilation, ceil_mode
        As for `tinyml.max_pool`.

    Attributes
    ----------
    out_height, out_width : int
    out_dim : (int, int, int)
        Channels, height and width of the output.
    num_of_entries : int
        Samples in the last forward pass.

    Raises
    ------
    ValueError
        If the window does not fit the input.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import MaxPool2D
    >>> pool = MaxPool2D("pool", (1, 4, 4), (2, 2), 2, return_index=True)
    >>> y, indices = pool(np.arange(16.0).reshape(1, 1, 4, 4))
    >>> y, indices
    (array([[[[ 5.,  7.],
             [13., 15.]]]]), array([[[[3, 3],
             [3, 3]]]]))
    """

    saved: Switches | None

    def __init__(
        self,
        name: str,
        input_dim: Dim,
        size: IntPerAxis,
        stride: IntPerAxis,
        return_index: bool = False,
        *,
        padding: PaddingPerAxis = 0,
        dilation: IntPerAxis = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(name)
        self.size = size
        self.stride = stride
        self.return_index = return_index
        self.window = Window.of(self.axes, size, stride, padding, dilation, ceil_mode)
        self.set_dims(input_dim)

    def output_of(self, dim: Dim) -> Dim:
        """Channels, and spatial shape of the pooled array."""
        if (known := pooled_dims.get()) is not None:
            known[self] = dim
        return dim[0], *self.window.pooled_shape(dim[1:])

    @property
    def switches(self) -> Switches | None:
        """Winners of the last forward pass, for an unpool layer."""
        return self.saved

    def forward(self, input: Array) -> Array | tuple[Array, Array]:
        """Pool ``input`` (samples, channels, height, width).

        Returns the output, and with ``return_index`` also its int64 indices, each the row-major
        number of the maximum inside its window.
        """
        self.check_input(input)
        y, switches = max_pool_windowed(input, self.window)
        self.saved = switches
        self.num_of_entries = len(input)
        return (y, switches.to("window")) if self.return_index else y

    def backward(self, in_gradient: Array) -> Array:
        """Add each gradient to the cell that was its window's maximum."""
        return max_pool_gradient(in_gradient, self.saved_by_forward())


class MaxPool1D(MaxPool2D):
    """`MaxPool2D` for (channels, length)."""

    axes: ClassVar[int] = 1


class MaxPool3D(MaxPool2D):
    """`MaxPool2D` for (channels, depth, height, width)."""

    axes: ClassVar[int] = 3


class AvgPool2D(SpatialLayer):
    """Mean of each window of an image.

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input.
    size, stride : int or (int, int)
    padding, dilation, ceil_mode, count_include_pad, divisor_override
        As for `tinyml.avg_pool`.

    Raises
    ------
    ValueError
        If the window does not fit the input.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import AvgPool2D
    >>> pool = AvgPool2D("pool", (1, 2, 4), 2, 2)
    >>> pool(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[2.5, 4.5]]]])
    """

    def __init__(
        self,
        name: str,
        input_dim: Dim,
        size: IntPerAxis,
        stride: IntPerAxis,
        *,
        padding: PaddingPerAxis = 0,
        dilation: IntPerAxis = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(name)
        self.size = size
        self.stride = stride
        self.window = Window.of(self.axes, size, stride, padding, dilation, ceil_mode)
        self.count_include_pad = count_include_pad
        self.divisor_override = check_divisor(divisor_override)
        self.set_dims(input_dim)

    def output_of(self, dim: Dim) -> Dim:
        """Channels, and spatial shape of the pooled array."""
        return dim[0], *self.window_for(dim).pooled_shape(dim[1:])

    def window_for(self, dim: Dim) -> Window:
        """Window that pools an image of shape ``dim``."""
        return self.window

    def forward(self, input: Array) -> Array:
        """Pool ``input`` (samples, channels, height, width)."""
        self.check_input(input)
        window = self.window_for(tuple(input.shape[1:]))
        y = avg_pool_windowed(input, window, self.count_include_pad, self.divisor_override)
        self.saved = tuple(input.shape)
        self.num_of_entries = len(input)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Divide each gradient equally among the cells of its window."""
        samples, channels, *spatial = self.saved_by_forward()
        dim = (channels, *spatial)
        self.check("gradient", in_gradient, (samples, *self.output_of(dim)))
        return avg_pool_gradient_windowed(
            in_gradient,
            dim[1:],
            self.window_for(dim),
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool1D(AvgPool2D):
    """`AvgPool2D` for (channels, length)."""

    axes: ClassVar[int] = 1


class AvgPool3D(AvgPool2D):
    """`AvgPool2D` for (channels, depth, height, width)."""

    axes: ClassVar[int] = 3


class GlobalAvgPool2D(AvgPool2D):
    """Mean of each channel of an image; the output is (samples, channels, 1, 1).

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import GlobalAvgPool2D
    >>> GlobalAvgPool2D("pool", (1, 2, 4))(np.arange(8.0).reshape(1, 1, 2, 4))
    array([[[[3.5]]]])
    """

    def __init__(self, name: str, input_dim: Dim) -> None:
        spatial = lengths("input_dim", input_dim, self.axes + 1)[1:]
        super().__init__(name, input_dim, spatial, spatial)

    def window_for(self, dim: Dim) -> Window:
        """A window as large as the image."""
        return Window.of(self.axes, dim[1:])
