"""Max-unpooling layers. The mathematics is on the page docs/max_unpooling.md."""

from dataclasses import replace
from math import prod
from typing import ClassVar

from tinyml.layers.base import Dim, Tie
from tinyml.layers.im2col import columns_to_image
from tinyml.layers.pooling import MaxPool2D, pooled_dims
from tinyml.layers.spatial import SpatialLayer
from tinyml.pooling import Switches, max_unpool, max_unpool_gradient
from tinyml_backends import Convention, Window, backend_for
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
        The pooling layer whose switches ``forward`` takes when it is given none, as in a network.
        It is a reference, not a child.

    Attributes
    ----------
    out_height, out_width : int
        ``(input − 1) · stride + size`` for windows without padding and dilation, or the size of the
        input of ``pool``. A forward pass sets them to the size of its result. Switches store that
        size, so that odd sizes are restored.
    out_dim : (int, int, int)
    num_of_entries : int
        Samples in the last forward pass.

    Raises
    ------
    ValueError
        If the padding leaves no output, a window would hold only padding, or ``pool`` has another
        window or size.

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

    saved: Switches | None
    tie: Tie[MaxPool2D] | None

    def __init__(
        self,
        name: str,
        input_dim: Dim,
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
        self.window = Window.of(self.axes, size, stride, padding, dilation)
        self.tie = None if pool is None else Tie(pool)
        self.set_dims(input_dim)
        if pool is not None:
            self._check_window(f"pool {pool!r} has", pool.window)
            if self.input_dim != pool.out_dim:
                raise ValueError(
                    f"{self!r}: input_dim is {self.input_dim}; its {pool!r} pools to {pool.out_dim}"
                )
            self.set_out_dim(pool.input_dim)

    @property
    def pool(self) -> MaxPool2D | None:
        """The pooling layer that this one is tied to."""
        return None if self.tie is None else self.tie.layer

    @property
    def switches(self) -> Switches | None:
        """The switches of the last forward pass."""
        return self.saved

    def output_of(self, dim: Dim) -> Dim:
        """Channels, and spatial shape of the array before pooling.

        That is the shape of the input of ``pool``. Without one it is the smallest shape that pools
        to ``dim``.
        """
        pool = self.pool
        if pool is not None:
            before = (pooled_dims.get() or {}).get(pool, pool.input_dim)
            if dim == pool.output_of(before):
                return before
        spatial = self.window.unpooled_shape(dim[1:])
        self.window.pooled_shape(spatial)  # raises ValueError if a window holds only padding
        return dim[0], *spatial

    def forward(self, input: Array, max_indices: Array | Switches | None = None) -> Array:
        """Unpool ``input`` (samples, channels, height, width).

        ``max_indices`` are a pooling layer's `Switches`, or integers, each the row-major number of
        the maximum inside its window, in any shape with as many elements as ``input``. None takes
        those of the last forward pass of ``pool``.
        """
        self.check_channels(input)
        switches = self._switches(input, max_indices)
        out = max_unpool(input, switches)
        self.saved = switches
        self.set_out_dim((self.input_channel, *switches.input_shape))
        self.num_of_entries = len(input)
        return out

    def backward(self, in_gradient: Array) -> Array:
        """Take each value's gradient from the cell that it was put into."""
        return max_unpool_gradient(in_gradient, self.saved_by_forward())

    def _switches(self, x: Array, max_indices: Array | Switches | None) -> Switches:
        if max_indices is None:
            max_indices = self._switches_of_pool()
        if not isinstance(max_indices, Switches):
            return self._from_indices(x, max_indices)
        self._check_window("max_indices are switches of", max_indices.window)
        if max_indices.layout != "channels_first":
            raise ValueError(
                f"{self!r}: max_indices are switches of {max_indices.layout}; this layer is "
                "channels_first"
            )
        return max_indices

    def _switches_of_pool(self) -> Switches:
        if self.pool is None:
            raise TypeError(
                f"{self!r}: max_indices are missing; pass indices or switches, or tie the layer "
                "to its pooling layer with pool="
            )
        if self.pool.switches is None:
            raise RuntimeError(f"{self!r}: its {self.pool!r} needs a forward pass before it")
        return self.pool.switches

    def _check_window(self, subject: str, given: Window) -> None:
        # unpooling does not depend on ceil_mode
        if replace(given, ceil_mode=False) != self.window:
            raise ValueError(
                f"{self!r}: {subject} a window of {given}; this layer's is of {self.window}"
            )

    def _from_indices(self, x: Array, indices: Array) -> Switches:
        backend_for(x, indices)
        if indices.size != x.size:
            raise ValueError(
                f"{self!r}: max_indices have {indices.size} elements {tuple(indices.shape)}; "
                f"the input {tuple(x.shape)} needs {prod(x.shape)}"
            )
        input_shape = self.window.unpooled_shape(x.shape[2:])
        indices = indices.reshape(x.shape)
        return Switches.from_indices(indices, Convention("window"), self.window, input_shape)


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
