"""Pooling layers. The mathematics is on the page docs/max_unpooling.md."""

from typing import ClassVar

from tinyml.layers.base import SpatialLayer
from tinyml.pooling.average import avg_pool, avg_pool_gradient, check_divisor
from tinyml.pooling.max import max_pool, max_pool_gradient
from tinyml.pooling.switches import Switches
from tinyml_backends import Window
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis, lengths
from tinyml_backends.arrays import Array


class MaxPool2D(SpatialLayer):
    """Maximum of each window of an image.

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input.
    size, stride : int or (int, int)
        As for `tinyml.max_pool`. Rows and columns that fill no whole window are left out.
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
    switches : Switches or None
        Winners of the last forward pass, for an unpool layer.

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

    saves = ("switches",)
    switches: Switches | None

    def __init__(
        self,
        name: str,
        input_dim: tuple[int, ...],
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
        self.set_input(input_dim)

    def output_dim(self, input_dim: tuple[int, ...]) -> tuple[int, ...]:
        """Channels, and spatial shape of the pooled array."""
        return input_dim[0], *self.window.pooled_shape(input_dim[1:])

    def forward(self, input: Array) -> Array | tuple[Array, Array]:
        """Pool ``input`` (samples, channels, height, width).

        Returns the output, and with ``return_index`` also its int64 indices, each the row-major
        number of the maximum inside its window.
        """
        self.check("input", input, self.input_dim)
        window = self.window
        y, self.switches = max_pool(
            input, window.size, window.stride, window.padding, window.dilation, window.ceil_mode
        )
        self.num_of_entries = len(input)
        return (y, self.switches.to("window")) if self.return_index else y

    def backward(self, in_gradient: Array) -> Array:
        """Send each gradient to the cell that was its window's maximum."""
        return max_pool_gradient(in_gradient, self.saved(self.switches))


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
        input_dim: tuple[int, ...],
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
        self.set_input(input_dim)

    def output_dim(self, input_dim: tuple[int, ...]) -> tuple[int, ...]:
        """Channels, and spatial shape of the pooled array."""
        return input_dim[0], *self.window.pooled_shape(input_dim[1:])

    def _arguments(self) -> tuple[object, ...]:
        w = self.window
        geometry = (w.size, w.stride, w.padding, w.dilation, w.ceil_mode)
        return (*geometry, self.count_include_pad, self.divisor_override)

    def forward(self, input: Array) -> Array:
        """Pool ``input`` (samples, channels, height, width)."""
        self.check("input", input, self.input_dim)
        y = avg_pool(input, *self._arguments())  # type: ignore[arg-type]
        self.num_of_entries = len(input)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Share each gradient among the cells of its window; nothing of forward is needed."""
        self.check("gradient", in_gradient, self.out_dim)
        return avg_pool_gradient(in_gradient, self.input_dim[1:], *self._arguments())  # type: ignore[arg-type]


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

    def __init__(self, name: str, input_dim: tuple[int, ...]) -> None:
        spatial = lengths("input_dim", input_dim, self.axes + 1)[1:]
        super().__init__(name, input_dim, spatial, spatial)

    def set_input(self, input_dim: tuple[int, ...]) -> None:
        """Prepare for images of another size: the window grows with them."""
        self.size = self.stride = lengths("input_dim", input_dim, self.axes + 1)[1:]
        self.window = Window.of(self.axes, self.size)
        super().set_input(input_dim)
