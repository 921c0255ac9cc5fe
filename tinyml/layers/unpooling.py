"""Max-unpooling layers. The mathematics is on the page docs/max_unpooling.md."""

from math import prod

from tinyml.layers.base import Layer
from tinyml.layers.convolution import columns_to_image
from tinyml.pooling import max_unpool, max_unpool_gradient
from tinyml.switches import Switches
from tinyml_backends import Window, backend_for
from tinyml_backends.arrays import Array
from tinyml_backends.geometry import IntPerAxis, PaddingPerAxis


class MaxUnpool2D(Layer):
    """Put values back where the windows of a pooling layer had their maxima; zero elsewhere.

    Parameters
    ----------
    name : str
    input_dim : (int, int, int)
        Channels, height and width of the input, which is the pooled image.
    size, stride : int or (int, int)
        Those of the pooling layer.
    padding, dilation
        Those of the pooling layer.

    Attributes
    ----------
    out_height, out_width : int
        ``(input − 1) · stride + size`` for windows without padding and dilation. Switches know
        the true size: after a forward pass with them it stands here.
    out_dim : (int, int, int)
    num_of_entries : int
        Samples in the last forward pass.
    switches : Switches or None
        Those of the last forward pass.

    Raises
    ------
    ValueError
        If the padding leaves nothing of the output.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import MaxPool2D, MaxUnpool2D
    >>> pool = MaxPool2D("pool", (1, 5, 5), (2, 2), 2)
    >>> unpool = MaxUnpool2D("unpool", (1, 2, 2), (2, 2), 2)
    >>> y = pool(np.arange(25.0).reshape(1, 1, 5, 5))
    >>> unpool(y, pool.switches).shape
    (1, 1, 5, 5)
    """

    def __init__(
        self,
        name: str,
        input_dim: tuple[int, int, int],
        size: IntPerAxis,
        stride: IntPerAxis,
        *,
        padding: PaddingPerAxis = 0,
        dilation: IntPerAxis = 1,
    ) -> None:
        super().__init__(name)
        self.input_dim = input_dim
        self.input_channel, self.input_height, self.input_width = input_dim
        self.size = size
        self.stride = stride
        self.window = Window.of(2, size, stride, padding, dilation)
        self._plain_shape = self.window.unpooled_shape(input_dim[1:])
        self._set_out(self._plain_shape)
        self.num_of_entries = 0
        self.switches: Switches | None = None

    def _set_out(self, shape: tuple[int, ...]) -> None:
        self.out_height, self.out_width = shape
        self.out_dim = (self.input_channel, self.out_height, self.out_width)

    def forward(self, x: Array, max_indices: Array | Switches) -> Array:
        """Unpool ``x`` (samples, channels, height, width).

        ``max_indices`` are a pooling layer's `Switches`, or integers, each the row-major number of
        the maximum inside its window, in any shape with as many elements as ``x``.
        """
        self.check("input", x, self.input_dim)
        if isinstance(max_indices, Switches):
            switches = self._of_this_window(max_indices)
        else:
            switches = self._from_indices(x, max_indices)
        out = max_unpool(x, switches)
        self.switches = switches
        self._set_out(switches.input_shape)
        self.num_of_entries = len(x)
        return out

    def backward(self, in_gradient: Array) -> Array:
        """Take each value's gradient from the cell it was put in."""
        return max_unpool_gradient(in_gradient, self.saved(self.switches))

    def _of_this_window(self, switches: Switches) -> Switches:
        theirs, ours = switches.window, self.window
        # How the pooling rounded its output's size does not matter here.
        if (theirs.size, theirs.stride, theirs.padding, theirs.dilation) != (
            *(ours.size, ours.stride, ours.padding, ours.dilation),
        ):
            raise ValueError(
                f"{self!r}: max_indices are switches of a window of {theirs}; "
                f"this layer's is of {ours}"
            )
        return switches

    def _from_indices(self, x: Array, indices: Array) -> Switches:
        backend_for(x, indices)
        if indices.size != x.size:
            raise ValueError(
                f"{self!r}: max_indices have {indices.size} elements {tuple(indices.shape)}; "
                f"the input {tuple(x.shape)} needs {prod(x.shape)}"
            )
        return Switches.of(
            indices.reshape(x.shape),
            "window",
            size=self.window.size,
            stride=self.window.stride,
            padding=self.window.padding,
            dilation=self.window.dilation,
            input_shape=self._plain_shape,
        )


def col2im_no_dup(
    cols: Array,
    x_shape: tuple[int, int, int, int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """Columns back to an image; where they overlap, the last row of ``cols`` wins.

    As `tinyml.layers.convolution.col2im_indices`, which adds instead.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers.convolution import im2col_indices
    >>> from tinyml.layers.unpooling import col2im_no_dup
    >>> x = np.arange(16).reshape(1, 1, 4, 4)
    >>> bool((col2im_no_dup(im2col_indices(x), x.shape) == x).all())
    True
    """
    return columns_to_image(cols, x_shape, (field_height, field_width), padding, stride, add=False)
