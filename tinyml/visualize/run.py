"""A pass through a network, and back, that leaves the network as it is."""

import copy
from typing import Any

from tinyml.arrays import zeros_like
from tinyml.core.parameter import Buffer, Parameter
from tinyml.flat import Flat
from tinyml.graph import accumulate
from tinyml.layers.base import REPLICA, Layer, scope_of
from tinyml_backends import owner_of
from tinyml_backends.arrays import Array

RULES = ("deconvnet", "gradient", "guided", "desalinet")


class Constant(Parameter):
    """A Parameter with the values of another one, which forgets every gradient."""

    def __init__(self, tensor: Array) -> None:
        Buffer.__init__(self, tensor)
        self.state = {}

    @property
    def gradient(self) -> Array:
        """Zeros."""
        return zeros_like(self.tensor)

    @gradient.setter
    def gradient(self, value: Array) -> None: ...


class Run:
    """Passes through a copy of a network, in eval mode, layer by layer.

    The copy shares the values of the parameters and has its own of everything else. So nothing of
    the network changes: no gradient, no statistics, no random generator, and nothing of what a
    training has saved between a forward and a backward pass.

    Parameters
    ----------
    model : Layer
        Takes one input.

    Attributes
    ----------
    flat : Flat
        The layers of the copy; their names and nodes are the model's.
    shapes : dict of int to tuple of int
        Shape of each node's value in the last forward pass, samples included.

    Raises
    ------
    ValueError
        If the model takes several inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyml.models import lenet
    >>> from tinyml.visualize.run import Run
    >>> run = Run(lenet((1, 8, 8), 3))
    >>> x, node = np.ones((1, 1, 8, 8), np.float32), run.node("pool1")
    >>> y = run.forward(x, node)[node]
    >>> run.reverse(y, node, "deconvnet").shape
    (1, 1, 8, 8)
    """

    def __init__(self, model: Layer) -> None:
        self._original = Flat(model)
        if self._original.inputs != 1:
            raise ValueError(
                f"model is {model!r}, which takes {self._original.inputs} inputs; it must take one"
            )
        memo: dict[Any, Any] = {REPLICA: True}
        for buffer in model.buffers:
            memo[id(buffer)] = Buffer(buffer.tensor.copy())
        for parameter in model.parameters:
            memo[id(parameter)] = Constant(parameter.tensor)
        self.flat = Flat(copy.deepcopy(model, memo).eval())
        self.shapes: dict[int, tuple[int, ...]] = {}

    def node(self, layer: str | Layer) -> int:
        """Number of the node that is the output of a layer of the model; errors as of `Flat`."""
        return self.flat.nodes[self._original.name_of(layer)]

    def forward(self, x: Array, *nodes: int) -> dict[int, Array]:
        """Values of some nodes; layers that none of them depends on do not run."""
        last_reader: dict[int, int] = {}
        steps = self.flat.leading_to(*nodes)
        for step in steps:
            last_reader.update(dict.fromkeys(step.inputs, step.output))
        values: dict[int, Any] = {0: x}
        self.shapes = {0: tuple(x.shape)}
        for step in steps:
            value = values[step.output] = step.layer(*(values[i] for i in step.inputs))
            self.shapes[step.output] = tuple(value.shape)
            for i in step.inputs:
                if last_reader[i] == step.output and i not in nodes:
                    values.pop(i, None)
        return {node: values[node] for node in nodes}

    def reverse(self, signal: Array, start: int, rule: str, stop: int = 0) -> Array:
        """Signal at node ``stop``, by default the input, for a signal at node ``start``.

        A forward pass that ran both must come before it.
        """
        signals: dict[int, Array] = {start: signal}
        with scope_of(signal):
            for layer, inputs, output in reversed(self.flat.leading_to(start)):
                if output <= stop:
                    break
                if output in signals:
                    given = layer.reverse(signals.pop(output), rule)
                    accumulate(signals, inputs, layer, given)
        return signals[stop]

    def check_reversible(self, node: int, rule: str) -> None:
        """Raise ValueError for a layer before ``node`` that cannot be reversed by a rule."""
        if rule not in RULES:
            raise ValueError(f"rule is {rule!r}; it must be one of {', '.join(RULES)}")
        for layer, _, _ in self.flat.leading_to(node):
            kind = type(layer)
            if kind.reverse is not Layer.reverse:
                continue
            if kind.backward is Layer.backward:
                raise ValueError(f"{layer!r} has no backward, so that it cannot be reversed")
            inside = (other for other in layer.walk() if other is not layer)
            if rule != "gradient" and any(getattr(other, "rectifies", False) for other in inside):
                raise ValueError(
                    f"{layer!r} has rectifiers inside of it, whose rule {rule!r} its backward does "
                    "not know; define reverse(signal, rule) in its class, or use rule='gradient'"
                )


def check_image(model: Layer, x: Array) -> None:
    """Raise TypeError for an input that is no array of floats."""
    owner_of(x)  # its error names the argument
    if x.dtype.kind != "f":
        raise TypeError(
            f"x has dtype {x.dtype}; it must hold floats, scaled as {model!r} was trained with"
        )
