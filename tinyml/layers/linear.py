"""The linear layer. The derivation is on the page docs/linear.md."""

import numpy as np

from tinyml.core.initial import constant, normal
from tinyml.core.parameter import Parameter
from tinyml.layers.base import Dim, Layer
from tinyml_backends import backend_for
from tinyml_backends.arguments import integer, lengths
from tinyml_backends.arrays import Array, as_floats, quiet, widened


class Linear(Layer):
    """Fully connected layer: ``x Wᵀ + b``.

    Parameters
    ----------
    name : str
    input_dim : int or (int,)
        Number of inputs.
    output_dim : int
        Number of outputs; kept as ``out_dim``, since `output_dim` is a method of layers.
    bias : bool
        Whether to add a learned number to each output.
    rng : int, numpy.random.Generator or None
        Source of the initial weights, as of `Conv2D`: normal with variance 2 / ``input_dim``.

    Attributes
    ----------
    weight : Parameter, (outputs, inputs)
    bias : Parameter, (outputs,), or None

    Raises
    ------
    ValueError
        If ``input_dim`` or ``output_dim`` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.layers import Linear
    >>> linear = Linear("linear", 2, 3, rng=0)
    >>> linear.weight.tensor[:] = [[1, 0], [0, 1], [1, 1]]
    >>> linear(np.array([[2, 5]], np.float32))
    array([[2., 5., 7.]], dtype=float32)
    """

    def __init__(
        self,
        name: str,
        input_dim: int | Dim,
        output_dim: int,
        *,
        bias: bool = True,
        rng: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(name)
        argument = f"{self!r}: input_dim"
        if isinstance(input_dim, tuple | list):
            if len(input_dim) > 1:
                raise ValueError(
                    f"{argument} is {input_dim}; it must be one int; Flatten makes it one axis"
                )
            self.input_dim = lengths(argument, input_dim, 1)
        else:
            self.input_dim = (integer(argument, input_dim, 1),)
        self.out_dim = (integer(f"{self!r}: output_dim", output_dim, 1),)
        shape = self.out_dim + self.input_dim
        self.weight = Parameter(normal(shape, (2 / self.input_dim[0]) ** 0.5, rng))
        self.bias = Parameter(constant(self.out_dim, 0)) if bias else None

    def output_dim(self, *dims: Dim) -> Dim:
        """``(outputs,)``; ValueError for an input of another dim than ``input_dim``."""
        if dims != (self.input_dim,):
            hint = "; Flatten makes it one axis" if len(dims) == 1 and len(dims[0]) > 1 else ""
            got = dims[0] if len(dims) == 1 else f"of {len(dims)} inputs"
            raise ValueError(
                f"{self!r}: the input's dim is {got}; it must be {self.input_dim}{hint}"
            )
        return self.out_dim

    def multiply_adds(self, *dims: Dim) -> int:
        """One for each weight."""
        return int(self.weight.tensor.size)

    @quiet
    def forward(self, input: Array) -> Array:
        """Outputs (samples, outputs) for ``input`` (samples, inputs)."""
        self.check("input", input, ("samples", *self.input_dim))
        x = as_floats(input)
        y = backend_for(x).xp.matmul(widened(x), self.weight.tensor.T)
        if self.bias is not None:
            y += self.bias.tensor
        self.saved = x
        return y.astype(x.dtype, copy=False)

    @quiet
    def backward(self, in_gradient: Array) -> Array:
        """Gradient with respect to the input; adds to the gradients of weight and bias."""
        x = self.saved_by_forward()
        self.check("gradient", in_gradient, (len(x), *self.out_dim))
        xp = backend_for(in_gradient, x).xp
        gradient = widened(as_floats(in_gradient))
        self.weight.gradient += xp.matmul(gradient.T, widened(x))
        if self.bias is not None:
            self.bias.gradient += gradient.sum(0)
        return self.reverse(in_gradient, "gradient")

    @quiet
    def reverse(self, signal: Array, rule: str) -> Array:
        """The gradient with respect to the input alone."""
        x = self.saved_by_forward()
        self.check("gradient", signal, (len(x), *self.out_dim))
        xp = backend_for(signal, x).xp
        found = xp.matmul(widened(as_floats(signal)), self.weight.tensor)
        return found.astype(x.dtype, copy=False)
