"""Max-unpooling layers. The mathematics is on the page docs/max_unpooling.md."""

from dataclasses import replace
from math import prod
from typing import ClassVar

from tinyml.layers.base import SpatialLayer
from tinyml.layers.convolution import columns_to_image
from tinyml.layers.pooling import MaxPool2D
from tinyml.pooling.max import max_unpool, max_unpool_gradient
from tinyml.pooling.switches import Switches
from tinyml_backends import Window, backend_for
from tinyml_backends.arguments import IntPerAxis, PaddingPerAxis
from tinyml_backends.arrays import Array


class MaxUnpool2D(SpatialLayer):
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
    pool : MaxPool2D or None
        The pooling layer whose switches drive this one when ``forward`` is given none, as in a
        network.

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
        If the padding leaves nothing of the output, or ``pool`` has another window or size.

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

    saves = ("switches",)
    switches: Switches | None

    def __init__(
        self,
        name: str,
        input_dim: tuple[int, ...],
        size: IntPerAxis,
        stride: IntPerAxis,
        *,
        padding: PaddingPerAxis = 0,
        dilation: IntPerAxis = 1,
        pool: MaxPool2D | None = None,
    ) -> None:
        super().__init__(name)
        self.size = size
        self.stride = stride
        self.pool = pool
        self.window = Window.of(self.axes, size, stride, padding, dilation)
        if pool is not None:
            self._check_window(pool.window, f"pool {pool!r} has")
        self.set_input(input_dim)

    def output_dim(self, input_dim: tuple[int, ...]) -> tuple[int, ...]:
        """Channels, and spatial shape of the array before pooling, if nothing was left over."""
        if self.pool is None:
            spatial = self.window.unpooled_shape(input_dim[1:])
            self.window.pooled_shape(spatial)  # refuses windows of padding alone
            return input_dim[0], *spatial
        if input_dim != self.pool.out_dim:
            raise ValueError(
                f"{self!r}: input_dim is {input_dim}; its {self.pool!r} pools to "
                f"{self.pool.out_dim}"
            )
        return self.pool.input_dim

    def forward(self, input: Array, max_indices: Array | Switches | None = None) -> Array:
        """Unpool ``input`` (samples, channels, height, width).

        ``max_indices`` are a pooling layer's `Switches`, or integers, each the row-major number of
        the maximum inside its window, in any shape with as many elements as ``input``. None takes
        those of the last forward pass of ``pool``.
        """
        self.check("input", input, self.input_dim)
        if max_indices is None:
            max_indices = self._switches_of_pool()
        if isinstance(max_indices, Switches):
            self._check_window(max_indices.window, "max_indices are switches of")
            if max_indices.layout != "channels_first":
                raise ValueError(
                    f"{self!r}: max_indices are switches of {max_indices.layout}; this layer is "
                    "channels_first"
                )
            switches = max_indices
        else:
            switches = self._from_indices(input, max_indices)
        out = max_unpool(input, switches)
        self.switches = switches
        self.set_out((self.input_channel, *switches.input_shape))
        self.num_of_entries = len(input)
        return out

    def backward(self, in_gradient: Array) -> Array:
        """Take each value's gradient from the cell it was put in."""
        return max_unpool_gradient(in_gradient, self.saved(self.switches))

    def _switches_of_pool(self) -> Switches:
        if self.pool is None:
            raise TypeError(
                f"{self!r}: max_indices are missing; pass indices or switches, or tie the layer "
                "to its pooling layer with pool="
            )
        if self.pool.switches is None:
            raise RuntimeError(f"{self!r}: its {self.pool!r} needs a forward pass before it")
        return self.pool.switches

    def _check_window(self, theirs: Window, whose: str) -> None:
        # How the pooling rounded its output's size does not matter here.
        if replace(theirs, ceil_mode=False) != self.window:
            raise ValueError(
                f"{self!r}: {whose} a window of {theirs}; this layer's is of {self.window}"
            )

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
            input_shape=self.window.unpooled_shape(self.input_dim[1:]),
        )


class MaxUnpool1D(MaxUnpool2D):
    """`MaxUnpool2D` for (channels, length)."""

    axes: ClassVar[int] = 1


class MaxUnpool3D(MaxUnpool2D):
    """`MaxUnpool2D` for (channels, depth, height, width)."""

    axes: ClassVar[int] = 3


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
