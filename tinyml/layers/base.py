"""What all layers share."""

from typing import Any, ClassVar, Self, TypeVar

from tinyml.arrays import check_shape, device_scope
from tinyml.core.parameter import Buffer, Parameter
from tinyml_backends import MixedBackendError, home_of
from tinyml_backends.arguments import lengths
from tinyml_backends.arrays import Array

T = TypeVar("T")


class Layer:
    """One step of a network: ``forward`` computes it, ``backward`` its gradient.

    A layer runs once in a forward pass; a second forward replaces what the first one saved.
    Parameter gradients accumulate until `zero_gradients`.

    Parameters
    ----------
    name : str
        What messages call the layer.

    Attributes
    ----------
    name : str
    type : str
        Name of the class.
    parameters : list of Parameter
        What is learned.
    buffers : list of Buffer
        What is remembered but not learned.
    training : bool
        Whether the layer behaves as in training; `train` and `eval` set it.
    input_dim, out_dim : tuple of int
        Shapes of one sample, channels first; set by `set_input`.
    """

    name: str
    type: str
    parameters: list[Parameter]
    buffers: list[Buffer]
    training: bool
    input_dim: tuple[int, ...]
    out_dim: tuple[int, ...]

    #: Attributes that forward sets for backward.
    saves: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = type(self).__name__
        self.parameters = []
        self.buffers = []
        self.training = True
        self.forget()

    def set_input(self, input_dim: tuple[int, ...]) -> None:
        """Prepare for samples of another shape; the parameters stay."""
        self.input_dim = self.out_dim = tuple(input_dim)

    def has_fixed_input(self) -> bool:
        """Whether the layer takes samples of one shape only."""
        return False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Output of the layer; a subclass defines it."""
        raise NotImplementedError(f"{self.type}.forward")

    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input, from the one with respect to the output."""
        raise NotImplementedError(f"{self.type}.backward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``forward`` of the same arguments, run on the device of the first."""
        with device_scope(args[0] if args else None):
            return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{self.type}({self.name!r})"

    def train(self, training: bool = True) -> Self:
        """Behave as in training."""
        self.training = training
        return self

    def eval(self) -> Self:
        """Behave as in use: batch norm, for example, takes its running statistics."""
        return self.train(False)

    def zero_gradients(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.zero_gradient()

    def forget(self) -> None:
        """Drop what forward saved for backward."""
        for attribute in self.saves:
            setattr(self, attribute, None)

    def saved(self, value: T | None) -> T:
        """What forward kept for backward; RuntimeError before a forward pass."""
        if value is None:
            raise RuntimeError(f"{self!r}: backward needs a forward pass before it")
        return value

    def check(self, name: str, array: Array, dimensions: tuple[int | str, ...]) -> None:
        """Refuse what is no array of shape (samples, *dimensions) where the parameters live."""
        place = device_of(array)
        if self.parameters and place != (home := device_of(self.parameters[0].tensor)):
            raise MixedBackendError(
                f"{self!r} lives on {home} and its {name} on {place}; move the {name}, "
                f"model(tinyml.asarray(x, {home!r})), or the model, model.to({place!r})"
            )
        check_shape(f"{self!r}: {name}", array, ("samples", *dimensions))


#: What messages and attributes call the spatial axes.
AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class SpatialLayer(Layer):
    """A layer whose samples have a fixed shape: channels, and one to three spatial axes.

    Attributes
    ----------
    axes : int
        Number of spatial axes.
    input_channel, input_height, input_width : int
        With ``input_depth`` in 3-D, and ``input_length`` alone in 1-D.
    out_height, out_width : int
        Likewise.
    num_of_entries : int
        Samples in the last forward pass.
    """

    axes: ClassVar[int] = 2
    num_of_entries: int = 0
    input_channel: int
    input_height: int
    input_width: int
    out_height: int
    out_width: int

    def set_input(self, input_dim: tuple[int, ...]) -> None:
        """Prepare for samples of another size; the parameters stay."""
        dim = lengths("input_dim", input_dim, self.axes + 1)
        out_dim = self.output_dim(dim)  # may refuse; then nothing changes
        self.input_dim = dim
        self.input_channel = dim[0]
        for name, length in zip(AXIS_NAMES[self.axes], dim[1:], strict=True):
            setattr(self, f"input_{name}", length)
        self.set_out(out_dim)

    def has_fixed_input(self) -> bool:
        """Return True: the shape is given when the layer is built."""
        return True

    def set_out(self, out_dim: tuple[int, ...]) -> None:
        """Note the output's shape."""
        self.out_dim = out_dim
        for name, length in zip(AXIS_NAMES[self.axes], out_dim[1:], strict=True):
            setattr(self, f"out_{name}", length)

    def output_dim(self, input_dim: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output for an input of another shape."""
        return input_dim

    def check_gradient(self, in_gradient: Array) -> None:
        """Refuse a gradient that has not the shape of the last output."""
        self.check("gradient", in_gradient, self.out_dim)
        check_shape(f"{self!r}: gradient", in_gradient, (self.num_of_entries, *self.out_dim))


def device_of(array: Array) -> str:
    """Where an array lives, for example "numpy" or "cupy:0"."""
    return home_of(array).device(array)
