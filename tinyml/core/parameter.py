"""Arrays of a network: learned parameters, and buffers such as running statistics."""

from typing import Any

from tinyml.arrays import zeros_like
from tinyml.core.initial import is_without_memory
from tinyml_backends import Backend, owner_of
from tinyml_backends.arrays import Array


class Buffer:
    """An array that belongs to a network and moves with it, such as a running statistic.

    Attributes
    ----------
    tensor : array
        The values. Layers that share a buffer share this object, not only the array.
    """

    tensor: Array

    def __init__(self, tensor: Array) -> None:
        self.tensor = tensor

    def __repr__(self) -> str:
        place = owner_of(self.tensor).device(self.tensor)
        return f"{type(self).__name__}({tuple(self.tensor.shape)}, {self.tensor.dtype}, {place!r})"

    def to(self, backend: Backend) -> None:
        """Move to a backend's library; do nothing if the array is there already."""
        self.tensor = moved(self.tensor, backend)


class Parameter(Buffer):
    """An array that is learned.

    Attributes
    ----------
    tensor : array
        The values.
    gradient : array
        Sum of the gradients since `zero_gradient`, shaped like ``tensor``.
    state : dict
        What the optimizer that last updated this parameter keeps for it, such as its velocity.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.core import Parameter
    >>> weight = Parameter(np.ones(3))
    >>> weight.gradient += 2.0
    >>> weight.zero_gradient()
    >>> weight.gradient
    array([0., 0., 0.])
    """

    gradient: Array
    state: dict[str, Any]

    def __init__(self, tensor: Array) -> None:
        super().__init__(tensor)
        self.gradient = tensor if is_without_memory() else zeros_like(tensor)
        self.state = {}

    def zero_gradient(self) -> None:
        """Set the gradient to zero."""
        self.gradient.fill(0)

    def to(self, backend: Backend) -> None:
        """Move values, gradient and state to a backend's library."""
        super().to(backend)
        self.gradient = moved(self.gradient, backend)
        for key, value in self.state.items():
            self.state[key] = moved(value, backend) if hasattr(value, "dtype") else value


def moved(array: Array, backend: Backend) -> Array:
    """``array`` on the device where ``backend`` makes new arrays; the same object if there."""
    if backend.handles(array):
        return backend.asarray(array)
    return backend.asarray(owner_of(array).to_numpy(array))
