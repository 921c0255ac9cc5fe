"""Upsampling. The derivation is on the page docs/upsampling.md."""

from collections.abc import Sequence
from typing import Literal

from tinyml.functional.interpolation import interpolate, interpolate_gradient, scaled, scales
from tinyml.layers.base import Dim
from tinyml.layers.spatial import SpatialLayer
from tinyml_backends.arguments import IntPerAxis, boolean, lengths, per_axis
from tinyml_backends.arrays import Array

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Upsample(SpatialLayer):
    """Enlarge or shrink images by a factor or to a size, in one to three spatial dimensions.

    Parameters
    ----------
    name : str
    input_dim : tuple of int
        Channels, and one to three spatial lengths.
    scale_factor : float or tuple of float, optional
        Of each spatial axis; lengths are rounded down.
    mode : "nearest" or "linear"
        Copies of each cell, or linear interpolation along each axis; "bilinear" and "trilinear"
        mean "linear".
    size : int or tuple of int, optional
        Spatial shape of the result, whatever the input's; instead of ``scale_factor``.
    align_corners : bool
        For "linear": whether the outer cells' centres, not their edges, stay in place.

    Raises
    ------
    ValueError
        If not exactly one of ``scale_factor`` and ``size`` is given, one of them leaves nothing,
        the mode is unknown, or ``align_corners`` is given for "nearest".

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Upsample
    >>> Upsample("up", (1, 1, 2), (1, 2))(np.array([[[[1.0, 3.0]]]]))
    array([[[[1., 1., 3., 3.]]]])
    >>> Upsample("up", (1, 1, 2), (1, 2), "linear")(np.array([[[[1.0, 3.0]]]]))
    array([[[[1. , 1.5, 2.5, 3. ]]]])
    >>> Upsample("up", (1, 1, 2), size=(2, 2))(np.array([[[[1.0, 3.0]]]]))
    array([[[[1., 3.],
             [1., 3.]]]])
    """

    def __init__(
        self,
        name: str,
        input_dim: Dim,
        scale_factor: float | Sequence[float] | None = None,
        mode: Literal["nearest", "linear", "bilinear", "trilinear"] = "nearest",
        *,
        size: IntPerAxis | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__(name)
        dim = lengths(f"{self!r}: input_dim", input_dim[1:], None)
        self.axes = axes = len(dim)  # type: ignore[misc]
        if (size is None) == (scale_factor is None):
            raise ValueError(f"{self!r}: exactly one of scale_factor and size must be given")
        self.scale_factor: tuple[float, ...] | None = None
        self.size: tuple[int, ...] | None = None
        if scale_factor is not None:
            self.scale_factor = scales(f"{self!r}: scale_factor", scale_factor, axes)
        if size is not None:
            self.size = per_axis(f"{self!r}: size", size, axes, 1)
        linear = _LINEAR[axes]
        if mode not in ("nearest", "linear", linear):
            raise ValueError(
                f"{self!r}: mode is {mode!r}; for {axes} spatial axes it must be 'nearest' or "
                f"'linear'"
            )
        self.mode = "nearest" if mode == "nearest" else linear
        align_corners = boolean(f"{self!r}: align_corners", align_corners)
        if align_corners and mode == "nearest":
            raise ValueError(f"{self!r}: align_corners is True; it is for mode='linear'")
        self.align_corners = None if mode == "nearest" else align_corners
        self.set_dims(input_dim)

    def output_of(self, dim: Dim) -> Dim:
        """The channels, and the lengths of the result."""
        return dim[0], *(self.size or scaled(dim[1:], self.scale_factor or ()))

    def forward(self, input: Array) -> Array:
        """Resize ``input`` (samples, channels, …); the result has its floating dtype."""
        self.check_input(input)
        y = interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners)
        self.saved = tuple(input.shape)
        self.num_of_entries = len(input)
        return y

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input."""
        shape = self.saved_by_forward()
        self.check("gradient", in_gradient, (*shape[:1], *self.output_of(shape[1:])))
        options = self.size, self.scale_factor, self.mode, self.align_corners
        return interpolate_gradient(in_gradient, shape, *options)
