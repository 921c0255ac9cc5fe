"""Max-pooling layers. The mathematics is on the page docs/max_unpooling.md."""

from tinyml.layers.base import ImageLayer
from tinyml.pooling import max_pool, max_pool_gradient
from tinyml.switches import Switches
from tinyml_backends import Window
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.arrays import Array


class MaxPool2D(ImageLayer):
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
        input_dim: tuple[int, int, int],
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
        self.window = Window.of(2, size, stride, padding, dilation, ceil_mode)
        self.set_input(input_dim)

    def output_dim(self, input_dim: tuple[int, int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the pooled image."""
        height, width = self.window.pooled_shape(input_dim[1:])
        return input_dim[0], height, width

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
