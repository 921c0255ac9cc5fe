"""What all layers share."""

from typing import Any, TypeVar

from tinyml.arrays import check_shape
from tinyml_backends import backend_for
from tinyml_backends.arrays import Array

T = TypeVar("T")


class Layer:
    """One step of a network: ``forward`` computes it, ``backward`` its gradient.

    Parameters
    ----------
    name : str
        What messages call the layer.

    Attributes
    ----------
    name : str
    type : str
        Name of the class.
    """

    name: str
    type: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = type(self).__name__

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Output of the layer; a subclass defines it."""
        raise NotImplementedError(f"{self.type}.forward")

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input, from the one with respect to the output."""
        raise NotImplementedError(f"{self.type}.backward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``forward`` of the same arguments."""
        return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{self.type}({self.name!r})"

    def check(self, name: str, array: Array, dimensions: tuple[int, ...]) -> None:
        """Refuse what is no array of shape (samples, *dimensions)."""
        backend_for(array)
        check_shape(f"{self!r}: {name}", array, ("samples", *dimensions))

    def saved(self, value: T | None) -> T:
        """What forward kept for backward; RuntimeError before a forward pass."""
        if value is None:
            raise RuntimeError(f"{self!r}: backward needs a forward pass before it")
        return value
