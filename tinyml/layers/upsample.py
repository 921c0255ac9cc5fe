"""Upsampling. The derivation is on the page docs/upsampling.md."""

from typing import Literal

from tinyml.functional.interpolation import interpolate, interpolate_gradient
from tinyml.layers.base import Dim
from tinyml.layers.spatial import SpatialLayer
from tinyml_backends.arguments import IntPerAxis, lengths, per_axis
from tinyml_backends.arrays import Array

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Upsample(SpatialLayer):
    """Enlarge images by a whole number of times, in one to three spatial dimensions.

    Parameters
    ----------
    name : str
    input_dim : tuple of int
        Channels, and one to three spatial lengths.
    factor : int or tuple of int
        Of each spatial axis.
    mode : "nearest" or "linear"
        Copies of each cell, or linear interpolation along each axis; "bilinear" and "trilinear"
        mean "linear".
    align_corners : bool
        For "linear": whether the outer cells' centres, not their edges, stay in place.

    Raises
    ------
    ValueError
        If the mode is unknown, or a factor is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Upsample
    >>> Upsample("up", (1, 1, 2), (1, 2))(np.array([[[[1.0, 3.0]]]]))
    array([[[[1., 1., 3., 3.]]]])
    >>> Upsample("up", (1, 1, 2), (1, 2), "linear")(np.array([[[[1.0, 3.0]]]]))
    array([[[[1. , 1.5, 2.5, 3. ]]]])
    """

    def __init__(
        self,
        name: str,
        input_dim: Dim,
        factor: IntPerAxis,
        mode: Literal["nearest", "linear", "bilinear", "trilinear"] = "nearest",
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__(name)
        dim = lengths("input_dim", input_dim[1:], None)
        self.axes = len(dim)  # type: ignore[misc]
        self.factor = per_axis(f"{self!r}: factor", factor, self.axes, 1)
        linear = _LINEAR[self.axes]
        if mode not in ("nearest", "linear", linear):
            raise ValueError(
                f"{self!r}: mode is {mode!r}; for {self.axes} spatial axes it must be 'nearest' or "
                f"'linear'"
            )
        self.mode = "nearest" if mode == "nearest" else linear
        self.align_corners = None if mode == "nearest" else align_corners
        self.set_dims(input_dim)

    def output_of(self, dim: Dim) -> Dim:
        """The channels, and the enlarged lengths."""
        return dim[0], *(n * f for n, f in zip(dim[1:], self.factor, strict=True))

    def forward(self, input: Array) -> Array:
        """Enlarge ``input`` (samples, channels, …); the result has its floating dtype."""
        self.check_input(input)
        shape = tuple(input.shape)
        size = self.output_of(shape[1:])[1:]
        y = interpolate(input, size, mode=self.mode, align_corners=self.align_corners)
        self.saved = shape
        self.num_of_entries = len(input)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input."""
        shape = self.saved_by_forward()
        size = self.output_of(shape[1:])[1:]
        self.check("gradient", in_gradient, (*shape[:2], *size))
        options = {"mode": self.mode, "align_corners": self.align_corners}
        return interpolate_gradient(in_gradient, shape, size, **options)  # type: ignore[arg-type]
