"""Networks whose layers run one after another."""

from collections.abc import Iterable

from tinyml.graph import Graph
from tinyml.layers.base import Dim, Layer
from tinyml.layers.shape import Reshape


class Sequential(Graph):
    """A network whose layers run one after another; it is a layer itself.

    Parameters
    ----------
    layers : iterable of Layer
        In the order of the forward pass.
    name : str

    Attributes
    ----------
    layers : tuple of Layer

    Raises
    ------
    TypeError
        If ``layers`` is no list of layers.
    ValueError
        If there are no layers, two share a name, or one was built for another shape than it gets.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Conv2D, ReLU
    >>> from tinyml.net import Sequential
    >>> model = Sequential([Conv2D("conv", (1, 4, 4), 2, 3, padding=1, rng=0), ReLU("relu")])
    >>> model(np.ones((1, 1, 4, 4), np.float32)).shape
    (1, 2, 4, 4)
    >>> model.backward(np.ones((1, 2, 4, 4), np.float32)).shape
    (1, 1, 4, 4)
    """

    def __init__(self, layers: Iterable[Layer], *others: object, name: str = "model") -> None:
        if others or isinstance(layers, Layer) or not isinstance(layers, Iterable):
            given = "several arguments" if others else repr(layers)
            raise TypeError(
                f"layers is {given}; it must be one list of layers, Sequential([first, second])"
            )
        layers = list(layers)
        super().__init__(name, _input_dim(layers))
        if not layers:
            raise ValueError(f"{self!r}: layers is empty; there must be some")
        for layer in layers:
            self.add(layer)


def _input_dim(layers: list[Layer]) -> Dim | None:
    """Input shape of the first layer that has one; others, but Reshape, keep the shape."""
    for layer in layers:
        if isinstance(layer, Reshape):
            return None
        if hasattr(layer, "input_dim") or hasattr(layer, "out_dim"):
            return getattr(layer, "input_dim", None)
    return None
